"""Training the audio language model (sec. 3.2 eq. 3, sec. 4.1): cross-entropy on the audio's codes, given text."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.data.shards import ShardMeta, load_shards
from audiogen_cli.errors import AudiogenError, InputError, Interrupted
from audiogen_cli.interop import model_folder
from audiogen_cli.lm.config import LMConfig, TrainConfig
from audiogen_cli.lm.inputs import check_streams, find_codec
from audiogen_cli.lm.model import AudioLanguageModel, LMOutput
from audiogen_cli.lm.samples import Batch, StepSampler, TokenSamples, collate, step_batches
from audiogen_cli.lm.text import TextEncoder, load_text_encoder
from audiogen_cli.training.checkpoint import list_checkpoints, load_state, save_checkpoint
from audiogen_cli.training.launch import StopSignal
from audiogen_cli.training.log import RunLog, record_run
from audiogen_cli.training.schedule import learning_rate


@dataclass
class State:
    """Everything that a step changes."""

    model: AudioLanguageModel
    optimizer: torch.optim.Optimizer
    average: AudioLanguageModel | None  # running mean of the weights, if wanted
    step: int = 0

    @property
    def best(self) -> AudioLanguageModel:
        """The weights to validate and to save as the model: the running mean, else the latest."""
        return self.average or self.model


def train(config: TrainConfig, tokens: Path, codec: Path, out: Path) -> Path:
    """Train a language model on the `train` split of token shards and write its model folder to `out`.

    codec: the codec's model folder, copied into every model folder written. Run again, it resumes from the last
    checkpoint, on any number of processes. Raises InputError if shards, codec or an earlier run in `out` do not
    fit, AudiogenError if the loss stops being a number.
    """
    meta, codec = check_streams(tokens, None), find_codec(tokens, codec)
    accelerator = Accelerator(mixed_precision=config.precision)
    if config.optim.batch_size < accelerator.num_processes:
        raise InputError(
            f"optim.batch_size {config.optim.batch_size} is less than {accelerator.num_processes} processes"
        )
    encoder = load_text_encoder(config.text, accelerator.device)
    lm_config = build_config(config, meta, encoder)
    with accelerator.main_process_first():  # the first builds the memory-mapped files, the others find them
        samples = _samples(config, lm_config, tokens, "train")
        validation = _samples(config, lm_config, tokens, "val") if meta.counts.get("val") else None
    if accelerator.is_main_process:
        inputs = {"codec": meta.codec_fingerprint, "rows": len(samples.rows), "text": encoder.fingerprint}
        record_run(out, config, inputs)
    torch.manual_seed(config.seed)
    state = build_state(config, lm_config, accelerator.device)
    if checkpoints := list_checkpoints(out):
        resume(state, checkpoints[-1])
    network = accelerator.prepare(state.model)
    forward = torch.compile(network) if config.compile else network
    sampler = StepSampler(
        samples,
        config.optim.batch_size,
        config.optim.micro_batch,
        accelerator.process_index,
        accelerator.num_processes,
        state.step,
        config.max_steps,
    )
    log = RunLog(out, state.step, config.max_steps, accelerator.is_main_process)
    stopped, frames, waited, started = False, 0, 0.0, time.perf_counter()
    with log, StopSignal() as stop:
        if validation is None:
            log.say("no rows of split val in the shards: there will be no validation loss")
        batches = step_batches(sampler, config.workers, fixed_length=config.compile)
        while state.step < config.max_steps:
            waiting = time.perf_counter()
            step_frames, micro_batches = sampler.n_frames(state.step), next(batches)
            waited += time.perf_counter() - waiting
            metrics = train_step(state, network, forward, micro_batches, step_frames, encoder, config, accelerator)
            if not all(math.isfinite(value) for value in metrics.values()):
                raise AudiogenError(_diverged(state.step, micro_batches, out))
            state.step += 1
            frames += step_frames
            log.advance(state.step)
            if state.step % config.log_every == 0:
                seconds, started = time.perf_counter() - started, time.perf_counter()
                speed = {"tokens_per_s": frames * meta.n_q / seconds, "data_wait": waited / seconds}
                log.write(state.step, {**metrics, **speed})
                frames, waited = 0, 0.0
            last = state.step == config.max_steps
            if validation is not None and (state.step % config.validate_every == 0 or last):
                log.write(state.step, validate(state.best, validation, encoder, config, accelerator), "val")
            stopped = stop.agreed(accelerator)
            if (state.step % config.save_every == 0 or last or stopped) and accelerator.is_main_process:
                save(state, config, codec, out)
            if stopped:
                break
    if stopped:
        raise Interrupted(f"stopped after step {state.step}; run the same command again to go on")
    if accelerator.is_main_process:
        write_model(state.best, config, codec, out, getattr(torch, config.weights_dtype))
    accelerator.wait_for_everyone()
    return out


def build_config(config: TrainConfig, meta: ShardMeta, encoder: TextEncoder) -> LMConfig:
    """The model's configuration: the recipe's shape, and what shards, codec and text encoder fix."""
    return LMConfig(
        **asdict(config.model),
        n_q=meta.n_q,
        codebook_size=meta.codebook_size,
        frame_rate=meta.frame_rate,
        sample_rate=meta.sample_rate,
        codec_fingerprint=meta.codec_fingerprint,
        max_frames=max(1, round(config.crop_seconds * meta.frame_rate)),
        text=config.text,
        text_width=encoder.width,
        text_fingerprint=encoder.fingerprint,
        sampling=config.sampling,
    )


def build_state(config: TrainConfig, lm_config: LMConfig, device: torch.device) -> State:
    """A fresh model and optimizer. Weight decay, where wanted, is on matrices only."""
    optim = config.optim
    model = AudioLanguageModel(lm_config).to(device)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    fused = device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(groups, optim.lr, optim.betas, optim.eps, optim.weight_decay, fused=fused)
    average = copy.deepcopy(model).eval().requires_grad_(False) if config.ema_decay else None
    return State(model, optimizer, average)


def lm_loss(output: LMOutput, codes: Tensor) -> Tensor:
    """Cross-entropy of the codes (eq. 3), in nats, summed over the real frames: [K], one sum a stream."""
    targets = codes.masked_fill(~output.mask, -1)
    losses = F.cross_entropy(output.logits.float().flatten(0, 2), targets.flatten(), ignore_index=-1, reduction="none")
    return losses.unflatten(0, codes.shape).sum((0, 2))


def train_step(
    state: State,
    network: nn.Module,
    forward: Callable[..., LMOutput],
    micro_batches: Sequence[Batch],
    n_frames: int,
    encoder: TextEncoder,
    config: TrainConfig,
    accelerator: Accelerator,
) -> dict[str, float]:
    """One optimizer step; returns what to log.

    network: the model as accelerate prepared it; forward: the same, perhaps compiled. n_frames: frames of the
    whole step in all processes: with it the gradient is that of one large batch, however it is dealt out.
    """
    optim = config.optim
    rate = learning_rate(state.step, optim.lr, optim.schedule, optim.warmup_steps, config.max_steps)
    # Dropout's numbers are a function of the step, so that a resumed run draws what it would have drawn.
    seeds = np.random.SeedSequence([config.seed, 2, state.step, accelerator.process_index])
    torch.manual_seed(int(seeds.generate_state(1)[0]))
    state.model.train()
    sums = torch.zeros(state.model.config.n_q, device=accelerator.device)
    for number, batch in enumerate(micro_batches):
        codes, mask = batch.codes.to(accelerator.device), batch.frames_mask.to(accelerator.device)
        text, text_mask = (each.to(accelerator.device) for each in encoder.batch(batch.texts))
        last = number == len(micro_batches) - 1
        with nullcontext() if last else accelerator.no_sync(network):
            losses = lm_loss(forward(codes, text, text_mask, mask), codes)
            # The mean over streams and frames; DDP divides by the processes, hence the factor.
            accelerator.backward(losses.mean() * (accelerator.num_processes / n_frames))
        sums += losses.detach()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), optim.grad_clip or math.inf)
    if bool(norm.isfinite()):  # else the caller stops, with the weights of the step before
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.step()
        update_average(state, config.ema_decay)
    state.optimizer.zero_grad(set_to_none=True)
    streams = (accelerator.reduce(sums, "sum") / n_frames).tolist()
    each = {f"loss_{k}": loss for k, loss in enumerate(streams)} if len(streams) > 1 else {}
    return {"loss": sum(streams) / len(streams), **each, "grad_norm": float(norm), "lr": rate}


def update_average(state: State, decay: float) -> None:
    """Move the running mean of the weights, if there is one, towards them; faster in the first steps."""
    if state.average is not None:
        weight = 1 - min(decay, (1 + state.step) / (10 + state.step))
        torch._foreach_lerp_(list(state.average.parameters()), list(state.model.parameters()), weight)


@torch.inference_mode()
def validate(
    model: AudioLanguageModel,
    samples: TokenSamples,
    encoder: TextEncoder,
    config: TrainConfig,
    accelerator: Accelerator,
) -> dict[str, float]:
    """The loss on (at most validate_samples, evenly spaced) clips from their beginning, with their first text."""
    model.eval()
    total = min(config.validate_samples, len(samples.rows))
    chosen = (
        np.linspace(0, len(samples.rows) - 1, total)
        .round()
        .astype(int)[accelerator.process_index :: accelerator.num_processes]
    )
    sums = torch.zeros(model.config.n_q + 1, device=accelerator.device)  # per stream, and the frames
    for start in range(0, len(chosen), config.optim.micro_batch):
        batch = collate([samples.row(int(i)) for i in chosen[start : start + config.optim.micro_batch]])
        codes, mask = batch.codes.to(accelerator.device), batch.frames_mask.to(accelerator.device)
        text, text_mask = (each.to(accelerator.device) for each in encoder.batch(batch.texts))
        with accelerator.autocast():
            output = model(codes, text, text_mask, mask)
        sums[:-1] += lm_loss(output, codes)
        sums[-1] += mask.sum()
    sums = accelerator.reduce(sums, "sum")
    streams = (sums[:-1] / sums[-1]).tolist()
    each = {f"loss_{k}": loss for k, loss in enumerate(streams)} if len(streams) > 1 else {}
    return {"loss": sum(streams) / len(streams), **each}


def save(state: State, config: TrainConfig, codec: Path, out: Path) -> Path:
    """Write a checkpoint: a complete model folder with what resuming needs."""
    document: dict[str, Any] = {"optimizer": state.optimizer.state_dict()}
    if state.average is not None:
        document["model"] = state.model.state_dict()
    return save_checkpoint(
        out,
        state.step,
        lambda folder: write_model(state.best, config, codec, folder),
        document,
        config.keep_checkpoints,
    )


def resume(state: State, checkpoint: Path) -> None:
    """Put a checkpoint's weights, their running mean, the optimizer and the step into `state`."""
    document = load_state(checkpoint, next(state.model.parameters()).device)
    model_folder.load_into(state.best, checkpoint)
    if state.average is not None:
        state.model.load_state_dict(document["model"])
    state.optimizer.load_state_dict(document["optimizer"])
    state.step = document["step"]


def write_model(
    model: AudioLanguageModel, config: TrainConfig, codec: Path, folder: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write a language model's folder, its codec inside."""
    weights = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    model_folder.copy_model(codec, folder / "codec")
    model_folder.save_model(folder, "lm", model.config, weights, config.licence or model_folder.UNLICENSED)


def _samples(config: TrainConfig, lm_config: LMConfig, tokens: Path, split: str) -> TokenSamples:
    rows = load_shards(tokens, splits=[split])
    return TokenSamples(rows, lm_config.n_q, lm_config.max_frames, config.text_dropout, config.seed)


def _diverged(step: int, micro_batches: Sequence[Batch], out: Path) -> str:
    checkpoints = list_checkpoints(out)
    ids = ", ".join(id for batch in micro_batches for id in batch.ids)
    last = checkpoints[-1] if checkpoints else "none"
    return f"the loss is not a number at step {step} (samples: {ids}); last good checkpoint: {last}"
