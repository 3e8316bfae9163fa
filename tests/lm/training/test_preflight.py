"""Finding the codec that made the shards."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.zoo import make_codec, make_rows, make_shards

from audiogen_cli.errors import InputError
from audiogen_cli.lm.training.preflight import check_data, codec_of_shards
from audiogen_cli.model_folder import copy_model, fingerprint


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a codec that train-lm would not find by itself, and its shards."""
    monkeypatch.chdir(tmp_path)
    codec = make_codec(tmp_path / "elsewhere" / "codec")
    make_shards(tmp_path / "tokens", codec, make_rows([5]))
    return tmp_path


def test_a_codec_that_is_nowhere_must_be_given(place: Path) -> None:
    with pytest.raises(InputError, match="give --codec"):
        codec_of_shards(place / "tokens")
    assert codec_of_shards(place / "tokens", place / "elsewhere" / "codec") == place / "elsewhere" / "codec"


def test_the_copy_beside_the_shards_is_taken(place: Path) -> None:
    copy_model(place / "elsewhere" / "codec", place / "tokens" / "codec")
    assert codec_of_shards(place / "tokens") == place / "tokens" / "codec"


def test_a_wrong_codec_is_named_with_the_right_one(place: Path) -> None:
    other = make_codec(place / "other", seed=1)
    with pytest.raises(
        InputError, match=f"{fingerprint(place / 'elsewhere' / 'codec')[:12]}.*{fingerprint(other)[:12]}"
    ):
        codec_of_shards(place / "tokens", other)
    with pytest.raises(InputError, match="holds no codec"):
        (place / "no").mkdir()
        (place / "no" / "config.json").write_text("{}")
        codec_of_shards(place / "tokens", place / "no")


def test_recordings_need_a_codec(place: Path) -> None:
    (place / "manifests").mkdir()
    (place / "manifests" / "t.parquet").touch()
    with pytest.raises(InputError, match="give --codec"):
        check_data(place / "tokens", place / "manifests", None)
    folder, config = check_data(place / "tokens", place / "manifests", place / "elsewhere" / "codec")
    assert folder == place / "elsewhere" / "codec" and config.n_q == 2
    with pytest.raises(InputError, match="no manifests"):
        check_data(place / "tokens", place / "elsewhere", folder)
