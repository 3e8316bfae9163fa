"""Count the captions that speak of two sounds or more: of the paper's 100 test captions 85% do (sec. 4.1).

    python recipes/sweeps/count_sounds.py MANIFESTS [DATASET-SPLIT]

Prints a row for each dataset and split. A caption's sounds are those that `generate --layers` would tell apart; a clip
without captions counts its tags.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from audiogen_cli.data.captions import split_caption
from audiogen_cli.data.manifest import Clip, load_manifests
from audiogen_cli.errors import InputError

PAPER = 0.85
MOST = 9


def count_sounds(clip: Clip) -> list[int]:
    """Return the number of sounds in each of a clip's captions, or of its tags."""
    return [len(split_caption(caption, MOST)) for caption in clip.captions] or [len(clip.tags)]


def main() -> None:
    """Print the shares."""
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    dataset, _, split = sys.argv[2].rpartition("-") if len(sys.argv) == 3 else ("", "", "")
    try:
        clips = load_manifests(Path(sys.argv[1]), [dataset] if dataset else None, [split] if split else None)
    except InputError as error:
        sys.exit(str(error))
    several, all_ = Counter[str](), Counter[str]()
    for clip in clips:
        name, counts = f"{clip.dataset}-{clip.split}", count_sounds(clip)
        all_[name] += len(counts)
        several[name] += sum(count > 1 for count in counts)
    for name in sorted(all_):
        share = several[name] / all_[name]
        print(f"{name}: {several[name]:,} of {all_[name]:,}, {share:.0%} (the paper's test: {PAPER:.0%})")


if __name__ == "__main__":
    main()
