"""Finding the codec that made the shards."""

from __future__ import annotations

from pathlib import Path

import pytest
from worlds import make_codec, make_rows, make_shards

from audiogen_cli.errors import InputError
from audiogen_cli.interop.model_folder import copy_model, fingerprint
from audiogen_cli.lm.inputs import check_streams, find_codec


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a codec that train-lm would not find by itself, and its shards."""
    monkeypatch.chdir(tmp_path)
    codec = make_codec(tmp_path / "elsewhere" / "codec")
    make_shards(tmp_path / "tokens", codec, make_rows([5]))
    return tmp_path


def test_a_codec_that_is_nowhere_must_be_given(place: Path) -> None:
    with pytest.raises(InputError, match="give --codec FOLDER"):
        find_codec(place / "tokens")
    assert find_codec(place / "tokens", place / "elsewhere" / "codec") == place / "elsewhere" / "codec"


@pytest.mark.parametrize(
    "target", ["tokens/codec", "runs/my-codec", "runs/an-lm/codec", "runs/c/checkpoints/step-000010"]
)
def test_the_usual_places_are_searched_for_the_right_one(place: Path, target: str) -> None:
    make_codec(place / "runs" / "another", seed=1)
    copy_model(place / "elsewhere" / "codec", place / target)
    found = find_codec(place / "tokens")
    assert found.resolve() == (place / target).resolve()


def test_a_wrong_codec_is_named_with_the_right_one(place: Path) -> None:
    other = make_codec(place / "other", seed=1)
    with pytest.raises(
        InputError, match=f"{fingerprint(place / 'elsewhere' / 'codec')[:12]}.*{fingerprint(other)[:12]}"
    ):
        find_codec(place / "tokens", other)
    with pytest.raises(InputError, match="holds no codec"):
        (place / "no").mkdir()
        (place / "no" / "config.json").write_text("{}")
        find_codec(place / "tokens", place / "no")


def test_streams(place: Path) -> None:
    assert check_streams(place / "tokens", 2).n_q == check_streams(place / "tokens", None).n_q == 2
    with pytest.raises(InputError, match="2 streams, not 4"):
        check_streams(place / "tokens", 4)
