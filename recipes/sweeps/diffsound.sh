#!/usr/bin/env bash
# Table 1's comparison: the paper's decoder and its baseline on the same data, codec, text encoder and steps.
#
#   recipes/sweeps/diffsound.sh MANIFESTS CODEC OUT    → OUT/table.md, of OUT/{autoregressive,<schedule>-<passes>}/…
#
# RECIPES (lm-base diffsound-x128; lm-tiny diffsound-tiny on a CPU): the two to train. SCHEDULES (mask_uniform mask uniform): of
# the diffusion. PASSES (10 25 50 100): through the first of them; the others go through as many as the last of these. BATCHES
# (1 8): sounds decoded at once when speed is measured. EVAL_OPTIONS="--metrics fad,kl,class-hits" with ESC-50. PYTHON (python).
# See common.sh.
source "$(dirname "$0")/common.sh"
manifests=${1:?} codec=${2:?} out=${3:?}
words pair "${RECIPES:-lm-base diffsound-x128}"
words schedules "${SCHEDULES:-mask_uniform mask uniform}"
words passes "${PASSES:-10 25 50 100}"

# measure NAME MODEL [PASSES]: what it makes, and how fast
measure() {
    mkdir -p "$out/$1"
    score "$manifests" "$2" "$out/$1/eval" ${3:+--passes "$3"}
    for batch in ${BATCHES:-1 8}; do
        speed "$out/$1/speed-$batch.json" --model "$2" --batch-size "$batch" ${3:+--steps "$3"}
    done
}

tokenize "$manifests" "$codec" "$out/tokens" "${COPIES:-1}"
stage train-lm --config "$recipes/${pair[0]}.yaml" --tokens "$out/tokens" --out "$out/autoregressive/lm" \
    "${lm_options[@]}"
measure autoregressive "$out/autoregressive/lm"
for schedule in "${schedules[@]}"; do
    stage train-lm --config "$recipes/${pair[1]}.yaml" --tokens "$out/tokens" --out "$out/$schedule/lm" \
        "${lm_options[@]}" --set model.diffusion.schedule="$schedule"
    for n in "${passes[@]}"; do
        [ "$schedule" = "${schedules[0]}" ] || [ "$n" = "${passes[${#passes[@]} - 1]}" ] || continue
        measure "$schedule-$n" "$out/$schedule/lm" "$n"
    done
done
"${PYTHON:-python}" "$recipes/sweeps/diffsound_table.py" "$out" >"$out/table.md"
