# What the sweeps share; sourced, not run. Every stage goes on where it stopped, so a sweep does, too.
#
# AUDIOGEN (audiogen): the command. SPLIT (audiocaps-test), LIMIT (all): which clips to score, and how many.
# CODEC_OPTIONS, LM_OPTIONS: further flags of train-codec and train-lm, as in LM_OPTIONS="--max-steps 1000 --processes 8".
# EVAL_OPTIONS: of eval; its --metrics are those of generation, so codecs and continuation have their default ones.
# What a sweep varies comes after the options, which may name it, too.
set -eo pipefail # no -u: bash before 4.4, macOS's, takes an empty list for an unset one
recipes=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# words NAME TEXT: the list NAME, of the words in TEXT, which may be on several lines
words() { read -rd '' -a "$1" <<<"$2" || true; }

words audiogen "${AUDIOGEN:-audiogen}"
words codec_options "${CODEC_OPTIONS:-}"
words lm_options "${LM_OPTIONS:-}"
words eval_options "${EVAL_OPTIONS:-}"

stage() { printf '\n== audiogen %s\n' "$*" >&2; "${audiogen[@]}" "$@"; }

# speed FILE FLAG…: what `audiogen bench lm` measures, in FILE, once it is whole
speed() { stage bench lm "${@:2}" --json >"$1.tmp" && mv "$1.tmp" "$1"; }

# partial FILE STAGE…: a stage that writes FILE at its end; it may leave out clips that cannot be read (code 1)
partial() {
    local code=0 begin
    begin=$(mktemp)
    stage "${@:2}" || code=$?
    [ "$code" -ne 1 ] || [ ! -f "$1" ] || [ "$1" -ot "$begin" ] || code=0
    rm -f "$begin"
    return "$code"
}

# tokenize MANIFESTS CODEC OUT COPIES [FLAG…]: token shards of the manifests' clips, and of mixed copies of them
tokenize() {
    partial "$3/meta.json" tokenize --manifests "$1" --codec "$2" --out "$3" --mix "$4" "${@:5}"
}

# score MANIFESTS MODEL OUT [FLAG…]: what `audiogen eval` makes of a model, in OUT/results.json
score() {
    local options=("${eval_options[@]}")
    [[ " ${*:4} " != *" --task "* ]] || words options "$(sed -E 's/--metrics[ =][^ ]+//g' <<<"${options[*]}")"
    partial "$3/results.json" eval --split "${SPLIT:-audiocaps-test}" --manifests "$1" --model "$2" --out "$3" \
        ${LIMIT:+--limit "$LIMIT"} "${options[@]}" "${@:4}"
}
