"""PANN's Cnn14 (Kong et al. 2020, table I): the network of the field's FD, IS and one of its two KLs.

Log-mel at 32 or 16 kHz, six blocks of two 3×3 convolutions, mean over frequency, mean plus maximum over time; hence one
embedding and one row of logits per clip of any length. Clips are prepared as in audioldm_eval: mean removed,
zero-padded to 32,000 samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.networks.torch_network import TorchNetwork
from audiogen_cli.evaluation.networks.weights import WeightFile

N_MELS, N_CLASSES = 64, 527
CHANNELS = (64, 128, 256, 512, 1024, 2048)
MIN_SAMPLES = 32_000
POWER_FLOOR = 1e-10
FRONT_END = ("spectrogram_extractor.", "logmel_extractor.")  # the file holds torchlibrosa's, as convolutions


class ConvBlock(nn.Module):
    """Two 3×3 convolutions, each with batch norm and ReLU, then average pooling."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor, pool: int) -> Tensor:
        """Map x [B, C, T, F] to [B, C', T // pool, F // pool]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.avg_pool2d(x, pool)


class Cnn14(nn.Module):
    """Log-mel to logits. channels: of the blocks; the published network has CHANNELS."""

    def __init__(self, channels: Sequence[int] = CHANNELS, n_classes: int = N_CLASSES) -> None:
        super().__init__()
        self.n_blocks = len(channels)
        self.bn0 = nn.BatchNorm2d(N_MELS)
        for number, (n_in, n_out) in enumerate(zip((1, *channels), channels, strict=False), 1):
            self.add_module(f"conv_block{number}", ConvBlock(n_in, n_out))
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.fc_audioset = nn.Linear(channels[-1], n_classes)

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Map log_mel [B, T, 64] in dB to logits [B, C] and embedding [B, D] (after its ReLU)."""
        x = self.bn0(log_mel[:, None].transpose(1, 3)).transpose(1, 3)  # normalized per mel band
        for number in range(1, self.n_blocks + 1):
            x = self.get_submodule(f"conv_block{number}")(x, pool=1 if number == self.n_blocks else 2)
        x = x.mean(3)  # over frequency: [B, D, T']
        embedding = F.relu(self.fc1(x.amax(2) + x.mean(2)))
        return self.fc_audioset(embedding), embedding


class Pann(TorchNetwork):
    """Cnn14 with its front end; subclasses choose the rate."""

    distance = "fd"
    dim = CHANNELS[-1]
    min_duration = 0.1
    license = "weights: Q. Kong et al., CC BY 4.0 (Zenodo)"
    fft_size: ClassVar[int]
    hop: ClassVar[int]
    band: ClassVar[tuple[float, float]]  # Hz

    def build(self) -> nn.Module:
        """Build the published network."""
        return Cnn14()

    def select(self, state: Any) -> Any:
        """Pick the tensors. Raises InputError if the file's filterbank is another one, as of another rate."""
        tensors = state.get("model") if isinstance(state, dict) else None
        if not isinstance(tensors, dict):
            raise InputError(f"{self.path} is not a PANN checkpoint: it has no entry 'model'")
        theirs = tensors.get("logmel_extractor.melW")
        ours = torch.from_numpy(self.filters())
        if theirs is not None and (theirs.shape != ours.shape or not torch.allclose(theirs, ours, atol=1e-4)):
            raise InputError(f"{self.path} was trained with another mel filterbank than {self.name}'s")
        return tensors

    def ignored(self, name: str) -> bool:
        """Ignore the front end, whose filters are fixed."""
        return name.startswith(FRONT_END)

    @classmethod
    def filters(cls) -> np.ndarray:
        """Build [fft_size // 2 + 1, 64] float32: triangles of unit area on Slaney's scale, as librosa has them."""
        from torchaudio.functional import melscale_fbanks

        n_bins, (low, high) = cls.fft_size // 2 + 1, cls.band
        filters = melscale_fbanks(n_bins, low, high, N_MELS, cls.sample_rate, norm="slaney", mel_scale="slaney")
        return np.asarray(filters)

    def log_mel(self, wav: Tensor) -> Tensor:
        """Compute [B, T, 64], dB of mel power, of wav [B, N]."""
        wav = F.pad(wav - wav.mean(1, keepdim=True), (0, max(0, MIN_SAMPLES - wav.shape[1])))
        window = torch.hann_window(self.fft_size, device=wav.device)
        spectrum = torch.stft(wav, self.fft_size, self.hop, window=window, pad_mode="reflect", return_complex=True)
        power = spectrum.abs().square().transpose(1, 2)  # [B, T, F]
        return 10 * torch.log10((power @ torch.from_numpy(self.filters()).to(wav)).clamp(min=POWER_FLOOR))

    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Map wav [B, N] to logits [B, 1, 527] and embeddings [B, 1, 2048]."""
        logits, embedding = self.network(self.log_mel(wav))
        return logits[:, None], embedding[:, None]


class Cnn14At32k(Pann):
    """Cnn14 at 32 kHz, mAP 0.431."""

    name = "pann_cnn14_32k"
    sample_rate = 32_000
    fft_size, hop, band = 1024, 320, (50.0, 14_000.0)
    file = WeightFile(
        "pann",
        "Cnn14_mAP=0.431.pth",
        "Zenodo record 3987831",
        "https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431.pth?download=1",
        327,
        "AUDIOGEN_PANN",
        ("~/panns_data",),
    )


class Cnn14At16k(Pann):
    """Cnn14 at 16 kHz, mAP 0.438."""

    name = "pann_cnn14_16k"
    sample_rate = 16_000
    fft_size, hop, band = 512, 160, (50.0, 8000.0)
    file = WeightFile(
        "pann-16k",
        "Cnn14_16k_mAP=0.438.pth",
        "Zenodo record 3987831",
        "https://zenodo.org/records/3987831/files/Cnn14_16k_mAP%3D0.438.pth?download=1",
        324,
        "AUDIOGEN_PANN_16K",
        ("~/panns_data",),
    )
