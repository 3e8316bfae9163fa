"""The codec's losses: l_t, l_f (eq. 1), l_g, l_feat (eq. 2) and the discriminators' hinge loss (sec. 3.1)."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram

from audiogen_cli.codec.config import MEL_WINDOWS

MEL_BINS = 64  # eq. 1

Judgement = list[tuple[Tensor, list[Tensor]]]  # per scale: logits, feature maps


def time_loss(wav: Tensor, decoded: Tensor) -> Tensor:
    """Compute l_t = mean |x − x̂| over [B, 1, N]."""
    return F.l1_loss(decoded, wav)


class MelLoss(nn.Module):
    """l_f, eq. 1: L1 + L2 of 64-bin mel spectrograms with windows 2^i, hop 2^i/4, averaged over i = 5 … 11.

    # ours: for eq. 1's L2 norm the root of a clip's mean square (α_i = 1), so that it has the unit of the L1 term;
    clips are averaged after it, so that a batch in parts (processes, micro-batches) has the loss of the whole.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.spectrograms = nn.ModuleList(mel_spectrogram(window, sample_rate) for window in MEL_WINDOWS)

    def forward(self, wav: Tensor, decoded: Tensor) -> Tensor:
        loss = wav.new_zeros(())
        for spectrogram in self.spectrograms:
            difference = spectrogram(decoded[:, 0].float()) - spectrogram(wav[:, 0].float())
            loss = loss + difference.abs().mean() + (difference.square().mean((1, 2)) + 1e-12).sqrt().mean()
        return loss / len(MEL_WINDOWS)


def mel_spectrogram(window: int, sample_rate: int) -> MelSpectrogram:
    """Build wav [B, N] → mel magnitudes [B, 64, frames]: HTK's scale from 0 Hz to Nyquist, triangles with peaks of 1.

    # ours: a band that falls between two bins takes the one nearest to its center: at short windows many do, and
    would be empty.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "At least one mel filterbank has all zero values")
        spectrogram = MelSpectrogram(
            sample_rate, window, hop_length=window // 4, n_mels=MEL_BINS, power=1.0, normalized="frame_length"
        )
    filters = spectrogram.mel_scale.fb  # [bins, bands]
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    centers = 700 * (10 ** (torch.linspace(0, top, MEL_BINS + 2)[1:-1] / 2595) - 1)
    empty = (filters.sum(0) == 0).nonzero()[:, 0]
    filters[(centers[empty] * window / sample_rate).round().long(), empty] = 1.0
    return spectrogram


def adversarial_loss(judgement: Judgement) -> Tensor:
    """Compute l_g = mean over scales of max(0, 1 − D_k(x̂))."""
    return torch.stack([F.relu(1 - logits.float()).mean() for logits, _ in judgement]).mean()


def feature_loss(real: Judgement, decoded: Judgement) -> Tensor:
    """Compute l_feat, eq. 2: the mean over scales and layers of the L1 distance between feature maps."""
    distances = [
        F.l1_loss(ours.float(), theirs.detach().float())
        for (_, real_maps), (_, decoded_maps) in zip(real, decoded, strict=True)
        for theirs, ours in zip(real_maps, decoded_maps, strict=True)
    ]
    return torch.stack(distances).mean()


def discriminator_loss(real: Judgement, decoded: Judgement) -> Tensor:
    """Compute L_D = mean over scales of max(0, 1 − D_k(x)) + max(0, 1 + D_k(x̂))."""
    return torch.stack(
        [
            F.relu(1 - ours.float()).mean() + F.relu(1 + theirs.float()).mean()
            for (ours, _), (theirs, _) in zip(real, decoded, strict=True)
        ]
    ).mean()
