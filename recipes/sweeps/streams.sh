#!/usr/bin/env bash
# Table 2: one, two and four streams: what the codec loses, what the language model makes of them, and how fast it is.
#
#   recipes/sweeps/streams.sh MANIFESTS OUT             → OUT/<codec>/{codec,lm}-eval/results.json, OUT/<codec>/speed.json
#
# CODECS (x32 x64 x128), SIZE (base): recipes to run. The speed-up of a codec is its `tokens_per_s` over x32's times the
# ratio of their tokens for a second of sound; `real_time_factor` says it in one number. See common.sh.
source "$(dirname "$0")/common.sh"
manifests=${1:?} out=${2:?}

for codec in ${CODECS:-x32 x64 x128}; do
    run=$out/$codec
    stage train-codec --config "$recipes/codec-$codec.yaml" --manifests "$manifests" --out "$run/codec" "${codec_options[@]}"
    score "$manifests" "$run/codec" "$run/codec-eval" --task codec
    tokenize "$manifests" "$run/codec" "$run/tokens" 1
    stage train-lm --config "$recipes/lm-${SIZE:-base}.yaml" --tokens "$run/tokens" --out "$run/lm" "${lm_options[@]}"
    score "$manifests" "$run/lm" "$run/lm-eval"
    speed "$run/speed.json" --model "$run/lm"
done
