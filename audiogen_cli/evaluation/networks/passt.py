"""PaSST (Koutini et al. 2022), the 10 s model `passt_s_swa_p16_128_ap476`: the classifier of the paper's KL.

A vision transformer over 16×16 patches of a log-mel spectrogram, one every 10 frames and 10 bands. Audio is cut into
consecutive chunks of 10 s as in audiocraft: the last one is not padded, and dropped if it has 0.15 s or less; each
chunk is a window of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.evaluation.networks.torch_network import TorchNetwork
from audiogen_cli.evaluation.networks.weights import WeightFile

RATE, FFT_SIZE, WINDOW, HOP, N_MELS = 32_000, 1024, 800, 320, 128
HIGHEST = 15_000.0  # Hz
PATCH, STRIDE = 16, 10  # frames and bands
CHUNK, MIN_CHUNK = 10 * RATE, 3 * RATE // 20  # samples; a chunk must be longer than MIN_CHUNK, 0.15 s


@dataclass(frozen=True)
class PasstConfig:
    """The network's sizes; defaults: the published model."""

    dim: int = 768
    n_layers: int = 12
    n_heads: int = 12
    n_classes: int = 527
    n_bands: int = (N_MELS - PATCH) // STRIDE + 1  # patches over frequency: 12
    n_times: int = 99  # and over time at most, 1,000 frames


class PasstAttention(nn.Module):
    """Self-attention over all patches."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, L, D] to [B, L, D]."""
        q, k, v = (part.unflatten(2, (self.n_heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class PasstBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = PasstAttention(dim, n_heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, L, D] to [B, L, D]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class PasstNetwork(nn.Module):
    """Log-mel to logits; the tensors have the names of the published file."""

    def __init__(self, config: PasstConfig) -> None:
        super().__init__()
        dim = config.dim
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, dim, PATCH, STRIDE)})
        self.cls_token, self.dist_token = (nn.Parameter(torch.zeros(1, 1, dim)) for _ in range(2))
        self.new_pos_embed = nn.Parameter(torch.zeros(1, 2, dim))
        self.freq_new_pos_embed = nn.Parameter(torch.zeros(1, dim, config.n_bands, 1))
        self.time_new_pos_embed = nn.Parameter(torch.zeros(1, dim, 1, config.n_times))
        self.blocks = nn.Sequential(*(PasstBlock(dim, config.n_heads) for _ in range(config.n_layers)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, config.n_classes))

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Map log_mel [B, 128, T], T from 16 to 1,005, to logits [B, C] and features [B, D]."""
        x = self.patch_embed["proj"](log_mel[:, None])  # [B, D, bands, times]
        x = x + self.time_new_pos_embed[..., : x.shape[3]] + self.freq_new_pos_embed
        tokens = torch.cat([self.cls_token, self.dist_token], 1) + self.new_pos_embed
        x = torch.cat([tokens.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
        features = self.norm(self.blocks(x))[:, :2].mean(1)  # class and distillation token
        return self.head(features), features


class Passt(TorchNetwork):
    """PaSST with its front end."""

    name = "passt"
    distance = "fd"
    sample_rate = RATE
    dim = 768
    min_duration = 0.17  # 16 frames, and longer than the shortest chunk
    license = "weights: K. Koutini et al., Apache-2.0"
    file = WeightFile(
        "passt",
        "passt-s-f128-p16-s10-ap.476-swa.pt",
        "GitHub release v0.0.1-audioset of kkoutini/PaSST",
        "https://github.com/kkoutini/PaSST/releases/download/v0.0.1-audioset/passt-s-f128-p16-s10-ap.476-swa.pt",
        345,
        "AUDIOGEN_PASST",
        ("$TORCH_HOME/hub/checkpoints", "~/.cache/torch/hub/checkpoints"),  # where hear21passt downloads it to
    )

    def build(self) -> nn.Module:
        """Build the published network."""
        return PasstNetwork(PasstConfig())

    def select(self, state: Any) -> Any:
        """Pick the tensors, which some releases keep below an entry of their own."""
        for name in ("state_dict", "model"):
            if isinstance(state, dict) and isinstance(state.get(name), dict):
                return state[name]
        return state

    def ignored(self, name: str) -> bool:
        """Ignore the distillation head, which plays no part in the logits."""
        return name.startswith("head_dist.")

    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Map wav [B, N] to logits [B, chunks, 527] and features [B, chunks, 768]."""
        parts = [self.network(log_mel(wav[:, start:end])) for start, end in chunks(wav.shape[1])]
        logits, features = zip(*parts, strict=True)
        return torch.stack(logits, 1), torch.stack(features, 1)


def chunks(n_samples: int) -> list[tuple[int, int]]:
    """List begin and end of the chunks of a clip of `n_samples` at 32 kHz."""
    starts = range(0, n_samples, CHUNK)
    spans = [(start, min(start + CHUNK, n_samples)) for start in starts]
    return [(start, end) for start, end in spans if end - start > MIN_CHUNK]


def log_mel(wav: Tensor) -> Tensor:
    """Compute PaSST's front end: wav [B, N] at 32 kHz → [B, 128, T], about -1 … 1; T = 1 + (N - 1) // 320."""
    emphasized = wav[:, 1:] - 0.97 * wav[:, :-1]
    window = torch.hann_window(WINDOW, periodic=False, device=wav.device)
    spectrum = torch.stft(emphasized, FFT_SIZE, HOP, WINDOW, window, return_complex=True)
    mel = _filters().to(wav) @ spectrum.abs().square()
    return (torch.log(mel + 1e-5) + 4.5) / 5


@cache
def _filters() -> Tensor:
    """Build Kaldi's bank [128, 513], as PaSST's own code does; it has no column for the Nyquist frequency."""
    from torchaudio.compliance.kaldi import get_mel_banks

    filters, _ = get_mel_banks(
        N_MELS, FFT_SIZE, RATE, 0.0, HIGHEST, vtln_low=100.0, vtln_high=-500.0, vtln_warp_factor=1.0
    )
    return F.pad(filters, (0, 1))
