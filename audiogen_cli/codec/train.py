"""Training the codec (sec. 3.1): L_G for encoder, quantizer and decoder, L_D for the discriminators, step by step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from audiogen_cli import model_folder
from audiogen_cli.codec.config import CodecTrainConfig, LossConfig, SpectralConfig
from audiogen_cli.codec.dataset import CropDataset
from audiogen_cli.codec.discriminators import MultiScaleSTFTDiscriminator
from audiogen_cli.codec.losses import (
    Judgement,
    MelLoss,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
    time_loss,
)
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data.augment import AugmentConfig
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import AudiogenError, InputError, Interrupted
from audiogen_cli.malloc import reuse_memory
from audiogen_cli.training.checkpoint import list_checkpoints, load_state, save_checkpoint
from audiogen_cli.training.launch import StopSignal
from audiogen_cli.training.log import RunLog, record_run
from audiogen_cli.training.prefetch import load_batches
from audiogen_cli.training.sampler import RankBatchSampler
from audiogen_cli.training.schedule import learning_rate

QUIET = 0.1  # of the usual level, where decoders begin


@dataclass
class State:
    """Everything that a step changes."""

    codec: AudioCodec
    discriminator: MultiScaleSTFTDiscriminator
    codec_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    step: int = 0


@dataclass
class Report:
    """What a validation found. warnings: one sentence each, with the cause."""

    metrics: dict[str, float]
    warnings: list[str] = field(default_factory=list)


# Judges a codec on clips and may write sounds to hear into the folder. The metrics live in `evaluation`, which knows
# codecs; codecs do not know it, so a caller brings the two together.
Validator = Callable[[AudioCodec, Sequence[Clip], Path], Report]


def train(
    config: CodecTrainConfig,
    clips: Sequence[Clip],
    validation: Sequence[Clip],
    out: Path,
    validator: Validator | None = None,
    start_from: Path | None = None,
) -> Path:
    """Train a codec on crops of `clips` and write its model folder to `out`; run again, it resumes.

    validator: called every `validate_every` steps and at the end with at most `validate_clips` of the `validation`
    clips, spread over all of them, and the folder `out/reconstructions/step-NNNNNN`.
    start_from: folder of a codec whose weights to begin with; it may lack parts of the decoder, which begin afresh.
    Raises InputError if `out` holds a run with other settings or `start_from` another kind of codec, AudiogenError if
    the loss stops being a number.
    """
    accelerator = Accelerator(mixed_precision=config.precision)
    if accelerator.device.type == "cpu":
        reuse_memory()
    if config.batch_size % accelerator.num_processes:
        raise InputError(f"batch_size {config.batch_size} cannot be shared by {accelerator.num_processes} processes")
    torch.manual_seed(config.seed)
    state = build_state(config, accelerator.device)
    inputs: dict[str, Any] = {"clips": len(clips), "validation_clips": len(validation)}
    if start_from:
        state.codec.start_from(start_from)
        inputs["start_from"] = model_folder.fingerprint(start_from)
    if accelerator.is_main_process:
        record_run(out, config, inputs)
    if checkpoints := list_checkpoints(out):
        resume(state, checkpoints[-1])
    sample_rate = config.codec.sample_rate
    mel_loss = MelLoss(config.losses, sample_rate).to(accelerator.device)
    augment = AugmentConfig(config.mix, config.vary, config.fill)
    dataset = CropDataset(clips, config.crop_seconds, sample_rate, config.seed, augment)
    network = config.codec.network
    n_crops = network.start_crops if isinstance(network, SpectralConfig) else 0
    if state.step == 0 and n_crops and not start_from:
        state.codec.start(dataset[i][None].to(accelerator.device) for i in range(n_crops))
    size, steps = config.batch_size, range(state.step, config.max_steps)
    share = (accelerator.process_index, accelerator.num_processes)
    sampler = RankBatchSampler(lambda step: range(step * size, (step + 1) * size), steps, *share)
    heard = validation[:: max(1, len(validation) // config.validate_clips)][: config.validate_clips]
    log = RunLog(out, state.step, config.max_steps, accelerator.is_main_process)
    started = time.perf_counter()
    stopped = False
    with log, StopSignal() as stop:
        for batch in load_batches(dataset, sampler, config.workers):
            wav = batch.to(accelerator.device)
            metrics = train_step(state, wav, mel_loss, config, accelerator)
            if not all(math.isfinite(value) for name, value in metrics.items() if name != "lr"):
                ids = [dataset.clip(state.step * config.batch_size + i).id for i in range(config.batch_size)]
                raise AudiogenError(_diverged(state.step, ids, out))
            state.step += 1
            log.advance(state.step)
            if state.step % config.log_every == 0:
                seconds = time.perf_counter() - started
                started = time.perf_counter()
                log.write(state.step, {**metrics, "step_seconds": seconds / config.log_every})
            last = state.step == config.max_steps
            validating = bool(validator and heard) and (state.step % config.validate_every == 0 or last)
            stopped = stop.agreed(accelerator)
            saving = state.step % config.save_every == 0 or last or stopped
            if validator and validating and accelerator.is_main_process:
                folder = out / "reconstructions" / f"step-{state.step:06d}"
                report = validator(state.codec.eval(), heard, folder)
                shares = gradient_shares(state, wav, mel_loss, config, accelerator)
                log.write(state.step, {**report.metrics, **shares}, "val")
                for warning in report.warnings:
                    log.say(f"warning: {warning}")
            if saving and accelerator.is_main_process:
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
    start_quietly(codec)
    discriminator = MultiScaleSTFTDiscriminator(config.discriminator).to(device)
    if config.compile:
        # Not Q, whose search decides what runs next; not D, through whose graph two losses go back.
        codec.encoder.compile()
        codec.decoder.compile()
    return State(
        codec,
        discriminator,
        torch.optim.Adam(codec.parameters(), config.lr, config.betas),
        torch.optim.Adam(discriminator.parameters(), config.lr, config.betas),
    )


def start_quietly(codec: AudioCodec) -> None:
    """Initialise SEANet networks so that they hear quiet sounds and begin near silence; others stay as they are.

    # ours: a LayerNorm over channels divides by what the convolution's random bias gave, beside which a sound of -30 dB
    # is nothing; and a decoder that begins at full level teaches the encoder, first of all, to be still. Either way the
    # latents shrink to a point within a hundred steps and a handful of codes is left.
    """
    if codec.config.network.kind != "seanet":
        return
    layers = [layer for layer in codec.modules() if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)]
    for layer in layers:
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    if codec.config.network.norm == "layer":
        with torch.no_grad():
            layers[-1].weight.mul_(QUIET)


def train_step(
    state: State, wav: Tensor, mel_loss: MelLoss, config: CodecTrainConfig, accelerator: Accelerator
) -> dict[str, float]:
    """One step of both players on wav [B, 1, N], this process's share; returns what to log, means over processes.

    # ours: both move at once, each against the other as it was before the step. D then judges a batch once for both
    losses, which costs 7 passes through it where turns cost 9, and micro-batches need no second pass through G.
    """
    rate = learning_rate(state.step, config.lr, config.schedule, config.warmup_steps, config.max_steps)
    playing = config.codec.network.learns_from_audio and state.step >= config.adversary_start
    learning = playing and state.step % config.adversary_every == 0
    state.codec.train()
    # What the step draws (a flow's noise) follows from its number, so that a run that was stopped draws it again.
    torch.manual_seed((config.seed << 40) + (accelerator.process_index << 32) + state.step)
    sums: dict[str, Tensor] = {}
    for part in wav.split(config.micro_batch or len(wav)):
        with accelerator.autocast():
            output = state.codec(part)
        losses, share = {"commitment": output.commitment}, len(part) / len(wav)  # losses are means over clips
        heard: dict[str, Tensor] = {}  # the losses on decoded audio
        if output.spectrum is not None:
            losses["spectrum"] = output.spectrum
        if output.decoded is not None:
            decoded = output.decoded.float()
            judged = judge(state.discriminator, part, decoded, learning, accelerator) if playing else None
            heard = waveform_losses(part, decoded, mel_loss, judged)
            if judged and learning:
                losses["discriminator"] = discriminator_loss(*judged)
                # Only as far as D's parameters; the graph is kept for l_g and l_feat, which go through D to G.
                (share * losses["discriminator"]).backward(
                    inputs=[each for each in state.discriminator.parameters() if each.requires_grad], retain_graph=True
                )
        others = torch.stack(list(weigh(losses, config.losses).values())).sum()
        losses |= heard
        losses["loss"] = loss = torch.stack(list(weigh(losses, config.losses).values())).sum()
        roots, slopes = [share * loss], [torch.ones_like(loss)]
        if heard and config.losses.balance:
            roots, slopes = [decoded], [share * balance(heard, config.losses, decoded)]
            if others.requires_grad:  # until the codebooks have started, no latent is committed to anything
                roots, slopes = [*roots, share * others], [*slopes, torch.ones_like(others)]
        torch.autograd.backward(roots, slopes, inputs=[p for p in state.codec.parameters() if p.requires_grad])
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + share * value.detach()
    state.codec.quantizer.learn()
    if learning:
        update(state.discriminator, state.discriminator_optimizer, rate, config.grad_clip, accelerator)
    sums["grad_norm"] = update(state.codec, state.codec_optimizer, rate, config.grad_clip, accelerator)
    means = accelerator.reduce(torch.stack([value.float() for value in sums.values()]), "mean")
    return {**dict(zip(sums, means.tolist(), strict=True)), "lr": rate}


def judge(
    discriminator: MultiScaleSTFTDiscriminator, wav: Tensor, decoded: Tensor, learning: bool, accelerator: Accelerator
) -> tuple[Judgement, Judgement]:
    """What D makes of real and decoded audio, both [B, 1, N]. learning: D itself is to get gradients."""
    with accelerator.autocast():
        with torch.set_grad_enabled(learning):
            real = discriminator(wav)
        return real, discriminator(decoded)


def waveform_losses(
    wav: Tensor, decoded: Tensor, mel_loss: MelLoss, judged: tuple[Judgement, Judgement] | None
) -> dict[str, Tensor]:
    """The parts of L_G that look at decoded audio [B, 1, N], unweighted; without a judgement, the first two."""
    losses = {"time": time_loss(wav, decoded), "mel": mel_loss(wav, decoded)}
    if judged:
        losses |= {"adversarial": adversarial_loss(judged[1]), "feature": feature_loss(*judged)}
    return losses


def weigh(losses: dict[str, Tensor], weights: LossConfig) -> dict[str, Tensor]:
    """The terms of L_G: each loss that has a weight λ, times it."""
    return {name: getattr(weights, name) * value for name, value in losses.items() if hasattr(weights, name)}


def balance(losses: dict[str, Tensor], weights: LossConfig, decoded: Tensor) -> Tensor:
    """The gradient at decoded audio [B, 1, N] to which each loss adds its λ's share: its own, scaled to that norm.

    After EnCodec's balancer (Défossez 2022, sec. 3.4), whose averages over steps a whole batch makes needless.
    """
    shares = {name: getattr(weights, name) for name in losses if getattr(weights, name)}
    total = torch.zeros_like(decoded)
    for name, gradient in _pulls({name: losses[name] for name in shares}, decoded).items():
        total += shares[name] / sum(shares.values()) * gradient / gradient.norm().clamp(min=1e-20)
    return total


def _pulls(losses: dict[str, Tensor], decoded: Tensor) -> dict[str, Tensor]:
    """Each loss's gradient at decoded audio [B, 1, N]."""
    return {name: torch.autograd.grad(loss, decoded, retain_graph=True)[0] for name, loss in losses.items()}


def gradient_shares(
    state: State, wav: Tensor, mel_loss: MelLoss, config: CodecTrainConfig, accelerator: Accelerator
) -> dict[str, float]:
    """How much each weighted loss pulls at the decoder's output for wav [B, 1, N]: its gradient's norm over their sum.

    The commitment pulls at what comes before it and is not in it; spectral networks, which learn from no decoded audio,
    have none to tell. Nothing to tell either of balanced losses: their shares are the recipe's.
    """
    if not config.codec.network.learns_from_audio or config.losses.balance:
        return {}
    part = wav[: config.micro_batch or len(wav)]
    with torch.no_grad(), accelerator.autocast():
        decoded = state.codec.eval()(part).decoded.float()
    decoded.requires_grad_()
    playing = state.step >= config.adversary_start
    judged = judge(state.discriminator, part, decoded, False, accelerator) if playing else None
    losses = weigh(waveform_losses(part, decoded, mel_loss, judged), config.losses)
    norms = {name: gradient.norm() for name, gradient in _pulls(losses, decoded).items()}
    total = torch.stack(list(norms.values())).sum().clamp(min=1e-20)
    return {f"share_{name}": float(norm / total) for name, norm in norms.items()}


def update(
    network: nn.Module, optimizer: torch.optim.Optimizer, rate: float, grad_clip: float, accelerator: Accelerator
) -> Tensor:
    """One optimizer step on the gradients, averaged over processes. Returns their norm before clipping.

    Averaged by hand rather than by DDP: its hooks assume one forward and one backward a step, a GAN has more.
    """
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if accelerator.num_processes > 1:
        mean = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
    norm = clip_grad_norm_(network.parameters(), grad_clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


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
