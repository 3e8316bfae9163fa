"""One step of the codec's training (sec. 3.1): L_D for the discriminators, L_G for encoder, quantizer and decoder."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from audiogen_cli import model_folder
from audiogen_cli.codec.config import CodecTrainConfig, LossConfig, SEANetConfig
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
from audiogen_cli.codec.seanet import start_quietly
from audiogen_cli.errors import AudiogenWarning
from audiogen_cli.model_card import write_card
from audiogen_cli.training.checkpoint import check_optimizer, load_state, save_checkpoint
from audiogen_cli.training.launch import in_any_process
from audiogen_cli.training.recipe import learning_rate
from audiogen_cli.training.sampler import seed_step
from audiogen_cli.training.throughput import Trial, try_micro_batches

CPU_CROPS = 8  # more at once are no faster, and a result's last bits must not depend on how much memory is free


class Trainer(ABC):
    """A codec in training: everything that a step changes, and the step."""

    def __init__(self, config: CodecTrainConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.codec = AudioCodec(config.codec).to(accelerator.device)
        self.codec.quantizer.learning = config.quantizer
        self.codec_optimizer = torch.optim.Adam(self.codec.parameters(), config.lr, config.betas)
        self.step = 0

    def train_step(self, wav: Tensor, stop: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        """Update once on wav [B, 1, N], this process's share of the batch; return what to log, means over processes.

        stop: asked before each micro-batch; if it is true in any process, nothing is changed and None returned.
        """
        self.begin_step()
        metrics: dict[str, Tensor] = {}
        stopped = False
        for part in self.micro_batches(wav):
            if stopped := stop():
                break
            share = len(part) / len(wav)  # losses are means over clips
            add_share(metrics, self.accumulate(part, share, self.step), share)
        if in_any_process(stopped, self.accelerator):
            self.forget()
            return None
        metrics["grad_norm"], *_ = self.update(*self.active_players(self.step))
        return self.to_log(metrics)

    @abstractmethod
    def accumulate(self, wav: Tensor, share: float, step: int) -> dict[str, Tensor]:
        """Add the gradients of a micro-batch [B, 1, N], such a share of a step's batch; return its losses."""

    @property
    def last_step(self) -> int:
        """Return the number of the last step; by then every network learns."""
        return max(self.step, self.config.max_steps - 1)

    def active_players(self, step: int) -> list[tuple[nn.Module, torch.optim.Optimizer]]:
        """List each network that learns in a step with its optimizer, the codec first."""
        return [(self.codec, self.codec_optimizer)]

    def forget(self) -> None:
        """Drop what `accumulate` has added since the last update."""
        self.codec.quantizer.forget()
        for _, optimizer in self.active_players(self.last_step):
            optimizer.zero_grad(set_to_none=True)

    def try_step(self, n_crops: int) -> Trial:
        """Try micro-batches of noise, and take the largest one that fits. n_crops: of a step, this process's."""
        samples, device = round(self.config.crop_seconds * self.config.codec.sample_rate), self.accelerator.device

        def run(n: int, step: int = self.last_step) -> None:
            self.begin_step()
            try:
                self.accumulate(0.1 * torch.randn(n, 1, samples, device=device), 1.0, step)
            finally:
                self.forget()

        players = self.active_players(self.last_step)
        alone = self.config.adversary_start - self.step if self.active_players(self.step) != players else 0
        fresh = not self.codec_optimizer.state
        later = sum(2.0 * p.nbytes for network, _ in players for p in network.parameters()) * fresh  # Adam's moments
        wanted, first = min(n_crops, self.largest_micro_batch(n_crops)), (alone, lambda n: run(n, self.step))
        trial = try_micro_batches(run, wanted, n_crops, later, self.accelerator, first=first)
        self.config = replace(self.config, micro_batch=trial.micro_batch)
        return trial

    def initialize(self, crops: CropDataset) -> None:
        """Fit a fresh codec to training data, before its first step; by default there is nothing to fit."""
        return None

    def gradient_shares(self, wav: Tensor) -> dict[str, float]:
        """Return each weighted loss's share of the gradient at decoded audio, for wav [B, 1, N]; for validation."""
        return {}

    def save(self, run: Path) -> Path:
        """Write a checkpoint: a codec model folder with what resuming needs."""
        license = self.config.license or model_folder.UNLICENSED

        def write(folder: Path) -> None:
            self.codec.save(folder, license)
            write_card(folder, run)

        return save_checkpoint(run, self.step, write, self.state_dict(), self.config.save_every)

    def resume(self, checkpoint: Path) -> None:
        """Read everything that a step changes from a checkpoint."""
        model_folder.load_into(self.codec, checkpoint)
        self.load_state_dict(load_state(checkpoint, self.accelerator.device))

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs besides the codec's weights."""
        return {
            "codec_optimizer": self.codec_optimizer.state_dict(),
            "quantizer": self.codec.quantizer.learning_state(),
        }

    def load_state_dict(self, document: Mapping[str, Any]) -> None:
        """Read what `state_dict` returned, and the checkpoint's step."""
        check_optimizer(self.codec_optimizer, document["codec_optimizer"])
        self.codec_optimizer.load_state_dict(document["codec_optimizer"])
        self.codec.quantizer.load_learning_state(document["quantizer"])
        self.step = document["step"]

    def micro_batches(self, wav: Tensor) -> tuple[Tensor, ...]:
        """Split this process's share of a batch [B, 1, N] into parts that are in memory one at a time."""
        return wav.split(self.largest_micro_batch(len(wav)))

    def largest_micro_batch(self, n_crops: int) -> int:
        """Return the micro-batch that the recipe names, else all that a process has."""
        return self.config.micro_batch or n_crops

    def begin_step(self) -> None:
        """Set the codec to training, the learning rate, and the seed of what the step draws."""
        self.codec.train()
        seed_step(self.config.seed, self.step, self.accelerator.process_index)

    def update(self, *players: tuple[nn.Module, torch.optim.Optimizer]) -> list[Tensor]:
        """Step each network's optimizer and move the codebooks. Returns the gradients' norms before clipping.

        If a norm is not finite, nothing is moved and all norms are returned as NaN.
        """
        norms = [self.clip_gradients(network) for network, _ in players]
        finite = bool(torch.stack(norms).isfinite().all())  # the same in every process
        if finite:
            self.codec.quantizer.learn()
        else:
            self.codec.quantizer.forget()
        for _, optimizer in players:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate
            if finite:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norms if finite else [torch.full_like(norm, torch.nan) for norm in norms]

    def clip_gradients(self, network: nn.Module) -> Tensor:
        """Average a network's gradients over processes and clip them to `grad_clip`; return their norm before.

        Averaged by hand rather than by DDP: its hooks assume one forward and one backward a step, a GAN has more.
        """
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        if self.accelerator.num_processes > 1:
            mean = self.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
            for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        return clip_grad_norm_(network.parameters(), self.config.grad_clip)

    @property
    def learning_rate(self) -> float:
        """Return this step's learning rate."""
        config = self.config
        return learning_rate(self.step, config.lr, config.schedule, config.warmup_steps, config.max_steps)

    def to_log(self, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        """Average scalars over processes; add the learning rate."""
        means = self.accelerator.reduce(torch.stack([value.float() for value in metrics.values()]), "mean")
        return {**dict(zip(metrics, means.tolist(), strict=True)), "lr": self.learning_rate}


class AdversarialTrainer(Trainer):
    """The paper's training: the codec against the STFT discriminators."""

    def __init__(self, config: CodecTrainConfig, accelerator: Accelerator) -> None:
        super().__init__(config, accelerator)
        start_quietly(self.codec.encoder, self.codec.decoder, cast("SEANetConfig", config.codec.network))
        self.discriminator = MultiScaleSTFTDiscriminator(config.discriminator).to(accelerator.device)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), config.lr, config.betas)
        self.mel_loss = MelLoss(config.codec.sample_rate).to(accelerator.device)

    def is_adversarial(self, step: int) -> bool:
        """Return whether the discriminators take part in a step."""
        return step >= self.config.adversary_start

    def active_players(self, step: int) -> list[tuple[nn.Module, torch.optim.Optimizer]]:
        """Return the codec and, once it has begun, D.

        # ours: both move at once, each against the other as it was before the step. D then judges a batch once for
        both losses, 7 passes through it where turns cost 9, and micro-batches need no second pass through G.
        """
        adversary = [(self.discriminator, self.discriminator_optimizer)] if self.is_adversarial(step) else []
        return [*super().active_players(step), *adversary]

    def accumulate(self, wav: Tensor, share: float, step: int) -> dict[str, Tensor]:
        """Add the gradients of D and the codec."""
        with self.accelerator.autocast():
            output = self.codec(wav)
        decoded = output.decoded.float()
        losses = {"commitment": output.commitment}

        # Discriminators. The gradient stops at their parameters; the graph stays for l_g and l_feat.
        judged = self.judge(wav, decoded) if self.is_adversarial(step) else None
        if judged:
            losses["discriminator"] = discriminator_loss(*judged)
            own = list(self.discriminator.parameters())
            (share * losses["discriminator"]).backward(inputs=own, retain_graph=True)

        # Generator: E, Q and G.
        losses |= waveform_losses(wav, decoded, self.mel_loss, judged)
        losses["loss"] = torch.stack(list(weigh(losses, self.config.losses).values())).sum()
        (share * losses["loss"]).backward(inputs=list(self.codec.parameters()))
        return losses

    def largest_micro_batch(self, n_crops: int) -> int:
        """Return the micro-batch that the recipe names, else on a CPU 8."""
        return self.config.micro_batch or (CPU_CROPS if self.accelerator.device.type == "cpu" else n_crops)

    def judge(self, wav: Tensor, decoded: Tensor) -> tuple[Judgement, Judgement]:
        """Run D on real and on decoded audio, both [B, 1, N]."""
        with self.accelerator.autocast():
            return self.discriminator(wav), self.discriminator(decoded)

    def gradient_shares(self, wav: Tensor) -> dict[str, float]:
        """Divide the norm of each weighted loss's gradient at the decoder's output by the sum of all norms.

        The commitment is left out: its gradient does not pass the decoder.
        """
        part = self.micro_batches(wav)[0]
        with torch.no_grad(), self.accelerator.autocast():
            decoded = self.codec.eval()(part).decoded.float()
        decoded.requires_grad_()
        judged = self.judge(part, decoded) if self.is_adversarial(self.step) else None
        losses = weigh(waveform_losses(part, decoded, self.mel_loss, judged), self.config.losses)
        norms = {name: torch.autograd.grad(loss, decoded, retain_graph=True)[0].norm() for name, loss in losses.items()}
        total = torch.stack(list(norms.values())).sum().clamp(min=1e-20)
        return {f"share_{name}": float(norm / total) for name, norm in norms.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs besides the codec's weights."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            **super().state_dict(),
        }

    def load_state_dict(self, document: Mapping[str, Any]) -> None:
        """Read what `state_dict` returned, and the checkpoint's step."""
        if document["discriminator"].keys() != self.discriminator.state_dict().keys():
            said = "the discriminators of this run have a layer that the paper's lack: fresh ones begin"
            warnings.warn(said, AudiogenWarning, stacklevel=2)
        else:
            check_optimizer(self.discriminator_optimizer, document["discriminator_optimizer"])
            self.discriminator.load_state_dict(document["discriminator"])
            self.discriminator_optimizer.load_state_dict(document["discriminator_optimizer"])
        super().load_state_dict(document)


def waveform_losses(
    wav: Tensor, decoded: Tensor, mel_loss: MelLoss, judged: tuple[Judgement, Judgement] | None
) -> dict[str, Tensor]:
    """Compute the parts of L_G on decoded audio [B, 1, N], unweighted: l_t and l_f; if judged, l_g and l_feat, too."""
    losses = {"time": time_loss(wav, decoded), "mel": mel_loss(wav, decoded)}
    if judged:
        losses |= {"adversarial": adversarial_loss(judged[1]), "feature": feature_loss(*judged)}
    return losses


def weigh(losses: Mapping[str, Tensor], weights: LossConfig) -> dict[str, Tensor]:
    """Compute the terms of L_G: each loss that has a weight λ, times it."""
    return {name: getattr(weights, name) * value for name, value in losses.items() if hasattr(weights, name)}


def add_share(metrics: dict[str, Tensor], losses: Mapping[str, Tensor], share: float) -> None:
    """Add a micro-batch's losses to those of the batch, of which it is such a share."""
    for name, value in losses.items():
        metrics[name] = metrics.get(name, 0.0) + share * value.detach()
