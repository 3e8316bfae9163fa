"""Models by name: from a hub, that stands on this machine, into its cache, and from there without a network."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from helpers.exported import TEXT_WIDTH, write_checkpoint
from helpers.hub import COMMIT, serve
from helpers.zoo import make_adapter, make_t5

from audiogen_cli import hub
from audiogen_cli.errors import InputError
from audiogen_cli.interop import import_audiocraft
from audiogen_cli.interop.describe import describe
from audiogen_cli.lm.adapters import find_adapters
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.model_folder import find_codec, find_model, fingerprint, load_config, model_name

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def asked(tmp_path: Path, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Stand a hub with acme/tiny, acme/pickle and the public model's name in the real one's place; list what it is
    asked for."""
    root = tmp_path / "hub"
    shutil.copytree(tiny_lm, root / "acme" / "tiny")
    for name in ("checkpoints/step-000001/training.pt", "pytorch_model.bin", "run.py"):
        (root / "acme" / "tiny" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "acme" / "tiny" / name).write_bytes(b"code")
    (root / "acme" / "pickle").mkdir()
    (root / "acme" / "pickle" / "pytorch_model.bin").write_bytes(b"code")
    (root / "acme" / "words").mkdir()
    (root / "acme" / "words" / "README.md").write_text("nothing")
    monkeypatch.setattr(hub, "PATIENCE", 60.0)  # a busy machine answers late
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AUDIOGEN_CACHE", str(tmp_path / "ours"))
    monkeypatch.chdir(tmp_path)
    with serve(root) as (address, asked):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield asked


def test_a_model_by_name_is_fetched_once(
    asked: list[str], tiny_lm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = find_model("acme/tiny")
    assert fingerprint(folder) == fingerprint(tiny_lm) and find_codec("acme/tiny") == folder / "codec"
    assert model_name(folder) == f"acme/tiny@{COMMIT[:8]}"
    assert describe(Path("acme/tiny"))["fingerprint"] == fingerprint(tiny_lm)
    assert "license: cc-by-nc-4.0" in capsys.readouterr().err
    fetched = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    own = {path.relative_to(tiny_lm).as_posix() for path in tiny_lm.rglob("*") if path.is_file()}
    assert fetched == own  # no checkpoints, no pickles, no code
    asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_model("acme/tiny") == folder and not asked
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        find_model("acme/tiny@v1")


def test_a_revision_is_part_of_the_name(asked: list[str]) -> None:
    assert find_model("acme/tiny@v1") == find_model(f"acme/tiny@{COMMIT}")
    assert any(path.endswith("revision/v1") for path in asked)


def test_an_adapter_by_name_has_its_revision_and_strength(
    asked: list[str], tiny_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adapter(tmp_path / "hub" / "acme" / "lora", tiny_lm, "CC0\n")
    (adapter,) = find_adapters(["acme/lora@v1=-0.5"], tiny_lm)
    assert adapter.strength == -0.5 and (adapter.folder / "adapter_config.json").is_file()
    asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_adapters([adapter, "acme/lora@v1"], tiny_lm)[0] == adapter
    assert not asked


def test_a_download_that_was_interrupted_is_completed(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, files = hub.download, []

    def stop(name: str, file: str) -> Path:
        if files:
            raise KeyboardInterrupt
        files.append(file)
        return whole(name, file)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(hub, "download", stop)
        find_model("acme/tiny")
    assert load_config(find_model("acme/tiny"), "lm", LMConfig)


@pytest.mark.parametrize("missing", ["model.safetensors", "codec/config.json", "codec/model.safetensors"])
@pytest.mark.usefixtures("asked")
def test_a_download_that_another_tool_did_not_end_is_completed(missing: str) -> None:
    (find_model("acme/tiny") / missing).unlink()
    assert (find_model("acme/tiny") / missing).is_file()


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("acme/pickle", "pickled weights only (pytorch_model.bin)"),
        ("acme/words", "not a model folder of audiogen"),
        ("acme/tiny@v9", "has no revision 'v9'"),
        ("acme/nothing", "no model of that name"),
    ],
)
def test_what_cannot_be_taken_costs_one_line(audiogen: Run, asked: list[str], name: str, fragment: str) -> None:
    done = audiogen("generate", "dog", "--model", name, "-o", "x.wav")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and fragment in done.stderr


def test_without_a_network_one_line_is_said_soon(
    audiogen: Run, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    done = audiogen("generate", "dog", "--model", "acme/tiny", "-o", "x.wav")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "cannot be reached" in done.stderr


def test_paths_never_become_names(asked: list[str], tiny_lm: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_lm, tmp_path / "acme" / "tiny")  # a folder of that name comes first
    assert find_model("acme/tiny") == Path("acme/tiny")
    for path in ("nowhere", "./acme/none", "../acme/none", "/acme/none", "acme/none/at-all"):
        with pytest.raises(InputError, match=f"unknown model '{path}': no such folder; give a model folder"):
            find_model(path)
    assert not asked


@pytest.fixture
def public(asked: list[str], tmp_path: Path) -> None:
    """Put a small checkpoint in the public one's place."""
    checkpoint = write_checkpoint(tmp_path / "hub" / "facebook" / "audiogen-medium")
    package = torch.load(checkpoint / "state_dict.bin", weights_only=True)
    package["xp.cfg"] = package["xp.cfg"].replace("t5-large", str(make_t5(tmp_path / "t5", TEXT_WIDTH)))
    torch.save(package, checkpoint / "state_dict.bin")


@pytest.mark.usefixtures("public")
def test_a_killed_first_use_of_the_public_model_is_made_good(tmp_path: Path) -> None:
    out = tmp_path / "ours" / "models" / "audiogen-medium@main"
    left = [folder / ".0123456789abcdef.99999999.tmp" for folder in (out, out.parent)]  # no process has that number
    for folder in (*left, out / "codec"):  # killed while it converted, or while it gave files their names
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"half")
    folder = find_model("facebook/audiogen-medium")
    assert load_config(folder, "lm", LMConfig) and (folder / "codec" / "config.json").is_file()
    assert not any(path.exists() for path in left)


@pytest.mark.usefixtures("public")
def test_processes_that_want_the_public_model_at_once_convert_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, made = import_audiocraft.import_checkpoint, []

    def slowly(source: str, out: Path) -> None:
        made.append(out)
        time.sleep(0.3)
        whole(source, out)

    monkeypatch.setattr(import_audiocraft, "import_checkpoint", slowly)
    with ThreadPoolExecutor(3) as pool:  # a lock is a process's and a thread's alike
        folders = list(pool.map(find_model, ["facebook/audiogen-medium"] * 3))
    assert len(made) == len(set(folders)) == 1


@pytest.mark.usefixtures("public")
def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("audiogen_cli.model_folder.save_model", interrupt)
        find_model("facebook/audiogen-medium")
    assert [path.name for path in (tmp_path / "ours" / "models").iterdir()] == [".audiogen-medium@main.lock"]
    assert find_model("facebook/audiogen-medium").is_dir()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("public")
def test_the_public_model_is_imported_on_first_use(
    asked: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = find_model("facebook/audiogen-medium")
    assert load_config(folder, "lm", LMConfig).text_padding == "zeros" and (folder / "codec").is_dir()
    said = capsys.readouterr().err
    assert "downloading facebook/audiogen-medium" in said and "MB; license: cc-by-nc-4.0" in said
    asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_model("facebook/audiogen-medium") == folder and not asked
