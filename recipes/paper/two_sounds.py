"""Mix the clips of a split in pairs, as training mixes them (sec. 4.1): WAV files and captions that `prep` reads.

python recipes/paper/two_sounds.py MANIFESTS SPLIT OUT [--n 100]
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import torch

from audiogen_cli.data.audio import SAMPLE_RATE, write_audio
from audiogen_cli.data.augment import RowSpec, draw_partner, read_row
from audiogen_cli.data.manifest import load_manifests
from audiogen_cli.data.mixing import mix_rows, mix_texts
from audiogen_cli.data.windows import whole_clip
from audiogen_cli.errors import InputError


def main() -> None:
    """Write OUT/<number>.wav and OUT/captions.csv, all in split test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path)
    parser.add_argument("split", help="as for eval: DATASET-SPLIT")
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=100, help="number of pairs")
    options = parser.parse_args()

    dataset, split = options.split.rsplit("-", 1)
    try:
        clips = list(load_manifests(options.manifests, [dataset], [split]))
    except InputError as error:
        parser.error(str(error))
    if len(clips) < 2:
        parser.error(f"{options.split} holds one clip: there is no other to mix it with")
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "caption", "split"])
        for number in range(options.n):
            generator = np.random.default_rng([0, number])
            first = int(generator.integers(len(clips)))
            second = draw_partner(generator, len(clips), range(first, first + 1))
            pair = [clips[first], clips[second]]
            a, b = (whole_clip(clip, SAMPLE_RATE) for clip in pair)
            row = RowSpec(f"{number}", a, b, mix_seed=number)
            try:
                wav, _ = mix_rows([(row, read_row(row, SAMPLE_RATE))], torch.device("cpu"))
            except InputError as error:
                print(f"pair {number} is left out: {error}", file=sys.stderr)
                continue
            write_audio(options.out / f"{number:04d}.wav", wav[0, 0].numpy())
            texts = mix_texts(*((clip.captions or clip.texts)[:1] for clip in pair))
            table.writerow([f"{number:04d}.wav", texts[0], "test"])


if __name__ == "__main__":
    main()
