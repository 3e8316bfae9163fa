#!/usr/bin/env bash
# Table 5: text encoder × language model size.
#
#   recipes/sweeps/text-encoders.sh MANIFESTS TOKENS OUT → OUT/<encoder>-<size>/eval/results.json
#
# ENCODERS (t5-base t5-large): names or folders of T5 encoders, or lookup: a table of words that the model learns (sec.
# 3.2: as good as T5 on words that it knows). SIZES (base large): recipes. See common.sh.
source "$(dirname "$0")/common.sh"
manifests=${1:?} tokens=${2:?} out=${3:?}

for encoder in ${ENCODERS:-t5-base t5-large}; do
    for size in ${SIZES:-base large}; do
        run=$out/$(basename "$encoder")-$size
        text=(--set text.kind=t5 --set text.name="$encoder")
        [ "$encoder" != lookup ] || text=(--set text.kind=lookup --set text.name=null)
        stage train-lm --config "$recipes/lm-$size.yaml" --tokens "$tokens" --out "$run/lm" "${lm_options[@]}" "${text[@]}"
        score "$manifests" "$run/lm" "$run/eval"
    done
done
