"""VGG-Sound (Chen et al. 2020): 10 s clips of YouTube videos with one of 309 labels each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, Source, SourceItem, not_found
from audiogen_cli.data.datasets.youtube import VideoIndex, damaged_id
from audiogen_cli.data.manifest import Dropped, Split
from audiogen_cli.data.tables import stream_rows

COLUMNS = ("video", "start", "label", "split")


class VggSound(Source):
    """`vggsound.csv`, which has no header, and audio or video files in any folder, called by their video's id."""

    key = "vggsound"
    license = "audio: its YouTube uploaders'; labels CC BY 4.0"
    terms = "the list is CC BY 4.0; the audio stays its YouTube uploaders'."
    download = (
        "wget -P FOLDER https://www.robots.ox.ac.uk/~vgg/data/vggsound/vggsound.csv && pip install huggingface_hub"
        " && hf download Loie/VGGSound --repo-type dataset --local-dir FOLDER && cd FOLDER"
        " && for part in *.tar.gz; do tar xzf $part; done"
    )

    def items(self, tree: DatasetFolder) -> Iterator[SourceItem | Dropped]:
        """Yield one item per row. Raises InputError if there is no list."""
        found = tree.find_named("vggsound.csv")
        if not found:
            raise not_found(tree, "VGG-Sound's vggsound.csv (robots.ox.ac.uk/~vgg/data/vggsound) and its audio")
        index = VideoIndex(self.key, tree.audio)
        for number, row in enumerate(stream_rows(tree.root / found[0], header=COLUMNS), start=1):
            where = f"{found[0]} row {number}"
            if damaged := damaged_id(self.key, row["split"], row["video"], where):
                yield damaged
                continue
            if row["split"] not in ("train", "test"):
                detail = f"{where}: split '{row['split']}' is neither train nor test"
                yield Dropped(f"{self.key}/{row['video']} ({where})", "", "", "damaged row", detail)
                continue
            name = f"{row['video']}_{row['start']:0>6}"  # the authors' own file names
            audio = index.match(row["video"])
            yield SourceItem(
                name=name,
                split=cast(Split, row["split"]),
                path=audio or f"{name}.wav",
                tags=(row["label"],),
                missing=audio is None,
                recording=row["video"],
            )
        yield from index.unmatched()
