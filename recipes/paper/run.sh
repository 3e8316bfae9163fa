#!/usr/bin/env bash
# The paper's experiments on your data, with the project's own commands, and a table of the results beside the paper's.
#
#   recipes/paper/run.sh RAW OUT           a miniature: narrow networks, a night on two cores
#   FULL=1 recipes/paper/run.sh RAW OUT    the paper's sizes; LM_OPTIONS and CODEC_OPTIONS say on how many GPUs
#
# RAW holds the folders of DATASETS (esc50), as `audiogen prep` reads them. Run again, it goes on where it stopped.
# SPLIT (esc50-val), LIMIT (100): which clips to score, and how many. CODEC_STEPS (4000), LM_STEPS (4000): steps of each
# training of the miniature. OUT/table.md holds the result; report.html in OUT/streams, OUT/guidance, OUT/mixing and
# OUT/continuation all numbers.
set -eo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sweeps=$here/../sweeps
raw=${1:?} out=${2:?}
export SPLIT=${SPLIT:-esc50-val} LIMIT=${LIMIT:-100} GUIDANCES=${GUIDANCES:-1 2 3 4}

if [ -z "${FULL:-}" ]; then
    # Narrower and shorter than the paper's, but with its parts, losses and down-sampling factors. Why weight norm, filled
    # clips and these weights of the losses: see codec-small.yaml.
    codec_steps=${CODEC_STEPS:-4000}
    export CODEC_OPTIONS="--max-steps $codec_steps --set adversary_start=$((codec_steps * 3 / 4)) \
--set codec.network.channels=8 --set codec.network.norm=weight --set discriminator.channels=8 \
--set quantizer.decay=0.97 --set quantizer.start_step=80 --set warmup_steps=20 --set log_every=20 \
--set losses.time=40 --set losses.adversarial=0.1 --set losses.feature=0.1 --set lr=1e-3 --set schedule=cosine \
--set batch_size=8 --set crop_seconds=0.5 --set fill=0.8 --set precision=no --set workers=0 --set validate_clips=16 \
--set validate_every=500 --set save_every=250 \
${CODEC_OPTIONS:-}"
    export SIZE=tiny LM_OPTIONS="--max-steps ${LM_STEPS:-4000} --set model.dim=128 --set model.n_layers=4 \
--set model.n_heads=2 --set model.pattern=parallel --set optim.batch_size=8 --set optim.micro_batch=8 \
--set crop_seconds=2.5 --set probe_samples=0 --set validate_samples=32 --set save_every=250 ${LM_OPTIONS:-}"
fi
source "$sweeps/common.sh"
stage prep --datasets "${DATASETS:-esc50}" --raw "$raw" --out "$out/manifests"

# Table 2: a codec and a language model for each number of streams.
"$sweeps/streams.sh" "$out/manifests" "$out/streams"
codec=$out/streams/x32/codec model=$out/streams/x32/lm

# Guidance 3 is the default, unless the options name another, and a mixed copy, too: what x32 has shown already is not
# done again.
mkdir -p "$out/guidance" "$out/mixing/mix-1"
[ ! -L "$out/guidance/guidance-3" ] || rm "$out/guidance/guidance-3" # of a run with other options
[[ "${EVAL_OPTIONS:-} ${LM_OPTIONS:-}" == *guidance* ]] || ln -sfn ../streams/x32/lm-eval "$out/guidance/guidance-3"
ln -sfn ../../streams/x32/lm-eval "$out/mixing/mix-1/eval"
for part in tokens lm; do
    ln -sfn "../../streams/x32/$part" "$out/mixing/mix-1/$part"
done

# Figure 3: guidance.
"$sweeps/guidance.sh" "$out/manifests" "$model" "$out/guidance"

# Table 1: without and with mixing; on the split, and on its clips mixed in pairs.
"$sweeps/mixing.sh" "$out/manifests" "$codec" "$out/mixing"
"${PYTHON:-python}" "$here/two_sounds.py" "$out/manifests" "$SPLIT" "$out/pairs/audio" --n "$LIMIT"
stage prep --folder "$out/pairs/audio" --captions "$out/pairs/audio/captions.csv" --name pairs --out "$out/pairs"
for copies in 0 1; do
    SPLIT=pairs-test score "$out/pairs" "$out/mixing/mix-$copies/lm" "$out/mixing/mix-$copies/eval-pairs"
done

# Table 4 and Figure 2: continuation.
score "$out/manifests" "$model" "$out/continuation" --task continuation

"${PYTHON:-python}" "$here/table.py" "$out" | tee "$out/table.md"
for part in streams guidance mixing continuation; do
    stage eval --report --out "$out/$part"
done
