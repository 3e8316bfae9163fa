"""The first hour on a GPU: is everything right there, and how fast? Most valuable first, under 8 minutes.

    python recipes/gpu/check.py --out OUT [--only codes,train]
    python recipes/gpu/check.py --out OUT --dry      a minute on a CPU, everything tiny: does the script itself run?

One JSON object a line, on stdout and in OUT/gpu.jsonl, as results come. A section that fails says so, and the next one
begins.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiogen_cli.bench.decode import FRAME_RATE, Setup, configure, measure_lm, read_bandwidth
from audiogen_cli.bench.start import measure_start
from audiogen_cli.bench.timing import time_in_turn
from audiogen_cli.bench.train_step import measure_training, recipe_step
from audiogen_cli.codec.batch_encoder import DEVICE_ROWS, encode_batch
from audiogen_cli.codec.config import CodecConfig, CodecTrainConfig, SEANetConfig
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.train_step import AdversarialTrainer
from audiogen_cli.lm.config import LMConfig, TextConfig, TrainConfig
from audiogen_cli.lm.decoding.engine import Engine
from audiogen_cli.lm.decoding.requests import DecodingRequest
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.probe import features
from audiogen_cli.lm.training.batches import PAD_FRAMES
from audiogen_cli.lm.training.step import lm_loss
from audiogen_cli.training.launch import start_accelerator
from audiogen_cli.training.recipe import load_recipe
from audiogen_cli.training.throughput import peak_memory, reset_peak

BUDGET = 440.0  # seconds: no section begins later
RATE = 16_000
TEXTS = 16  # tokens of a text


@dataclass(frozen=True)
class Check:
    """The run: where, how large, and where results go."""

    device: torch.device
    dry: bool
    out: Path
    began: float

    def say(self, section: str, **facts: object) -> None:
        """Write a result."""
        line = json.dumps({"section": section, "t": round(time.monotonic() - self.began, 1), **facts}, default=str)
        print(line, flush=True)
        with self.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def seconds(self, work: Callable[[], object], repeats: int = 3) -> float:
        """Return the median seconds of some work, once it has warmed up."""
        work()
        return time_in_turn({"work": work}, 1 if self.dry else repeats, self.device).median("work")

    def size(self, real: int, tiny: int) -> int:
        """Return a number of a real run, or of a dry one."""
        return tiny if self.dry else real

    @contextmanager
    def peak(self) -> Iterator[dict[str, float]]:
        """Measure the memory that the work within takes at most, in GB."""
        found: dict[str, float] = {}
        reset_peak(self.device)
        yield found
        found["peak_gb"] = peak_memory(self.device) / 1e9


def share_equal(ours: Tensor, theirs: Tensor) -> float:
    """Return the share of codes that are equal."""
    return float((ours.cpu() == theirs.cpu()).float().mean())


def small_model(**changes: Any) -> tuple[LMConfig, AudioLanguageModel]:
    """Return a small language model with random weights on the CPU."""
    torch.manual_seed(0)
    settings = {"dim": 64, "n_layers": 2, "n_heads": 2, **changes}
    config = configure(settings, 4, 400, TextConfig("static"), 32)
    return config, AudioLanguageModel(config).eval().requires_grad_(False)


def base_shape(check: Check, max_frames: int) -> LMConfig:
    """Return the shape of the base model on the x32 codec; of a dry run, a small one."""
    settings = load_recipe(TrainConfig, "lm-base").model.settings()
    settings |= {"dim": 64, "n_layers": 2, "n_heads": 2} if check.dry else {}
    return configure(settings, 1, max_frames, TextConfig("static"), 32)


def paper_codec(check: Check) -> AudioCodec:
    """Return the paper's x32 codec with random weights on the CPU, its codebooks where latents of noise are."""
    torch.manual_seed(0)
    codec = AudioCodec(CodecConfig(network=SEANetConfig(channels=check.size(32, 4)))).eval().requires_grad_(False)
    latent = codec.encoder(0.1 * torch.randn(1, 1, 2 * RATE)).transpose(1, 2)[0]
    codec.quantizer.streams[0].start(latent, 2)  # type: ignore[operator]
    return codec


# --- Is it right? ---


def machine(check: Check) -> None:
    """Say what this is, and how fast its memory is."""
    facts: dict[str, object] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if check.device.type == "cuda":
        total = torch.cuda.mem_get_info()[1] / 1e9
        facts |= {"gpu": torch.cuda.get_device_name(), "memory_gb": total, "gb_s": read_bandwidth(check.device) / 1e9}
    check.say("machine", **facts)


def decoding(check: Check) -> None:
    """Decode sounds of several lengths, one continued, one without text: as on the CPU, none left undecided."""
    config, model = small_model()
    sampling = replace(config.sampling, top_p=0.9)
    longest, n = check.size(700, 60), check.size(10, 2)  # frames, of windows of 400; together more than 16 rows
    requests = [DecodingRequest(torch.randn(3 + 3 * i, 32), longest - 20 * i, i, sampling) for i in range(n)]
    requests += [replace(requests[0], prompt=torch.randint(500, (4, 37))), replace(requests[1], vectors=None)]

    def run(device: torch.device, dtype: str, batch_size: int | None = None) -> list[Tensor]:
        copy = AudioLanguageModel(config).to(device).eval().requires_grad_(False)
        copy.load_state_dict(model.state_dict())
        engine = Engine(copy, dtype)
        names.append(engine.backend.__name__)
        return [codes for _, codes in sorted(engine.generate(requests, batch_size), key=lambda found: found[0])]

    names: list[str] = []
    ours, cpu, half = run(check.device, "float32"), run(torch.device("cpu"), "float32"), run(check.device, "bfloat16")
    check.say(
        "decoding",
        backend=names[0],
        agrees_with_cpu=[share_equal(*pair) for pair in zip(ours, cpu, strict=True)],
        alone_agrees=[share_equal(*pair) for pair in zip(run(check.device, "float32", 1), ours, strict=True)],
        bfloat16_agrees=[share_equal(*pair) for pair in zip(half, ours, strict=True)],
        undecided=sum(int((codes < 0).sum()) for codes in [*ours, *half]),
    )


def codes(check: Check) -> None:
    """Encode sounds of several lengths side by side: the codes of the CPU, and of each alone."""
    codec = paper_codec(check)
    lengths = [2 * RATE - 1_234 * i for i in range(check.size(8, 3))]
    wav = 0.1 * torch.randn(len(lengths), 1, 2 * RATE)
    wav *= torch.arange(2 * RATE) < torch.tensor(lengths)[:, None, None]
    alone = [codec.encode(row[None, :, :n])[0] for row, n in zip(wav, lengths, strict=True)]
    codec, wav = codec.to(check.device), wav.to(check.device)
    together = encode_batch(codec, wav, lengths)
    own = [codec.encode(row[None, :, :n])[0] for row, n in zip(wav, lengths, strict=True)]
    found = [row[:, : each.shape[1]] for row, each in zip(together, own, strict=False)]  # the rest is silence
    check.say(
        "codes",
        agrees_with_cpu=[share_equal(*pair) for pair in zip(own, alone, strict=True)],
        batch_agrees_with_alone=[share_equal(*pair) for pair in zip(found, own, strict=True)],
    )


def gradients(check: Check) -> None:
    """Compare gradients with the CPU's: a language model's in float32, and an LSTM's inside of a bfloat16 step."""
    _, model = small_model()
    wanted: dict[str, Tensor] = {}
    batch = torch.randint(500, (3, 4, 90)), torch.randn(3, 5, 32), torch.ones(3, 5, dtype=torch.bool)
    for device in (torch.device("cpu"), check.device):
        model = model.to(device).requires_grad_(True)
        model.zero_grad(set_to_none=True)
        moved = [each.to(device) for each in batch]
        loss = lm_loss(model(*moved), moved[0]).mean()
        loss.backward()
        own = {name: weight.grad.cpu().clone() for name, weight in model.named_parameters() if weight.grad is not None}
        wanted = wanted or own
    worst = max(float((own[name] - wanted[name]).norm() / wanted[name].norm().clamp(min=1e-9)) for name in wanted)
    codec = paper_codec(check).to(check.device).requires_grad_(True)
    wav, found = 0.1 * torch.randn(2, 1, RATE, device=check.device), []
    for half in (False, True):
        codec.zero_grad(set_to_none=True)
        with torch.autocast(check.device.type, torch.bfloat16, enabled=half):
            codec.encoder(wav).float().square().mean().backward()
        weights = ((name, p.grad) for name, p in codec.encoder.named_parameters() if "lstm.weight" in name)
        found.append({name: grad.flatten() for name, grad in weights if grad is not None})
    exact, rough = found
    cosines = [float(torch.nn.functional.cosine_similarity(rough[name], exact[name], 0)) for name in exact]
    zeros = max(float((value == 0).float().mean()) for value in rough.values())
    check.say("gradients", language_model_error=worst, lstm_cosine=min(cosines), lstm_zeros=zeros)


# --- How fast is it? ---


def decode(check: Check) -> None:
    """Measure decoding with half a window behind it."""
    plan = [("base", 1), ("large", 1), ("base", 32), ("large", 32)]
    for size, batch in plan[: 1 if check.dry else None]:
        shape = small_model()[0] if check.dry else None
        setup = Setup(size, 1, batch, check.size(100, 5), "auto", check.size(2, 1), peer=False, shape=shape)
        setup = replace(setup, cached=setup.config.max_frames // 2)
        with check.peak() as memory:
            result = measure_lm(setup, check.device)
        names = ("steps_per_s", "real_time_factor", "floor_ratio", "bandwidth_gb_s", "dtype")
        check.say("decode", size=size, batch=batch, **{name: result[name] for name in names}, **memory)


def train(check: Check) -> None:
    """Measure a training step of the recipes."""
    for size in ("tiny",) if check.dry else ("base", "large"):
        shape = (1, 20) if check.dry else recipe_step(load_recipe(TrainConfig, f"lm-{size}"), 1)
        found = measure_training(size, 1, *shape, check.size(4, 1), check.device.type, peer=False)
        check.say("train", **{name: found[name] for name in found if not name.startswith("peer")})


def tokenize(check: Check) -> None:
    """Measure encoding as tokenize does it, and decoding: seconds of sound a second."""
    codec = paper_codec(check).to(check.device)
    seconds = check.size(10, 1)
    for rows in (2,) if check.dry else (16, DEVICE_ROWS):
        wav = 0.1 * torch.randn(rows, 1, seconds * RATE, device=check.device)
        lengths = [seconds * RATE - i for i in range(rows)]
        with check.peak() as memory:
            taken = check.seconds(partial(encode_batch, codec, wav, lengths))
        check.say("tokenize", rows=rows, encode_x_realtime=rows * seconds / taken, **memory)
    with torch.inference_mode():
        drawn = torch.randint(2048, (2, 1, seconds * int(FRAME_RATE)), device=check.device)
        check.say("tokenize", rows=2, decode_x_realtime=2 * seconds / check.seconds(lambda: codec.decode(drawn)))


def codec_step(check: Check) -> None:
    """Measure a step of the paper's codec against its discriminators."""
    config = load_recipe(CodecTrainConfig, "codec-x32", ["adversary_start=0"])
    if check.dry:
        network = replace(config.codec.network, channels=4)  # type: ignore[arg-type]
        small = replace(config.discriminator, channels=2)
        config = replace(config, codec=replace(config.codec, network=network), discriminator=small, batch_size=1)
    trainer = AdversarialTrainer(config, start_accelerator(config.precision, cpu=check.device.type == "cpu"))
    trainer.codec.quantizer.settle()
    samples = round(config.crop_seconds * RATE)
    wav = 0.1 * torch.randn(config.batch_size, 1, samples, device=check.device)
    with check.peak() as memory:
        seconds = check.seconds(lambda: trainer.train_step(wav))
    days = config.max_steps * seconds / 86_400
    check.say("codec_step", crops=config.batch_size, step_seconds=seconds, days=days, **memory)


def shapes(check: Check) -> None:
    """Measure what steps of new lengths cost, as they are and padded to a multiple."""
    model = AudioLanguageModel(base_shape(check, 5000)).to(check.device)
    for block in () if check.dry else model.blocks:
        block.compile(dynamic=True)
    text, mask = torch.randn(4, TEXTS, 32, device=check.device), torch.ones(4, TEXTS, dtype=torch.bool)
    mask = mask.to(check.device)

    def run(n_frames: int) -> float:
        drawn = torch.randint(2048, (4, 1, n_frames), device=check.device)

        def step() -> None:
            with torch.autocast(check.device.type, torch.bfloat16):
                output = model(drawn, text, mask)
            lm_loss(output, drawn).mean().backward()

        return time_in_turn({"step": step}, 1, check.device).median("step")

    lengths = torch.randint(check.size(1000, 100), check.size(1500, 300), (check.size(12, 2),)).tolist()
    for _ in range(2):
        run(lengths[0])
    times = {"new_s": [*map(run, lengths[1:])], "again_s": [*map(run, lengths[1:])]}
    times["padded_s"] = [run(-(-n // PAD_FRAMES) * PAD_FRAMES) for n in lengths[1:]]
    stats = {} if check.dry else dict(torch._dynamo.utils.counters["stats"])
    check.say("shapes", **{name: sum(each) / len(each) for name, each in times.items()}, compiled=stats)


def probe(check: Check) -> None:
    """Measure the making of a probe from the recipe's samples."""
    n_frames, rows, n_samples = check.size(5000, 50), check.size(8, 2), TrainConfig().probe_samples
    model = AudioLanguageModel(base_shape(check, n_frames)).to(check.device).eval().requires_grad_(False)
    drawn = torch.randint(2048, (rows, 1, n_frames), device=check.device)
    half = check.device.type == "cuda"
    with torch.inference_mode(), torch.autocast(check.device.type, torch.bfloat16, enabled=half):
        seconds = check.seconds(lambda: features(model, drawn))
    check.say("probe", seconds=seconds / rows * n_samples, samples=n_samples)


def first_sound(check: Check) -> None:
    """Measure a whole generate with the embedded model, from the start of the process."""
    if not check.dry:  # which would not measure the GPU
        check.say("first_sound", **measure_start(None, 2))


SECTIONS = (machine, decoding, codes, gradients, decode, train, tokenize, codec_step, shapes, probe, first_sound)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for gpu.jsonl")
    parser.add_argument("--only", default="", help=f"sections, of {', '.join(each.__name__ for each in SECTIONS)}")
    parser.add_argument("--dry", action="store_true", help="on the CPU, everything tiny")
    given = parser.parse_args()
    chosen = given.only.split(",") if given.only else [each.__name__ for each in SECTIONS]
    if not given.dry and not torch.cuda.is_available():
        parser.error("there is no GPU here; --dry tries the script on a CPU")
    given.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu") if given.dry else torch.device("cuda", 0)
    check = Check(device, given.dry, given.out / "gpu.jsonl", time.monotonic())
    for section in SECTIONS:
        name = section.__name__
        if name not in chosen:
            continue
        if time.monotonic() - check.began > BUDGET:
            check.say(name, skipped="out of time")
            continue
        try:
            section(check)
        except Exception as error:
            check.say(name, failed=repr(error)[:300], where=traceback.format_exc()[-700:])
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
