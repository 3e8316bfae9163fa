#!/usr/bin/env bash
# Sec. 4.2: AudioGen-base on DiffSound's data only, AudioSet and AudioCaps (the paper: FAD 4.39, KL 2.46).
#
#   recipes/sweeps/datasets.sh MANIFESTS CODEC OUT      → OUT/<datasets>/eval/results.json
#
# DATASETS (audioset,audiocaps): which sets to train on, several such lists apart by blanks; COPIES (1): mixed copies;
# SIZE (base): the recipe. See common.sh.
source "$(dirname "$0")/common.sh"
manifests=${1:?} codec=${2:?} out=${3:?}

for datasets in ${DATASETS:-audioset,audiocaps}; do
    run=$out/${datasets//,/-}
    tokenize "$manifests" "$codec" "$run/tokens" "${COPIES:-1}" --datasets "$datasets"
    stage train-lm --config "$recipes/lm-${SIZE:-base}.yaml" --tokens "$run/tokens" --out "$run/lm" "${lm_options[@]}"
    score "$manifests" "$run/lm" "$run/eval"
done
