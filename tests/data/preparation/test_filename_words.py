from __future__ import annotations

import pytest

from audiogen_cli.data.preparation.filename_words import name_words, ucs_categories, ucs_parts


@pytest.mark.parametrize(
    "name, words",
    [
        ("DogBark_01", "Dog Bark"),
        ("1-100032-A-0", ""),
        ("heavy rain on roof", "heavy rain on roof"),
        ("door.slam-v2", "door slam"),
        ("TV static", "TV static"),
        ("DSB8", ""),
        ("IceCrack2", "Ice Crack"),
        ("Bluezone_BC0238_rumble_004", "Bluezone rumble"),
        ("Gun 9mm Rapid", "Gun 9mm Rapid"),
        ("Cover Me I'm Reloading", "Cover Me I'm Reloading"),
        ("Glasses handle 03 NTG-2", "Glasses handle NTG"),
    ],
)
def test_words_of_names(name: str, words: str) -> None:
    assert name_words(name) == words


@pytest.mark.parametrize(
    "name, parts",
    [
        (
            "GUNAuto_Uzi 9mm Rapid Fire Close Up Short Bursts_TN_DORY",
            ("guns automatic", "Uzi 9mm Rapid Fire Close Up Short Bursts"),
        ),
        ("AMBSea-LR_Japan-Ambience, Seaside", ("ambience seaside", "Japan Ambience Seaside")),
        ("MUSCInst, Kalimba, G4-004", ("musical instrument", "Kalimba")),
        ("VEHBy_Citroen C2 Pass By_3_PMSFX_CC2", ("vehicles generic by", "Citroen Pass By")),
        ("AIRMisc", ("air", "")),
        ("airmisc_hiss", None),
        ("Printing Press,Fast,Grinding", None),
        ("WEATHER WIND Apartment, Moderate", None),
        ("", None),
    ],
)
def test_ucs_names(name: str, parts: tuple[str, str] | None) -> None:
    assert ucs_parts(name) == parts


def test_the_ucs_list_is_whole() -> None:
    assert len(ucs_categories()) == 752 and len(set(ucs_categories().values())) > 700
