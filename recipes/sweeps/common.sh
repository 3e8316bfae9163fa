# What the sweeps share; sourced, not run. Every stage goes on where it stopped, so a sweep does, too.
#
# AUDIOGEN (audiogen): the command. SPLIT (audiocaps-test), LIMIT (all): which clips to score, and how many.
# CODEC_OPTIONS, LM_OPTIONS, EVAL_OPTIONS: further flags of train-codec, train-lm and eval, as in
# LM_OPTIONS="--max-steps 1000 --processes 8".
set -euo pipefail
recipes=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
read -ra audiogen <<<"${AUDIOGEN:-audiogen}"
read -ra codec_options <<<"${CODEC_OPTIONS:-}"
read -ra lm_options <<<"${LM_OPTIONS:-}"
read -ra eval_options <<<"${EVAL_OPTIONS:-}"

stage() { printf '\n== audiogen %s\n' "$*" >&2; "${audiogen[@]}" "$@"; }

# score MANIFESTS MODEL OUT [FLAG…]: what `audiogen eval` makes of a model, in OUT/results.json
score() {
    stage eval --split "${SPLIT:-audiocaps-test}" --manifests "$1" --model "$2" --out "$3" ${LIMIT:+--limit "$LIMIT"} \
        "${@:4}" "${eval_options[@]}"
}
