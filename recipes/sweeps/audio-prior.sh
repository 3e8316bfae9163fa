#!/usr/bin/env bash
# Sec. 4.2: a language model that learns an audio prior first, without any text, and then texts ("we did not observe a
# gain"), beside one that learns texts from the start.
#
#   recipes/sweeps/audio-prior.sh MANIFESTS TOKENS OUT  → OUT/{pretrained,plain}/eval/results.json
#
# SIZE (base): the recipe; PRIOR_OPTIONS: further flags of the training without text. See common.sh.
source "$(dirname "$0")/common.sh"
manifests=${1:?} tokens=${2:?} out=${3:?}
words prior_options "${PRIOR_OPTIONS:-}"
train=(train-lm --config "$recipes/lm-${SIZE:-base}.yaml" --tokens "$tokens")

stage "${train[@]}" --out "$out/prior" "${lm_options[@]}" "${prior_options[@]}" --set text_dropout=1 --set probe_samples=0
stage "${train[@]}" --from "$out/prior" --out "$out/pretrained/lm" "${lm_options[@]}"
stage "${train[@]}" --out "$out/plain/lm" "${lm_options[@]}"
for run in pretrained plain; do
    score "$manifests" "$out/$run/lm" "$out/$run/eval"
done
