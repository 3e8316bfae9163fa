"""Training the codec (sec. 3.1): the loop over steps, validation, checkpoints, the finished model folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiogen_cli import model_folder
from audiogen_cli.codec.config import CodecTrainConfig
from audiogen_cli.codec.dataset import CropDataset
from audiogen_cli.codec.light.train_step import LightTrainer
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.train_step import AdversarialTrainer, Trainer
from audiogen_cli.data.augment import AugmentConfig
from audiogen_cli.data.manifest import Clip
from audiogen_cli.devices import reuse_memory
from audiogen_cli.errors import InputError, Interrupted
from audiogen_cli.files import note
from audiogen_cli.model_card import write_card
from audiogen_cli.training.checkpoint import resume_newest
from audiogen_cli.training.gradient_guard import GradientGuard
from audiogen_cli.training.launch import StopSignal, start_accelerator
from audiogen_cli.training.log import RunLog, record_run, stopped_after
from audiogen_cli.training.prefetch import load_batches
from audiogen_cli.training.sampler import RankBatchSampler, spread_evenly
from audiogen_cli.training.throughput import Throughput

TRAINERS: dict[str, type[Trainer]] = {"seanet": AdversarialTrainer, "spectral": LightTrainer}  # by codec.network.kind


@dataclass
class ValidationReport:
    """The result of a validation.

    warnings: one sentence each, with the cause. unreadable: id and reason of the clips that were left out.
    """

    metrics: dict[str, float]
    warnings: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


# Scores a codec on clips; may write sounds to listen to into the folder. The metrics live in `evaluation`, which may
# import codecs but not the reverse, so a caller brings the two together.
Validator = Callable[[AudioCodec, Sequence[Clip], Path], ValidationReport]


def train(
    config: CodecTrainConfig,
    clips: Sequence[Clip],
    validation: Sequence[Clip],
    out: str | Path,
    validator: Validator | None = None,
    start_from: Path | None = None,
) -> Path:
    """Train a codec on crops of `clips` and write its model folder to `out`; called again, it resumes.

    validator: called every `validate_every` steps and at the end with at most `validate_clips` of the `validation`
    clips, spread over all of them, and the folder `out/reconstructions/step-NNNNNN`.
    start_from: folder of a codec whose weights to begin with; it may lack parts of the decoder, which begin afresh.
    Clips that cannot be read are left out and named once. A step whose gradient is not finite is skipped.
    Raises InputError if `out` holds a run with other settings, `start_from` another kind of codec, or hardly a clip can
    be read; AudiogenError if step after step has to be skipped.
    """
    out, accelerator = Path(out), start_accelerator(config.precision)
    if accelerator.device.type == "cpu":
        reuse_memory()
    if config.batch_size % accelerator.num_processes:
        raise InputError(f"batch_size {config.batch_size} cannot be shared by {accelerator.num_processes} processes")
    torch.manual_seed(config.seed)
    if start_from:  # what is made of another's weights is under the license of those
        config = replace(config, license=config.license or model_folder.read_license(start_from))

    sample_rate = config.codec.sample_rate
    augment = AugmentConfig(config.mix, config.vary, config.fill)
    crops = CropDataset(clips, config.crop_seconds, sample_rate, config.seed, augment)
    trainer = TRAINERS[config.codec.network.kind](config, accelerator)
    inputs: dict[str, Any] = {"datasets": sorted({clip.dataset for clip in clips}), "clips": len(clips)}
    if start_from:
        trainer.codec.start_from(start_from)
        inputs["base_model"] = model_folder.model_name(start_from)
        inputs["start_from"] = model_folder.fingerprint(start_from)

    if accelerator.is_main_process:
        record_run(out, config, inputs)
    resumed = resume_newest(out, trainer.resume, note if accelerator.is_main_process else str)
    if not (resumed or start_from):
        trainer.initialize(crops)

    # Each process takes consecutive crops: gathered for k-means, they have the order that one process would see.
    share = config.batch_size // accelerator.num_processes
    places = [place for first in range(share) for place in range(first, config.batch_size, share)]
    sampler = RankBatchSampler(
        lambda step: [step * config.batch_size + place for place in places],
        range(trainer.step, config.max_steps),
        accelerator.process_index,
        accelerator.num_processes,
    )
    validation = [validation[i] for i in spread_evenly(len(validation), config.validate_clips)]
    log = RunLog(out, trainer.step, config.max_steps, config.log_every, accelerator.is_main_process)
    guard = GradientGuard(out)
    if trainer.step < config.max_steps:
        log.say_trial(trainer.try_step(share))
    batches = load_batches(crops, sampler, config.workers, crops.collate)
    throughput = Throughput(accelerator.device)
    with log, StopSignal() as stop:
        if validator and not validation:
            log.say("no clips of split val: there will be no validation")
        while trainer.step < config.max_steps:
            with throughput.waiting():
                batch = next(batches)
            wav = batch.wav.to(accelerator.device)
            metrics = trainer.train_step(wav, stop.asked)
            if metrics is None:
                trainer.codec.quantizer.broadcast()
                save(trainer, out)
                raise Interrupted(stopped_after(trainer.step))
            first = trainer.step * config.batch_size
            ids = (crops.clip(i).id for i in range(first, first + config.batch_size))
            trainer.step += 1
            if skipped := guard.note(trainer.step, math.isfinite(metrics["grad_norm"]), ids):
                log.say(f"warning: {skipped}")
            log.leave_out(batch.unreadable)
            throughput.add()
            log.advance(trainer.step)
            if log.due(trainer.step):
                log.write(trainer.step, {**metrics, **guard.metrics(), **throughput.read()})
            last = trainer.step == config.max_steps
            with throughput.paused():
                stopped = stop.agreed(accelerator)
                if saving := last or stopped or trainer.step % config.save_every == 0:
                    trainer.codec.quantizer.broadcast()
                due = last or trainer.step % config.validate_every == 0
                if due and validator and validation and accelerator.is_main_process:
                    validate(trainer, validator, validation, wav, out, log)
                if saving:
                    save(trainer, out)
            if stopped and not last:
                raise Interrupted(stopped_after(trainer.step))

    if not trainer.codec.quantizer.started:
        log.say("the codebooks are still random: train longer, or lower quantizer.kmeans_vectors or .start_step")
    if accelerator.is_main_process:
        license = config.license or model_folder.UNLICENSED
        trainer.codec.save(out, license, getattr(torch, config.weights_dtype))
        write_card(out, out)
    accelerator.wait_for_everyone()
    return out


def save(trainer: Trainer, out: Path) -> None:
    """Write a checkpoint in the main process; the others wait, for a launcher ends all when one has ended."""
    try:
        if trainer.accelerator.is_main_process:
            trainer.save(out)
    finally:
        trainer.accelerator.wait_for_everyone()


def validate(
    trainer: Trainer, validator: Validator, clips: Sequence[Clip], wav: Tensor, out: Path, log: RunLog
) -> None:
    """Run the validator on the codec as it is; log what it found, and the gradient shares for wav [B, 1, N]."""
    report = validator(trainer.codec.eval(), clips, out / "reconstructions" / f"step-{trainer.step:06d}")
    log.write(trainer.step, {**report.metrics, **trainer.gradient_shares(wav)}, "val")
    for warning in report.warnings:
        log.say(f"warning: {warning}")
    log.leave_out(report.unreadable)
