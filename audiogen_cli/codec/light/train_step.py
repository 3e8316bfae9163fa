"""One step of the light codec's training, and its start from principal components."""

from __future__ import annotations

from accelerate import Accelerator
from torch import Tensor

from audiogen_cli.codec.config import CodecTrainConfig
from audiogen_cli.codec.dataset import CropDataset
from audiogen_cli.codec.light.spectral import SpectralDecoder, SpectralEncoder, init_from_pca
from audiogen_cli.codec.train_step import Trainer


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

    def accumulate(self, wav: Tensor, share: float, step: int) -> dict[str, Tensor]:
        """Add the gradients of the distance; the encoder learns nothing, so the commitment is only logged."""
        with self.accelerator.autocast():
            latent = self.codec.quantizer(self.encoder(wav))
            spectrum = self.decoder.loss(latent.quantized, wav)
        (share * spectrum).backward()
        return {"commitment": latent.commitment, "loss": spectrum}
