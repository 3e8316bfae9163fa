#!/usr/bin/env bash
# Table 1, AudioGen-base with and without the mixing augmentation.
#
#   recipes/sweeps/mixing.sh MANIFESTS CODEC OUT        → OUT/mix-<copies>/eval/results.json
#
# COPIES (0 1): mixed copies of a clip beside it; SIZE (base): the recipe. See common.sh.
source "$(dirname "$0")/common.sh"
manifests=${1:?} codec=${2:?} out=${3:?}

for copies in ${COPIES:-0 1}; do
    run=$out/mix-$copies
    tokenize "$manifests" "$codec" "$run/tokens" "$copies"
    stage train-lm --config "$recipes/lm-${SIZE:-base}.yaml" --tokens "$run/tokens" --out "$run/lm" "${lm_options[@]}"
    score "$manifests" "$run/lm" "$run/eval"
done
