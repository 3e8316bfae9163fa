"""We Sound Effects Bundle 2020: nothing is published of its layout, so names, folders and embedded text must do."""

from __future__ import annotations

from audiogen_cli.data.datasets.libraries.sound_library import SoundLibrary


class WeSoundEffects(SoundLibrary):
    """Every sound below the folder; the folder it is in and its name are tags."""

    key = "wesoundeffects"
    license = "We Sound Effects: the seller's"
    terms = "the seller's licence, which came with the bundle; read in it whether you may train on these sounds."
    download = "get the bundle at wesoundeffects.com/we-sound-effects-bundle-2020, then type: unzip '*.zip' -d FOLDER"
    expected = "the unpacked We Sound Effects Bundle 2020, with sound files in it"
