"""The codec's losses: l_t, l_f (eq. 1), l_g, l_feat (eq. 2) and the discriminators' hinge loss (sec. 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.codec.config import MEL_WINDOWS

MEL_BINS = 64  # eq. 1

Judgement = list[tuple[Tensor, list[Tensor]]]  # per scale: logits, feature maps


def time_loss(wav: Tensor, decoded: Tensor) -> Tensor:
    """l_t = mean |x − x̂| over [B, 1, N]."""
    return F.l1_loss(decoded, wav)


class MelLoss(nn.Module):
    """l_f, eq. 1: L1 + L2 of 64-bin mel spectrograms with windows 2^i, hop 2^i/4, averaged over i = 5 … 11.

    The L2 term is the root of a clip's mean square (α_i = 1), so that it has the unit of the L1 term; clips are
    averaged after it, so that a batch in parts (processes, micro-batches) has the loss of the whole.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for window in MEL_WINDOWS:
            self.register_buffer(f"window_{window}", torch.hann_window(window), persistent=False)
            filters = mel_filters(window, MEL_BINS, sample_rate)
            self.register_buffer(f"filters_{window}", filters, persistent=False)

    def spectrogram(self, wav: Tensor, window: int) -> Tensor:
        """wav [B, 1, N] → mel magnitudes [B, bins, frames]."""
        spectrum = torch.stft(
            wav[:, 0].float(),
            window,
            window // 4,
            window=getattr(self, f"window_{window}"),
            normalized=True,
            return_complex=True,
        )
        # Not .abs(): its gradient at a bin of exact zero is undefined, and digital silence has such bins.
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()
        mel: Tensor = getattr(self, f"filters_{window}") @ magnitude
        return mel

    def forward(self, wav: Tensor, decoded: Tensor) -> Tensor:
        loss = wav.new_zeros(())
        for window in MEL_WINDOWS:
            difference = self.spectrogram(decoded, window) - self.spectrogram(wav, window)
            loss = loss + difference.abs().mean() + (difference.square().mean((1, 2)) + 1e-12).sqrt().mean()
        return loss / len(MEL_WINDOWS)


def adversarial_loss(judgement: Judgement) -> Tensor:
    """l_g = mean over scales of max(0, 1 − D_k(x̂))."""
    return torch.stack([F.relu(1 - logits.float()).mean() for logits, _ in judgement]).mean()


def feature_loss(real: Judgement, decoded: Judgement) -> Tensor:
    """l_feat, eq. 2: mean over scales and layers of the L1 distance between feature maps."""
    distances = [
        F.l1_loss(ours.float(), theirs.detach().float())
        for (_, real_maps), (_, decoded_maps) in zip(real, decoded, strict=True)
        for theirs, ours in zip(real_maps, decoded_maps, strict=True)
    ]
    return torch.stack(distances).mean()


def discriminator_loss(real: Judgement, decoded: Judgement) -> Tensor:
    """L_D = mean over scales of max(0, 1 − D_k(x)) + max(0, 1 + D_k(x̂))."""
    return torch.stack(
        [
            F.relu(1 - ours.float()).mean() + F.relu(1 + theirs.float()).mean()
            for (ours, _), (theirs, _) in zip(real, decoded, strict=True)
        ]
    ).mean()


def mel_filters(n_fft: int, n_mels: int, sample_rate: int) -> Tensor:
    """Triangular filters on the HTK mel scale from 0 Hz to Nyquist: [n_mels, n_fft/2 + 1], peaks of 1.

    A band narrower than a bin takes the bin nearest to its centre, so that no band is empty at short windows.
    """
    top = 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700))
    edges = 700 * (10 ** (torch.linspace(0, 1, n_mels + 2) * top / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp(min=0)
    empty = (filters.sum(1) == 0).nonzero()[:, 0]
    filters[empty, (bins - centre[empty]).abs().argmin(1)] = 1.0
    return filters
