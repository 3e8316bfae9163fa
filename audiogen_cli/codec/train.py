"""Training the codec (sec. 3.1): L_G for encoder, quantizer and decoder, L_D for the discriminators, in turn."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from audiogen_cli.codec.config import CodecTrainConfig, SpectralConfig
from audiogen_cli.codec.crops import CropDataset, RankSampler, crop_batches
from audiogen_cli.codec.discriminators import MultiScaleSTFTDiscriminator
from audiogen_cli.codec.losses import (
    MelLoss,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
    si_snr,
    time_loss,
)
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.audio import read_audio
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import AudiogenError, InputError, Interrupted
from audiogen_cli.interop import model_folder
from audiogen_cli.training.checkpoint import list_checkpoints, load_state, save_checkpoint
from audiogen_cli.training.launch import StopSignal
from audiogen_cli.training.log import RunLog, record_run
from audiogen_cli.training.schedule import learning_rate


@dataclass
class State:
    """Everything that a step changes."""

    codec: AudioCodec
    discriminator: MultiScaleSTFTDiscriminator
    codec_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    step: int = 0


def train(config: CodecTrainConfig, clips: Sequence[Clip], validation: Sequence[Clip], out: Path) -> Path:
    """Train a codec on crops of `clips` and write its model folder to `out`; run again, it resumes.

    validation: clips that are reconstructed every `validate_every` steps; may be empty.
    Raises InputError if `out` holds a run with other settings, AudiogenError if the loss stops being a number.
    """
    accelerator = Accelerator(mixed_precision=config.precision)
    if config.batch_size % accelerator.num_processes:
        raise InputError(f"batch_size {config.batch_size} cannot be shared by {accelerator.num_processes} processes")
    if accelerator.is_main_process:
        record_run(out, config, {"clips": len(clips), "validation_clips": len(validation)})
    torch.manual_seed(config.seed)
    state = build_state(config, accelerator.device)
    if checkpoints := list_checkpoints(out):
        resume(state, checkpoints[-1])
    mel_loss = MelLoss(config.losses, config.codec.sample_rate).to(accelerator.device)
    dataset = CropDataset(clips, config.crop_seconds, config.codec.sample_rate, config.seed)
    if state.step == 0 and isinstance(config.codec.network, SpectralConfig):
        state.codec.start(dataset[i][None].to(accelerator.device) for i in range(config.codec.network.start_crops))
    sampler = RankSampler(
        config.batch_size, accelerator.process_index, accelerator.num_processes, state.step, config.max_steps
    )
    log = RunLog(out, state.step, config.max_steps, accelerator.is_main_process)
    started = time.perf_counter()
    stopped = False
    with log, StopSignal() as stop:
        for batch in crop_batches(dataset, sampler, config.workers):
            metrics = train_step(state, batch.to(accelerator.device), mel_loss, config, accelerator)
            if not math.isfinite(metrics["loss"]):
                ids = [dataset.clip(state.step * config.batch_size + i).id for i in range(config.batch_size)]
                raise AudiogenError(_diverged(state.step, ids, out))
            state.step += 1
            log.advance(state.step)
            if state.step % config.log_every == 0:
                seconds = time.perf_counter() - started
                started = time.perf_counter()
                log.write(state.step, {**metrics, "step_seconds": seconds / config.log_every})
            last = state.step == config.max_steps
            if validation and (state.step % config.validate_every == 0 or last) and accelerator.is_main_process:
                log.write(state.step, validate(state.codec, validation[: config.validate_clips], mel_loss), "val")
            stopped = stop.agreed(accelerator)
            if (state.step % config.save_every == 0 or last or stopped) and accelerator.is_main_process:
                save(state, config, out)
            if stopped:
                break
    if stopped:
        raise Interrupted(f"stopped after step {state.step}; run the same command again to go on")
    if not state.codec.quantizer.started:
        log.say("the codebooks are still random: train longer, or lower quantizer.kmeans_vectors or .start_step")
    if accelerator.is_main_process:
        state.codec.save(out, config.licence or model_folder.UNLICENSED, getattr(torch, config.weights_dtype))
    accelerator.wait_for_everyone()
    return out


def build_state(config: CodecTrainConfig, device: torch.device) -> State:
    """Fresh networks and optimizers."""
    codec = AudioCodec(config.codec).to(device)
    codec.quantizer.learning = config.quantizer
    discriminator = MultiScaleSTFTDiscriminator(config.discriminator).to(device)
    return State(
        codec,
        discriminator,
        torch.optim.Adam(codec.parameters(), config.lr, config.betas),
        torch.optim.Adam(discriminator.parameters(), config.lr, config.betas),
    )


def train_step(
    state: State, wav: Tensor, mel_loss: MelLoss, config: CodecTrainConfig, accelerator: Accelerator
) -> dict[str, float]:
    """One step of both players on wav [B, 1, N], the discriminators first; returns what to log."""
    rate = learning_rate(state.step, config.lr, config.schedule, config.warmup_steps, config.max_steps)
    state.codec.train()
    with accelerator.autocast():
        output = state.codec(wav)
    losses, metrics = {"commitment": output.commitment}, {}
    if output.spectrum is not None:
        losses["spectrum"] = output.spectrum
    else:
        decoded = output.decoded.float()
        losses |= {"time": time_loss(wav, decoded), "mel": mel_loss(wav, decoded)}
        if state.step >= config.adversary_start:
            if state.step % config.adversary_every == 0:
                metrics["discriminator"] = discriminator_step(state, wav, decoded.detach(), rate, config, accelerator)
            losses |= adversary_losses(state.discriminator, wav, decoded, accelerator)
    loss = torch.stack([getattr(config.losses, name) * value for name, value in losses.items()]).sum()
    norm = update(state.codec, state.codec_optimizer, loss, rate, config.grad_clip, accelerator)

    metrics |= {"loss": loss, **losses, "grad_norm": norm}
    return {name: float(value.detach()) for name, value in metrics.items()} | {"lr": rate}


def discriminator_step(
    state: State, wav: Tensor, decoded: Tensor, rate: float, config: CodecTrainConfig, accelerator: Accelerator
) -> Tensor:
    """Train D on real and (detached) decoded audio, both [B, 1, N]; returns L_D."""
    with accelerator.autocast():
        loss = discriminator_loss(state.discriminator(wav), state.discriminator(decoded))
    update(state.discriminator, state.discriminator_optimizer, loss, rate, config.grad_clip, accelerator)
    return loss


def adversary_losses(
    discriminator: MultiScaleSTFTDiscriminator, wav: Tensor, decoded: Tensor, accelerator: Accelerator
) -> dict[str, Tensor]:
    """l_g and l_feat for wav and decoded [B, 1, N]; D itself gets no gradient."""
    discriminator.requires_grad_(False)
    with accelerator.autocast():
        with torch.no_grad():
            real = discriminator(wav)
        fake = discriminator(decoded)
        losses = {"adversarial": adversarial_loss(fake), "feature": feature_loss(real, fake)}
    discriminator.requires_grad_(True)
    return losses


def update(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    rate: float,
    grad_clip: float,
    accelerator: Accelerator,
) -> Tensor:
    """One optimizer step on `loss`; gradients are averaged over processes. Returns their norm before clipping."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [parameter for parameter in network.parameters() if parameter.grad is not None]
    if accelerator.num_processes > 1:
        # Done by hand rather than by DDP: its hooks assume one forward and one backward a step, a GAN has more.
        for parameter in parameters:
            parameter.grad = accelerator.reduce(parameter.grad, "mean")
    norm = clip_grad_norm_(parameters, grad_clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return norm


@torch.no_grad()
def validate(codec: AudioCodec, clips: Iterable[Clip], mel_loss: MelLoss) -> dict[str, float]:
    """Reconstruct whole clips: SI-SNR in dB, mel distance, and per stream the share of codes used and perplexity."""
    codec.eval()
    device = next(codec.parameters()).device
    ratios, mels = [], []
    counts = torch.zeros(codec.n_q, codec.codebook_size)
    for clip in clips:
        samples = read_audio(clip.audio_path, codec.sample_rate, clip.start, clip.duration)
        wav = torch.from_numpy(samples)[None, None].to(device)
        codes = codec.encode(wav)
        decoded = codec.decode(codes)[..., : wav.shape[-1]]
        ratios.append(float(si_snr(wav, decoded)))
        mels.append(float(mel_loss(wav, decoded)))
        for k in range(codec.n_q):
            counts[k] += torch.bincount(codes[0, k].cpu(), minlength=codec.codebook_size)
    heard = [ratio for ratio in ratios if math.isfinite(ratio)]
    metrics = {"si_snr": sum(heard) / max(1, len(heard)), "mel": sum(mels) / len(mels)}
    for k, stream in enumerate(counts):
        share = stream[stream > 0] / stream.sum()
        metrics[f"usage_{k}"] = float((stream > 0).float().mean())
        metrics[f"perplexity_{k}"] = float((-share * share.log()).sum().exp())
    return metrics


def save(state: State, config: CodecTrainConfig, out: Path) -> Path:
    """Write a checkpoint: a codec model folder with what resuming needs."""
    document: dict[str, Any] = {
        "discriminator": state.discriminator.state_dict(),
        "codec_optimizer": state.codec_optimizer.state_dict(),
        "discriminator_optimizer": state.discriminator_optimizer.state_dict(),
        "quantizer": state.codec.quantizer.learning_state(),
    }
    licence = config.licence or model_folder.UNLICENSED
    return save_checkpoint(
        out, state.step, lambda folder: state.codec.save(folder, licence), document, config.keep_checkpoints
    )


def resume(state: State, checkpoint: Path) -> None:
    """Put a checkpoint's weights, optimizers, codebook statistics and step into `state`."""
    device = next(state.codec.parameters()).device
    model_folder.load_into(state.codec, checkpoint)
    document = load_state(checkpoint, device)
    state.discriminator.load_state_dict(document["discriminator"])
    state.codec_optimizer.load_state_dict(document["codec_optimizer"])
    state.discriminator_optimizer.load_state_dict(document["discriminator_optimizer"])
    state.codec.quantizer.load_learning_state(document["quantizer"])
    state.step = document["step"]


def _diverged(step: int, ids: Sequence[str], out: Path) -> str:
    checkpoints = list_checkpoints(out)
    last = checkpoints[-1] if checkpoints else "none"
    return f"the loss is not a number at step {step} (batch: {', '.join(ids)}); last good checkpoint: {last}"
