"""Training the audio language model (sec. 3.2 eq. 3, sec. 4.1): cross-entropy on the audio's codes, given text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli import model_folder
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.tokenize import describe
from audiogen_cli.data.manifest import Clip, load_manifests
from audiogen_cli.data.shards import ShardMeta, load_shards
from audiogen_cli.errors import AudiogenError, InputError, Interrupted
from audiogen_cli.lm.config import LMConfig, TrainConfig
from audiogen_cli.lm.flops import training_flops
from audiogen_cli.lm.model import AudioLanguageModel, LMOutput
from audiogen_cli.lm.text.cache import CachedTexts
from audiogen_cli.lm.text.encoders import TextEncoder, load_text_encoder
from audiogen_cli.lm.training.datasets import Batch, Deal, Samples, ShareSampler, TokenSamples, collate, step_batches
from audiogen_cli.lm.training.on_the_fly import SoundSamples
from audiogen_cli.lm.training.preflight import check_shards, check_start, codec_of_shards
from audiogen_cli.lm.training.previews import generate_samples
from audiogen_cli.lm.training.probe import train_probe
from audiogen_cli.lm.training.state import (
    State,
    best_weights,
    build_state,
    clip_gradients,
    resume,
    save,
    update_average,
    write_model,
)
from audiogen_cli.malloc import reuse_memory
from audiogen_cli.training.checkpoint import list_checkpoints
from audiogen_cli.training.launch import StopSignal
from audiogen_cli.training.log import RunLog, Track, record_run
from audiogen_cli.training.prefetch import prefetch
from audiogen_cli.training.schedule import learning_rate
from audiogen_cli.training.throughput import Throughput

GRAD_CLIP = 1.0  # largest gradient norm; ours: GPT-3's


@dataclass
class Data:
    """What a run trains on. rows: of the train split; validation: None if there is no val split."""

    meta: ShardMeta
    train: Samples
    validation: Samples | None


def train(
    config: TrainConfig,
    tokens: Path | None,
    codec: Path,
    out: Path,
    manifests: Path | None = None,
    start_from: Path | None = None,
    trackers: Sequence[str] = (),
) -> Path:
    """Train a language model on token shards and write its model folder to `out`.

    manifests: a manifest or a folder of them, instead of `tokens`: recordings are then mixed and encoded on the fly.
    codec: the codec's model folder, copied into every model folder written. start_from: folder of a language model
    whose weights to begin with. Run again, it resumes from the last checkpoint, on any number of processes. Raises
    InputError if data, codec, the model to begin with or an earlier run in `out` do not fit, AudiogenError if the loss
    stops being a number or the disk is full.
    """
    if manifests is None:
        codec = codec_of_shards(_given(tokens), codec)
    accelerator = Accelerator(mixed_precision=config.precision, log_with=list(trackers) or None, project_dir=out)
    if accelerator.device.type == "cpu":
        reuse_memory()
    _check_processes(config, accelerator)
    encoder = load_text_encoder(config.text, accelerator.device)
    if config.text_cache:
        encoder = CachedTexts(encoder, Path(config.text_cache).expanduser())
    with accelerator.main_process_first():  # the first builds the memory-mapped files, the others find them
        data = _mixed(config, manifests, codec, accelerator.device) if manifests else _shards(config, _given(tokens))
    lm_config = build_config(config, data.meta, encoder)
    if start_from:
        check_start(start_from, lm_config)
    if accelerator.is_main_process:
        inputs = {"codec": data.meta.codec_fingerprint, "rows": len(data.train), "text": encoder.fingerprint}
        if manifests:
            inputs["source"] = "manifests"
        if start_from:
            inputs["start_from"] = model_folder.fingerprint(start_from)
        record_run(out, config, inputs)
    torch.manual_seed(config.seed)
    state = build_state(config, lm_config, accelerator, codec, start_from)
    if checkpoints := list_checkpoints(out):
        resume(state, checkpoints[-1])
    deal = Deal(data.train, config.optim.batch_size, config.bucket_steps, config.seed)
    steps = range(state.step, config.max_steps)
    share = (config.optim.micro_batch, accelerator.process_index, accelerator.num_processes)
    throughput = Throughput(accelerator.device, _flops_per_token(config, lm_config), accelerator.num_processes)
    log = RunLog(out, state.step, config.max_steps, accelerator.is_main_process, _tracker(trackers, accelerator))
    stopped = False
    batches = prefetch(step_batches(ShareSampler(deal, *share, steps), config.workers))
    with log, StopSignal() as stop, closing(batches):
        if data.validation is None:
            log.say("no rows of split val: there will be no validation loss")
        while state.step < config.max_steps:
            with throughput.waiting():
                micro_batches = next(batches)
            frames = deal.n_frames(state.step)
            metrics = train_step(state, micro_batches, frames, encoder, config, accelerator)
            if not all(math.isfinite(value) for value in metrics.values()):
                raise AudiogenError(_diverged(state.step, micro_batches, out))
            state.step += 1
            throughput.add(frames * lm_config.n_q)
            log.advance(state.step)
            for failure in (failure for batch in micro_batches for failure in batch.failed):
                log.say(f"left out of step {state.step}: {failure}")
            if state.step % config.log_every == 0:
                log.write(state.step, {**metrics, **throughput.read()})
            last = state.step == config.max_steps
            with throughput.paused():
                if data.validation is not None and (state.step % config.validate_every == 0 or last):
                    log.write(state.step, validate(state, data.validation, encoder, config, accelerator), "val")
                if config.previews.every and state.step % config.previews.every == 0:
                    listen(state, config, codec, encoder, out, accelerator)
                stopped = stop.agreed(accelerator)
                if state.step % config.save_every == 0 or last or stopped:
                    save(state, config, codec, out, accelerator)
            if stopped:
                break
    if stopped:
        raise Interrupted(f"stopped after step {state.step}; run the same command again to go on")
    weights = best_weights(state, accelerator.is_main_process)
    if accelerator.is_main_process:
        write_model(weights, lm_config, config, codec, out, getattr(torch, config.weights_dtype))
        write_probe(config, data.train, encoder, out, accelerator.device, log.say)
    accelerator.wait_for_everyone()
    if trackers:
        accelerator.end_training()
    return out


def write_probe(
    config: TrainConfig,
    samples: Samples,
    encoder: TextEncoder,
    out: Path,
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """Make the finished model's probe and write it into its folder; none if the recipe wants none."""
    (out / model_folder.PROBE_FILE).unlink(missing_ok=True)
    if not config.probe_samples:
        return
    say(f"making the probe from {min(config.probe_samples, len(samples))} samples")
    model = AudioLanguageModel.load(out, device)
    probe = train_probe(model, samples, encoder, config.probe_samples, config.optim.micro_batch)
    if probe:
        probe.save(out)


def build_config(config: TrainConfig, meta: ShardMeta, encoder: TextEncoder) -> LMConfig:
    """The model's configuration: the recipe's shape, and what the codec and the text encoder fix."""
    return LMConfig(
        **config.model.settings(),
        n_q=meta.n_q,
        codebook_size=meta.codebook_size,
        frame_rate=meta.frame_rate,
        sample_rate=meta.sample_rate,
        codec_fingerprint=meta.codec_fingerprint,
        max_frames=_crop_frames(config, meta),
        text=config.text,
        text_width=encoder.width,
        text_fingerprint=encoder.fingerprint,
        sampling=config.sampling,
    )


def lm_loss(output: LMOutput, codes: Tensor) -> Tensor:
    """Cross-entropy of the codes (eq. 3), in nats, summed over the real frames: [K], one sum a stream."""
    targets = codes.masked_fill(~output.mask, -1)
    losses = F.cross_entropy(output.logits.float().flatten(0, 2), targets.flatten(), ignore_index=-1, reduction="none")
    return losses.unflatten(0, codes.shape).sum((0, 2))


def train_step(
    state: State,
    micro_batches: Sequence[Batch],
    n_frames: int,
    encoder: TextEncoder,
    config: TrainConfig,
    accelerator: Accelerator,
) -> dict[str, float]:
    """One optimizer step; returns what to log.

    n_frames: frames of the whole step in all processes: with it the gradient is that of one large batch, however it
    is dealt out.
    """
    optim = config.optim
    rate = learning_rate(state.step, optim.lr, optim.schedule, optim.warmup_steps, config.max_steps)
    # Dropout's numbers are a function of the step, so that a resumed run draws what it would have drawn.
    seeds = np.random.SeedSequence([config.seed, 2, state.step, accelerator.process_index])
    torch.manual_seed(int(seeds.generate_state(1)[0]))
    state.model.train()
    sums = torch.zeros(state.model.config.n_q, device=accelerator.device)
    for number, batch in enumerate(micro_batches):
        last = number == len(micro_batches) - 1
        with nullcontext() if last else accelerator.no_sync(state.network):
            losses = _batch_loss(state.network, batch, encoder, accelerator, config.code_dropout, config.text_noise)
            # The mean over streams and frames; DDP and FSDP divide by the processes, hence the factor.
            accelerator.backward(losses.mean() * (accelerator.num_processes / n_frames))
        sums += losses.detach()
    norm = clip_gradients(state, GRAD_CLIP)
    if bool(norm.isfinite()):  # else the caller stops, with the weights of the step before
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.step()
        update_average(state, config.ema_decay)
    state.optimizer.zero_grad(set_to_none=True)
    return {**_means(accelerator.reduce(sums, "sum") / n_frames), "grad_norm": float(norm), "lr": rate}


@torch.no_grad()
def validate(
    state: State, samples: Samples, encoder: TextEncoder, config: TrainConfig, accelerator: Accelerator
) -> dict[str, float]:
    """The loss on (at most validate_samples, evenly spaced) clips from their beginning, with their first text."""
    total, size = min(config.validate_samples, len(samples)), config.optim.micro_batch
    chosen = np.linspace(0, len(samples) - 1, total).round().astype(int).tolist()
    own = chosen[accelerator.process_index :: accelerator.num_processes]
    sums = torch.zeros(state.model.config.n_q + 1, device=accelerator.device)  # per stream, and the frames
    with state.best() as model:
        model.eval()
        # As many batches in every process, of nothing where need be: sharded weights are gathered by all together.
        for start in range(0, math.ceil(total / accelerator.num_processes), size):
            rows = own[start : start + size]
            batch = collate([samples.row(index) for index in rows or chosen[:1]])
            sums[:-1] += _batch_loss(model, batch, encoder, accelerator) * bool(rows)
            sums[-1] += int(batch.frames_mask.sum()) * bool(rows)
    sums = accelerator.reduce(sums, "sum")
    return _means(sums[:-1] / sums[-1])


def listen(
    state: State, config: TrainConfig, codec: Path, encoder: TextEncoder, out: Path, accelerator: Accelerator
) -> None:
    """Generate the recipe's prompts into `<out>/samples/step-NNNNNN`. Every process must call it; one works."""
    weights = best_weights(state, accelerator.is_main_process)
    if accelerator.is_main_process:
        folder = out / "samples" / f"step-{state.step:06d}"
        decoder = AudioCodec.load(codec, accelerator.device)
        generate_samples(weights, state.model.config, decoder, encoder, config.previews, folder)


def swap_codes(codes: Tensor, share: float) -> Tensor:
    """Codes [B, K, T], `share` of them replaced by what the sample before, of the same micro-batch, has in their place.

    # ours: what a model reads when it generates is never quite what it has learnt from, and what it reads tells it more
    than the text does. So each sample has a share of its own, from none to all, whose mean is `share`: with most of its
    codes another's, a model learns that it is the text which counts.
    """
    if not 0 < share < 1:
        return codes.roll(1, 0) if share else codes
    own = torch.rand(len(codes), 1, 1, device=codes.device) ** (1 / share - 1)
    return torch.where(torch.rand(codes.shape, device=codes.device) < own, codes.roll(1, 0), codes)


def blur_text(text: Tensor, most: float) -> Tensor:
    """Text vectors [B, L, D] with noise of up to `most` times their lengths; they stay about as long as they were.

    # ours: a word that no training text has lies between those that they have. Each sample has a strength of its own,
    evenly spread from 0 to `most`, so that a model learns the neighbourhood of a word along with the word.
    """
    if not most:
        return text
    strength = most * torch.rand(len(text), 1, 1, device=text.device)
    noise = torch.randn_like(text) * (text.norm(dim=-1, keepdim=True) / math.sqrt(text.shape[-1]))
    return (text + strength * noise) / (1 + strength**2).sqrt()


def _batch_loss(
    network: nn.Module,
    batch: Batch,
    encoder: TextEncoder,
    accelerator: Accelerator,
    code_dropout: float = 0.0,
    text_noise: float = 0.0,
) -> Tensor:
    device = accelerator.device
    codes, mask = batch.codes.to(device), batch.frames_mask.to(device)
    text, text_mask = (each.to(device) for each in encoder.batch(batch.texts))
    text = blur_text(text, text_noise)
    read = swap_codes(codes, code_dropout)
    with accelerator.autocast():
        output = network(read, text, text_mask, mask)
    return lm_loss(output, codes)


def _means(streams: Tensor) -> dict[str, float]:
    losses = streams.tolist()
    each = {f"loss_{k}": loss for k, loss in enumerate(losses)} if len(losses) > 1 else {}
    return {"loss": sum(losses) / len(losses), **each}


def _shards(config: TrainConfig, tokens: Path) -> Data:
    meta = check_shards(tokens)

    def samples(split: str) -> Samples:
        rows = load_shards(tokens, splits=[split])
        return TokenSamples(rows, meta.n_q, _crop_frames(config, meta), config.text_dropout, config.seed)

    return Data(meta, samples("train"), samples("val") if meta.counts.get("val") else None)


def _mixed(config: TrainConfig, manifests: Path, codec: Path, device: torch.device) -> Data:
    encoder = AudioCodec.load(codec, device)
    meta = describe(encoder)

    def samples(clips: Sequence[Clip], mix: float) -> Samples:
        return SoundSamples(clips, encoder, _crop_frames(config, meta), mix, config.text_dropout, config.seed)

    clips = load_manifests(manifests, splits=["train"])
    held_out = len(load_manifests(manifests, splits=["train", "val"])) > len(clips)
    validation = samples(load_manifests(manifests, splits=["val"]), 0.0) if held_out else None
    return Data(meta, samples(clips, config.mix), validation)


def _crop_frames(config: TrainConfig, meta: ShardMeta) -> int:
    return max(1, round(config.crop_seconds * meta.frame_rate))


def _flops_per_token(config: TrainConfig, lm_config: LMConfig) -> float | None:
    if config.precision != "bf16":
        return None
    return training_flops(lm_config, lm_config.max_frames) / (lm_config.max_frames * lm_config.n_q)


def _check_processes(config: TrainConfig, accelerator: Accelerator) -> None:
    size, processes = config.optim.batch_size, accelerator.num_processes
    if size < processes:
        raise InputError(f"optim.batch_size {size} is less than {processes} processes")
    if config.distributed == "fsdp" and size % processes:
        raise InputError(f"optim.batch_size {size} cannot be shared evenly by {processes} processes: fsdp needs that")


def _given(tokens: Path | None) -> Path:
    if tokens is None:
        raise InputError("give token shards or manifests to train on")
    return tokens


def _tracker(trackers: Sequence[str], accelerator: Accelerator) -> Track | None:
    if not trackers:
        return None
    accelerator.init_trackers("audiogen")
    return lambda numbers, step: accelerator.log(dict(numbers), step=step)


def _diverged(step: int, micro_batches: Sequence[Batch], out: Path) -> str:
    """Every process must ask: the ids are those of all."""
    checkpoints = list_checkpoints(out)
    ids = ", ".join(gather_object([id for batch in micro_batches for id in batch.ids]))
    last = checkpoints[-1] if checkpoints else "none"
    return f"the loss is not a number at step {step} (samples: {ids}); last good checkpoint: {last}"
