#!/usr/bin/env bash
# Figure 3: FAD and KL against the guidance γ.
#
#   recipes/sweeps/guidance.sh MANIFESTS MODEL OUT      → OUT/guidance-<γ>/results.json
#
# GUIDANCES (1 1.5 2 3 4 5): the paper shows 1, 2, 3 and speaks of 4. See common.sh for the other settings.
source "$(dirname "$0")/common.sh"
manifests=${1:?} model=${2:?} out=${3:?}

for guidance in ${GUIDANCES:-1 1.5 2 3 4 5}; do
    score "$manifests" "$model" "$out/guidance-$guidance" --guidance "$guidance"
done
