from __future__ import annotations

from pathlib import Path

import pytest
from helpers.manifests import read_manifest
from helpers.raw_trees import build_raw

from audiogen_cli.data.datasets.registry import SOURCES
from audiogen_cli.data.manifest import dropped_file, read_dropped
from audiogen_cli.data.preparation.licenses import license_key, read_licenses
from audiogen_cli.data.preparation.prep import prepare
from audiogen_cli.errors import InputError


@pytest.mark.parametrize(
    "key, spellings",
    {
        "cc0": ("CC0", "cc-zero", "Creative Commons 0", "http://creativecommons.org/publicdomain/zero/1.0/", "CC0 1.0"),
        "cc-by": ("CC BY 4.0", "CC-BY", "Attribution", "https://creativecommons.org/licenses/by/3.0/", "cc by"),
        "cc-by-nc": ("CC BY-NC 3.0", "Attribution NonCommercial", "http://creativecommons.org/licenses/by-nc/3.0/"),
        "cc-by-nc-sa": ("Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International",),
        "cc-by-nd": ("Attribution-NoDerivs 3.0 Unported",),
        "sampling+": ("CC-Sampling+", "Sampling+", "http://creativecommons.org/licenses/sampling+/1.0/"),
        "public-domain": ("Public Domain", "http://creativecommons.org/publicdomain/mark/1.0/"),
        "remarc": (SOURCES["bbc"].license, "RemArc"),
        "": ("", "royalty-free", "audio: its YouTube uploaders'; labels CC BY 4.0", SOURCES["sonniss"].license),
    }.items(),
)
def test_a_license_has_one_name_in_all_its_spellings(key: str, spellings: tuple[str, ...]) -> None:
    assert {license_key(text) for text in spellings} == {key}


def test_only_known_licenses_can_be_asked_for() -> None:
    assert read_licenses(["CC0", "Attribution"]) == {"cc0", "cc-by"}
    with pytest.raises(InputError, match="'cc-bye' is none of cc0,"):
        read_licenses(["cc0", "cc-bye"])


def test_clips_under_other_licenses_are_dropped_in_every_split(tmp_path: Path) -> None:
    build_raw(tmp_path / "raw", "clotho", "fsd50k", "bbc")
    kept = {"clotho": {"cc-by-nc"}, "fsd50k": {"cc-by", "cc-by-nc"}, "bbc": set()}
    reports = prepare(list(kept), tmp_path / "raw", tmp_path / "out", licenses=["cc-by", "cc-by-nc"], workers=1)
    for report in reports:
        dropped = [item for item in read_dropped(dropped_file(report.manifest)) if item.reason == "license"]
        assert dropped and all(item.detail for item in dropped)
        if not kept[report.dataset]:
            assert "no clip is usable" in report.failure
            continue
        manifest = read_manifest(report.manifest)
        assert {license_key(clip.license) for clip in manifest.clips} <= kept[report.dataset]
        assert manifest.metadata["options"]["licenses"] == ["cc-by", "cc-by-nc"]
