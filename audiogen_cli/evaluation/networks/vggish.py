"""VGGish (Hershey et al. 2017), the embedding of FAD, in the two ways the field computes it.

`vggish_google` follows Google's tool as audiocraft calls it (the paper, the MusicGen family); `vggish_torch` follows
torchvggish (AudioLDM and its successors). Both have the same weights: torchvggish's file is Google's, ported. They
differ in windows and loudness, and their numbers must never be mixed.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from audiogen_cli.evaluation.mel import FRAME, HOP, RATE, log_mel
from audiogen_cli.evaluation.networks.base import NetworkOutput
from audiogen_cli.evaluation.networks.torch_network import TorchNetwork
from audiogen_cli.evaluation.networks.weights import WeightFile

LOG_OFFSET = 0.01
PATCH = 96  # frames
CHANNELS: tuple[tuple[int, ...], ...] = ((64,), (128,), (256, 256), (512, 512))  # a pooling after each group
WIDTH, DIM = 4096, 128
PEAK = 10 ** (-1 / 20)  # audiocraft writes both sides with their peak at -1 dB
MIN_PEAK = 0.1  # of int16's range of numbers: Google's guard, which only silence meets

FILE = WeightFile(
    "vggish",
    "vggish-10086976.pth",
    "GitHub release v0.1 of harritaylor/torchvggish",
    "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
    288,
    "AUDIOGEN_VGGISH",
    ("$TORCH_HOME/hub/checkpoints", "~/.cache/torch/hub/checkpoints"),
)


class VggishNetwork(nn.Module):
    """Log-mel patches to embeddings; the last layer has no ReLU."""

    def __init__(self, channels: tuple[tuple[int, ...], ...] = CHANNELS, width: int = WIDTH, dim: int = DIM) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 1
        for group in channels:
            for n_out in group:
                layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()]
                n_in = n_out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        n_flat = n_in * (PATCH >> len(channels)) * (64 >> len(channels))
        self.embeddings = nn.Sequential(
            nn.Linear(n_flat, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim)
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches [P, 96, 64] to [P, 128]."""
        x = self.features(patches[:, None])  # [P, C, 6, 4]
        return self.embeddings(x.permute(0, 2, 3, 1).flatten(1))  # channels last, as TensorFlow flattens


class Vggish(TorchNetwork):
    """VGGish with its front end; subclasses choose the windows. It has no classes."""

    sample_rate = RATE
    dim = DIM
    license = "weights: Google, Apache-2.0, ported by H. Taylor"
    file = FILE

    def build(self) -> nn.Module:
        """Build the published network."""
        return VggishNetwork()

    def classify(self, wav: np.ndarray) -> NetworkOutput:
        """Embed wav [B, N] float32 at 16 kHz."""
        patches = np.stack([self.patches(clip) for clip in wav])  # [B, n, 96, 64]
        output = super().classify(patches.reshape(-1, PATCH, patches.shape[-1]))
        shape = (*patches.shape[:2], -1)
        return NetworkOutput(np.zeros((*patches.shape[:2], 0), np.float32), output.embeddings.reshape(shape))

    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Map patches [P, 96, 64] to no logits [P, 0] and embeddings [P, 128]."""
        return torch.zeros(len(wav), 0), self.network(wav)

    @staticmethod
    @abstractmethod
    def patches(wav: np.ndarray) -> np.ndarray:
        """Cut a clip [N] into log-mel patches [n, 96, 64] float32."""


class VggishGoogle(Vggish):
    """VGGish as in Google's `frechet_audio_distance`: peak-normalized, 1 s windows every 0.5 s; 19 in 10 s."""

    name = "vggish_google"
    min_duration = 1.0

    @staticmethod
    def patches(wav: np.ndarray) -> np.ndarray:
        """Take the first 96 of the 98 frames of each 1 s window; an incomplete last window is dropped."""
        windows = np.lib.stride_tricks.sliding_window_view(normalize_peak(wav), RATE)[:: RATE // 2]
        return np.stack([log_mel(window, LOG_OFFSET)[:PATCH] for window in windows])


class VggishTorch(Vggish):
    """VGGish as in torchvggish: the whole clip's log-mel in consecutive patches of 0.96 s; 10 in 10 s."""

    name = "vggish_torch"
    min_duration = (FRAME + (PATCH - 1) * HOP) / RATE

    @staticmethod
    def patches(wav: np.ndarray) -> np.ndarray:
        """Cut the log-mel spectrogram; an incomplete last patch is dropped."""
        frames = log_mel(wav, LOG_OFFSET)
        return frames[: len(frames) // PATCH * PATCH].reshape(-1, PATCH, frames.shape[1])


def normalize_peak(wav: np.ndarray) -> np.ndarray:
    """Scale wav [N] as audiocraft and Google's tool do: 16 bits with a peak of -1 dB, then the largest sample to 1.

    The largest signed sample, as in the tool, not the largest magnitude.
    """
    peak = np.abs(wav).max()
    samples = np.rint(wav * (PEAK / peak) * 32768) if peak > 0 else wav
    return np.asarray(samples / max(MIN_PEAK, samples.max()), np.float32)
