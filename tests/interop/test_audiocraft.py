"""Public checkpoints: a tiny one in audiocraft's format becomes our model folder and computes the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.exported import (
    CARD,
    CONFIG,
    DELAYS,
    N_Q,
    TEXT_WIDTH,
    delayed,
    lm_state,
    make_encodec,
    reference_greedy,
    reference_logits,
    write_checkpoint,
)
from helpers.fakes import FakeNetwork
from helpers.manifests import write_manifest
from helpers.zoo import chirp, make_t5

from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.commands.import_ import import_
from audiogen_cli.data.audio import write_audio
from audiogen_cli.data.captions import process_caption
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.config import EvalConfig
from audiogen_cli.evaluation.run import evaluate
from audiogen_cli.interop import audiocraft
from audiogen_cli.interop.describe import describe_model
from audiogen_cli.interop.import_audiocraft import import_checkpoint
from audiogen_cli.lm.config import Sampling
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lock import release_folders

HOP = 40


@pytest.fixture(scope="module")
def encodec() -> torch.nn.Module:
    return make_encodec()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, encodec: torch.nn.Module) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("public") / "export", encodec)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Path:
    import_checkpoint(str(checkpoint), checkpoint.parent / "model", str(make_t5(checkpoint.parent / "t5", TEXT_WIDTH)))
    return checkpoint.parent / "model"


@pytest.fixture(scope="module")
def generator(model: Path) -> Generator:
    return Generator.load(model, device="cpu")


def test_logits_are_the_reference_s_with_padded_and_missing_texts(model: Path) -> None:
    lm = AudioLanguageModel.load(model)
    random = torch.Generator().manual_seed(2)
    codes = torch.randint(CARD, (3, N_Q, 20), generator=random)
    text = torch.randn(3, 7, TEXT_WIDTH, generator=random)
    mask = torch.arange(7) < torch.tensor([7, 3, 0])[:, None]
    with torch.no_grad():
        ours = lm(codes, text, mask).logits
    theirs = reference_logits(delayed(codes), text, mask)
    for k, late in enumerate(DELAYS):
        torch.testing.assert_close(ours[:, k].double(), theirs[:, k, late : late + 20], atol=1e-4, rtol=1e-4)


def test_codes_and_waveforms_are_encodecs(model: Path, encodec: Any) -> None:
    codec = AudioCodec.load(model / "codec")
    wav = torch.randn(2, 1, 1234, generator=torch.Generator().manual_seed(3)) * 0.3
    with torch.no_grad():
        theirs = encodec.encode(wav, return_dict=True).audio_codes[0]
        assert torch.equal(codec.encode(wav), theirs) and theirs.shape == (2, N_Q, 31)
        decoded = encodec.decode(theirs[None], [None]).audio_values
        torch.testing.assert_close(codec.decode(theirs), decoded, atol=1e-4, rtol=1e-4)
    assert decoded.std() > 0.1 and len(theirs.unique()) > 10


@pytest.mark.parametrize("prompt", ["dog", "rain bark dog rain"])
def test_the_engine_generates_the_reference_s_sound(generator: Generator, encodec: Any, prompt: str) -> None:
    n_frames = 12
    request = GenerationRequest(prompt, 0, n_frames * HOP / 16_000, Sampling(guidance=3.0, top_k=1))
    ((_, wav),) = generator.generate([request])
    codes = reference_greedy(generator.encoder.encode([prompt])[0], n_frames, 3.0)
    with torch.no_grad():
        expected = encodec.decode(codes[None, None], [None]).audio_values[0, 0]
    assert len(codes.unique()) > 5
    np.testing.assert_allclose(wav, expected.numpy(), atol=1e-4)


def test_configuration_and_weights_say_where_they_come_from(model: Path) -> None:
    facts = describe_model(model)
    assert (facts["kind"], facts["codec_is_its_own"], facts["formats"].keys()) == ("lm", True, {"F16"})
    assert facts["licence"].startswith("CC BY-NC 4.0") and facts["codec"]["licence"].startswith("CC BY-NC 4.0")
    config = facts["config"]
    expected = {"embedding": "sum", "text_processing": "none", "text_padding": "zeros", "pattern": "delay"}
    assert {key: config[key] for key in expected} == expected
    assert (config["frame_rate"], config["max_frames"], config["delays"]) == (400.0, 400, DELAYS)
    assert config["sampling"] == {
        "guidance": 3.0,
        "top_p": 1.0,
        "top_k": 250,
        "temperature": 1.0,
        "candidates": 1,
        "layers": 1,
        "negative": "",
        "passes": 0,
        "timing": "",
        "loop": False,
    }


@pytest.mark.parametrize("task", ["generation", "continuation"])
def test_evaluation_asks_with_captions_to_the_letter(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    captions = ["A dog is barking at the 2 parked cars!", "Rain falls; thunder rolls"]
    clips = []
    for number, caption in enumerate(captions):
        write_audio(tmp_path / f"{number}.wav", chirp(number, 0.5), 16_000)
        place = (f"audiocaps/{number}", "audiocaps", "test", f"{number}.wav", 0.0, 0.5, 16_000, 1)
        clips.append(Clip(*place, (caption, "more"), (), (process_caption(caption), "more"), ""))
    write_manifest(
        tmp_path / "audiocaps.parquet", clips, {"dataset": "audiocaps", "root": str(tmp_path), "options": {}}
    )
    options = {"split": "audiocaps-test", "manifests": tmp_path, "model": model, "device": "cpu"}
    config = EvalConfig(tmp_path / "out", task=task, prompt_seconds=(0.2,), **options)
    monkeypatch.setenv("AUDIOGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("audiogen_cli.evaluation.networks.registry.load_network", lambda *_: FakeNetwork())
    assert evaluate(config)
    read = [json.loads(path.read_text())["text"] for path in (tmp_path / "out").rglob("*/*.json")]
    assert {text for text in read if text} == set(captions)  # what the encoder read


def test_prompts_reach_the_encoder_as_they_are(generator: Generator) -> None:
    assert generator.prepare(GenerationRequest("A dog is barking!", 0, 1.0)).texts == ("A dog is barking!",)


def test_folding_is_weight_normalisation() -> None:
    for layer in (torch.nn.Conv1d(3, 5, 4), torch.nn.ConvTranspose1d(3, 5, 4)):
        normed = torch.nn.utils.parametrizations.weight_norm(layer)
        g, v = normed.parametrizations.weight.original0, normed.parametrizations.weight.original1
        torch.nn.init.normal_(g)
        torch.testing.assert_close(audiocraft.fold(v.detach(), g.detach()), normed.weight.detach())


def test_the_command_prints_the_folder_and_its_licence(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_(str(checkpoint / "state_dict.bin"), tmp_path / "new" / "model", str(checkpoint.parent / "t5"))
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'new' / 'model'}\n" and "CC BY-NC 4.0" in err
    with pytest.raises(InputError, match="already there"):
        import_(str(checkpoint), tmp_path / "new" / "model")


def test_a_killed_import_leaves_no_model_and_is_begun_anew(tmp_path: Path, checkpoint: Path) -> None:
    half = tmp_path / "model" / ".0123456789abcdef.99999999.tmp"
    half.mkdir(parents=True)
    (half / "config.json").write_text("{}")
    import_(str(checkpoint / "state_dict.bin"), tmp_path / "model", str(checkpoint.parent / "t5"))
    release_folders()
    names = ["LICENSE", "codec", "config.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == names


def _swap(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(package: dict[str, Any]) -> None:
        assert old in package["xp.cfg"]
        package["xp.cfg"] = package["xp.cfg"].replace(old, new)

    return change


def _more(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda package: package["best_state"].update({name: torch.zeros(1)})


def _only(**values: Any) -> Callable[[dict[str, Any]], None]:
    def change(package: dict[str, Any]) -> None:
        package.clear()
        package |= values

    return change


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("state_dict.bin", _swap("norm_first: true", "norm_first: false"), "norm_first is False; only True"),
        ("state_dict.bin", _swap("kv_repeat: 1", "kv_repeat: 2"), "kv_repeat is 2"),
        ("state_dict.bin", _swap("modeling: delay", "modeling: valle"), "modeling is valle"),
        ("state_dict.bin", _swap("delay: {", "parallel: {empty_initial: 2}\n  delay: {"), "empty_initial is 2"),
        ("state_dict.bin", _swap("kv_repeat: 1", "kv_repeat: 1\n  max_period: 500"), "max_period is 500; only 10000"),
        ("state_dict.bin", _swap("dataset: {", "lm_model: transformer_lm_magnet\ndataset: {"), "lm_model is"),
        ("state_dict.bin", _swap("segment_duration: 1,", "segment_duration: -1.5,"), "must be a number of seconds"),
        ("state_dict.bin", _swap("use: false", "use: true"), "interleave_stereo_codebooks.use is True"),
        ("state_dict.bin", _swap("prepend: []", "prepend: [self_wav]"), "fuser.prepend"),
        ("state_dict.bin", _swap("cross: [description]", "cross: []"), "exactly one text condition"),
        ("state_dict.bin", _swap("card: 32", "card: 31"), "codebook_size is 31, that of compression_state_dict.bin"),
        ("state_dict.bin", _swap("num_layers: 2", "num_layers: 1"), "unknown weights 'transformer.layers.1"),
        ("state_dict.bin", _swap("num_layers: 2", "num_layers: 3"), "'transformer.layers.2.norm1.weight' are missing"),
        ("state_dict.bin", _swap("num_heads: 2", "num_heads: null"), "n_heads"),
        ("state_dict.bin", _swap("dim: 16", "dim: ???"), "leaves transformer_lm.dim open"),
        ("state_dict.bin", _swap("t5-large", "t5-base"), "wants text vectors of 8 numbers, 't5-base' gives 768"),
        ("state_dict.bin", _swap("channels: 1", "channels: {"), "not valid YAML"),
        ("state_dict.bin", _more("transformer.layers.0.layer_scale_1"), "layer_scale_1"),
        ("state_dict.bin", _only(best_state={"model": {}}, **{"xp.cfg": ""}), "not a flat dict of tensors"),
        ("state_dict.bin", _only(weights=torch.ones(1)), "lacks best_state or xp.cfg"),
        ("state_dict.bin", lambda package: package.update(cfg=Path("x")), "could run code"),
        ("compression_state_dict.bin", _only(pretrained="facebook/encodec_32khz"), "points to .facebook"),
        ("compression_state_dict.bin", _swap("n_residual_layers: 1", "n_residual_layers: 3"), "n_residual_layers is 3"),
        ("compression_state_dict.bin", _swap("norm: weight_norm", "norm: time_group_norm"), "norm is time_group_norm"),
        ("compression_state_dict.bin", _swap("n_filters: 2", "n_filters: 4"), "does not fit its configuration"),
        ("compression_state_dict.bin", _more("encoder.extra"), "unknown weights 'encoder.extra'"),
    ],
)  # fmt: skip
def test_what_we_do_not_build_is_refused(
    tmp_path: Path, checkpoint: Path, file: str, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    for name in (audiocraft.LM_FILE, audiocraft.CODEC_FILE):
        package = torch.load(checkpoint / name, weights_only=True)
        if name == file:
            change(package)
        torch.save(package, tmp_path / name)
    with pytest.raises(InputError, match="(?s)" + message.replace("(", r"\(")) as caught:
        import_checkpoint(str(tmp_path), tmp_path / "out", None if "t5-" in message else str(checkpoint.parent / "t5"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_wrong_folders_and_files_are_refused(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for source, message in {
        str(tmp_path / "none"): "no such folder, nor a hub name",
        "nobody/nothing": "'nobody/nothing': no such folder, nor in the hub's cache",
        str(tmp_path): "state_dict.bin and compression_state_dict.bin not found",
    }.items():
        with pytest.raises(InputError, match=message):
            import_checkpoint(source, tmp_path / "out")
    (tmp_path / "checkpoint.th").touch()
    with pytest.raises(InputError, match=r"training checkpoint \(checkpoint.th\)"):
        import_checkpoint(str(tmp_path), tmp_path / "out")
    for name in (audiocraft.LM_FILE, audiocraft.CODEC_FILE):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes()[:2000])
    with pytest.raises(InputError, match="copy it again"):
        import_checkpoint(str(tmp_path), tmp_path / "out")
    with pytest.raises(InputError, match="wants text vectors of 8 numbers"):
        import_checkpoint(str(checkpoint), tmp_path / "out", str(make_t5(tmp_path / "t5", 6)))


def test_only_as_many_codebooks_as_the_language_model_knows(tmp_path: Path, encodec: torch.nn.Module) -> None:
    write_checkpoint(tmp_path, encodec)
    state = {name: value for name, value in lm_state().items() if "3" not in name.split(".")[:2]}
    config = CONFIG.replace("n_q: 4", "n_q: 3").replace("delays: [0, 1, 2, 3]", "delays: [0, 1, 2]")
    config = config.replace("compression_model_n_q: null", "compression_model_n_q: 3")
    # A file from training without the memory-efficient attention names its parts one level deeper.
    state = {name.replace("attn.in_proj", "attn.mha.in_proj"): value for name, value in state.items()}
    torch.save({"best_state": state, "xp.cfg": config}, tmp_path / audiocraft.LM_FILE)
    import_checkpoint(str(tmp_path), tmp_path / "out", str(make_t5(tmp_path / "t5", TEXT_WIDTH)))
    assert json.loads((tmp_path / "out" / "codec" / "config.json").read_text())["config"]["n_q"] == 3
    assert AudioLanguageModel.load(tmp_path / "out").config.n_q == AudioCodec.load(tmp_path / "out" / "codec").n_q == 3


def test_biases_come_along_and_missing_ones_are_zero(tmp_path: Path, encodec: torch.nn.Module) -> None:
    write_checkpoint(tmp_path, encodec)
    state = {**lm_state(), "transformer.layers.0.linear1.bias": torch.ones(64).half()}
    torch.save({"best_state": state, "xp.cfg": CONFIG}, tmp_path / audiocraft.LM_FILE)
    import_checkpoint(str(tmp_path), tmp_path / "out", str(make_t5(tmp_path / "t5", TEXT_WIDTH)))
    lm = AudioLanguageModel.load(tmp_path / "out")
    assert lm.blocks[0].up.bias.eq(1).all() and not lm.blocks[1].up.bias.any() and not lm.heads.linear.bias.any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"", "is empty"),
    ],
)
def test_files_that_are_no_weights_are_said_to_be_what_they_are(tmp_path: Path, content: bytes, message: str) -> None:
    for name in ("state_dict.bin", "compression_state_dict.bin"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        import_checkpoint(str(tmp_path), tmp_path / "out")
