#!/usr/bin/env bash
# From raw ESC-50 recordings to the embedded model, on a CPU or a GPU.
#
#   recipes/esc50/run.sh RAW OUT          the whole recipe; run again, it goes on where it stopped
#   recipes/esc50/run.sh RAW OUT small    40 clips and STEPS (30) steps of each training, to see the road work
#
# Without a GPU the codec's flow gets smaller steps, which take two hours, and is worse for it (see README.md).
# PROCESSES=2 trains the language model in two processes: on a CPU of two cores that takes half the time.
# RAW holds esc50/ (ESC-50 as published, or its audio as FLAC); OUT receives every stage's files.
source "$(dirname "$0")/../sweeps/common.sh"
raw=${1:?} out=${2:?} setting=${3:-full} steps=${STEPS:-30}
here=$(cd "$(dirname "$0")" && pwd)
codec_options=() flow_options=() lm_options=()
if ! "${PYTHON:-python}" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    flow_options=(--max-steps 10000 --set batch_size=8 --set workers=0)
fi

if [ "$setting" = small ]; then
    source=$raw/esc50
    raw=$out/raw
    mkdir -p "$raw/esc50/meta"
    ln -sfn "$(cd "$source/audio" && pwd)" "$raw/esc50/audio"
    # 40 rows spread over the list: all folds, many classes.
    awk -v rows="$(($(wc -l <"$source/meta/esc50.csv") - 1))" \
        'BEGIN { stride = rows > 40 ? int(rows / 40) : 1 } NR == 1 || (NR - 2) % stride == 0' \
        "$source/meta/esc50.csv" >"$raw/esc50/meta/esc50.csv"
    codec_options=(--max-steps "$steps" --set batch_size=8 --set validate_every="$steps" --set save_every="$steps"
        --set crop_seconds=1.6 --set pca_crops=64
        --set quantizer.kmeans_vectors=0.25)
    flow_options=(--max-steps "$steps" --set batch_size=2 --set crop_seconds=0.64 --set validate_every="$steps"
        --set save_every="$steps" --set workers=0)
    lm_options=(--max-steps "$steps" --set optim.batch_size=8 --set validate_every="$steps" --set save_every="$steps"
        --set validate_samples=8 --set probe_samples=64)
fi

stage prep --datasets esc50 --raw "$raw" --captions "$here/captions.csv" --out "$out/manifests"
stage train-codec --config "$here/codec.yaml" --manifests "$out/manifests" --out "$out/codec" "${codec_options[@]}"
stage train-codec --config "$here/flow.yaml" --manifests "$out/manifests" --from "$out/codec" --out "$out/codec-flow" \
    "${flow_options[@]}"
tokenize=(tokenize --manifests "$out/manifests" --codec "$out/codec-flow" --mix 6 --copies 10 --vary 0.08)
partial "$out/tokens-filled/meta.json" "${tokenize[@]}" --fill 1 --out "$out/tokens-filled"
partial "$out/tokens/meta.json" "${tokenize[@]}" --out "$out/tokens"
stage train-lm --config "$here/lm.yaml" --tokens "$out/tokens-filled" --out "$out/lm" --processes "${PROCESSES:-1}" \
    "${lm_options[@]}"
refine=(train-lm --config "$here/refine.yaml" --tokens "$out/tokens" --processes "${PROCESSES:-1}" "${lm_options[@]}")
stage "${refine[@]}" --from "$out/lm" --out "$out/lm-refined-once"
stage "${refine[@]}" --from "$out/lm-refined-once" --out "$out/lm-refined" --set seed=8
stage generate "a dog barks" --model "$out/lm-refined" --seed 0 -o "$out/dog.wav"
stage info "$out/lm-refined"
