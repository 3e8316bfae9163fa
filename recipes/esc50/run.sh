#!/usr/bin/env bash
# From raw ESC-50 recordings to the embedded model, on a CPU or a GPU.
#
#   recipes/esc50/run.sh RAW OUT          the whole recipe; run again, it goes on where it stopped
#   recipes/esc50/run.sh RAW OUT small    40 clips and a few steps of everything, to see the road work
#
# RAW holds esc50/ (ESC-50 as published, or its audio as FLAC); OUT receives every stage's files.
set -euo pipefail
raw=$1 out=$2 setting=${3:-full}
here=$(cd "$(dirname "$0")" && pwd)
codec_options=() lm_options=()

if [ "$setting" = small ]; then
    source=$raw/esc50
    raw=$out/raw
    mkdir -p "$raw/esc50/meta"
    ln -sfn "$(cd "$source/audio" && pwd)" "$raw/esc50/audio"
    # Every 40th row: all folds, many classes.
    awk 'NR == 1 || NR % 40 == 2' "$source/meta/esc50.csv" >"$raw/esc50/meta/esc50.csv"
    codec_options=(--max-steps 30 --set batch_size=8 --set validate_every=30 --set save_every=15)
    lm_options=(--max-steps 30 --set optim.batch_size=8 --set validate_every=30 --set save_every=15)
fi

stage() { printf '\n== audiogen %s\n' "$*" >&2; audiogen "$@"; }

stage prep --datasets esc50 --raw "$raw" --captions "$here/captions.csv" --out "$out/manifests"
stage train-codec --config "$here/codec.yaml" --manifests "$out/manifests" --out "$out/codec" "${codec_options[@]}"
stage tokenize --manifests "$out/manifests" --codec "$out/codec" --mix 1 --out "$out/tokens"
stage train-lm --config "$here/lm.yaml" --tokens "$out/tokens" --out "$out/lm" "${lm_options[@]}"
stage generate "a dog barks" --model "$out/lm" --seed 0 -o "$out/dog.wav"
stage info "$out/lm"
