#!/usr/bin/env bash
# Table 1's comparison: the paper's decoder and its baseline on the same data, codec, text encoder and steps.
#
#   recipes/sweeps/diffsound.sh MANIFESTS CODEC OUT    → OUT/{autoregressive,<schedule>}-eval*/results.json
#
# RECIPES (lm-base diffsound-x128; lm-tiny diffsound-tiny on a CPU): the two to train. SCHEDULES (mask_uniform): of the
# diffusion, also mask and uniform. PASSES (10 25 50 100): through the diffusion model. See common.sh.
source "$(dirname "$0")/common.sh"
manifests=$1 codec=$2 out=$3
read -r autoregressive diffusion <<<"${RECIPES:-lm-base diffsound-x128}"

stage tokenize --manifests "$manifests" --codec "$codec" --mix "${COPIES:-1}" --out "$out/tokens"
stage train-lm --config "$recipes/$autoregressive.yaml" --tokens "$out/tokens" --out "$out/autoregressive" \
    "${lm_options[@]}"
score "$manifests" "$out/autoregressive" "$out/autoregressive-eval"
for schedule in ${SCHEDULES:-mask_uniform}; do
    stage train-lm --config "$recipes/$diffusion.yaml" --tokens "$out/tokens" --out "$out/$schedule" \
        --set model.diffusion.schedule="$schedule" "${lm_options[@]}"
    for passes in ${PASSES:-10 25 50 100}; do
        score "$manifests" "$out/$schedule" "$out/$schedule-eval-$passes" --passes "$passes"
    done
done
