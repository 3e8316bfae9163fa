"""One step of the light codec's training, and its start from principal components."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor

from audiogen_cli.codec.config import CodecTrainConfig
from audiogen_cli.codec.dataset import CropDataset
from audiogen_cli.codec.light.spectral import SpectralDecoder, SpectralEncoder, init_from_pca
from audiogen_cli.codec.train_step import Trainer, add_share


class LightTrainer(Trainer):
    """Trains by the decoder's own loss: the distance of spectra, or of a flow's velocities."""

    def __init__(self, config: CodecTrainConfig, accelerator: Accelerator) -> None:
        super().__init__(config, accelerator)
        encoder, decoder = self.codec.encoder, self.codec.decoder
        assert isinstance(encoder, SpectralEncoder) and isinstance(decoder, SpectralDecoder)
        self.encoder, self.decoder = encoder, decoder

    def initialize(self, crops: CropDataset) -> None:
        """Set encoder and decoder to the principal components of `pca_crops` crops."""
        wavs = (crops[i].wav[None].to(self.accelerator.device) for i in range(self.config.pca_crops))
        init_from_pca(self.encoder, self.decoder, wavs)

    def train_step(self, wav: Tensor) -> dict[str, float]:
        """Update the codec on wav [B, 1, N], this process's share; return what to log, means over processes."""
        codec, config = self.codec, self.config
        self.begin_step()
        metrics: dict[str, Tensor] = {}
        for part in self.micro_batches(wav):
            share = len(part) / len(wav)
            with self.accelerator.autocast():
                latent = codec.quantizer(self.encoder(part))
                spectrum = self.decoder.loss(latent.quantized, part)
            loss = torch.stack([config.losses.commitment * latent.commitment, spectrum]).sum()
            (share * loss).backward()
            add_share(metrics, {"commitment": latent.commitment, "spectrum": spectrum, "loss": loss}, share)
        (metrics["grad_norm"],) = self.update((codec, self.codec_optimizer))
        return self.to_log(metrics)
