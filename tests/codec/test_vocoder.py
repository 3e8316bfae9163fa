"""The spectral decoder's network: what a fresh one sounds like, and what its output depends on."""

import pytest
import torch

from audiogen_cli.codec.config import CodecConfig, SpectralConfig, VocoderConfig
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.spectral import Decoder, WhiteNoise

VOCODER = VocoderConfig(dim=16, code_blocks=1, frame_blocks=2, kernel_size=3)
CONFIG = CodecConfig(
    network=SpectralConfig(n_fft=512, frames_per_code=4, vocoder=VOCODER), latent_dim=320, n_q=2, codebook_size=8
)
RATE = 16_000


@pytest.fixture
def codec() -> AudioCodec:
    torch.manual_seed(0)
    return AudioCodec(CONFIG).eval().requires_grad_(False)


def test_a_fresh_one_shapes_noise_of_the_colour_and_level_asked_for(codec):
    white = torch.randn(1, 1, 2 * RATE, generator=torch.Generator().manual_seed(1))
    wav = 0.05 * (white + white.roll(1, -1))  # darker than white
    wav[..., RATE:] *= 0.1
    codec.start([wav])  # 320 components: all there is of the bands' loudness
    back = codec.decoder(codec.encoder(wav))
    assert isinstance(codec.decoder, Decoder)
    for part in (slice(2000, RATE - 2000), slice(RATE + 2000, 2 * RATE - 2000)):
        assert 0.5 < float(back[..., part].std() / wav[..., part].std()) < 2
        ours, theirs = (torch.fft.rfft(each[0, 0, part]).abs() for each in (back, wav))
        share = [float(each[: len(each) // 2].square().sum() / each.square().sum()) for each in (ours, theirs)]
        assert share[0] == pytest.approx(share[1], abs=0.1)


def test_clips_of_a_training_batch_get_noise_of_their_own_and_sounds_always_the_same(codec):
    latent = torch.randn(1, 320, 6).expand(2, -1, -1)
    first, second = codec.decoder(latent)
    assert torch.equal(first, second) and torch.equal(codec.decoder(latent)[0], first)
    codec.decoder.train()
    first, second = codec.decoder(latent)
    assert not torch.allclose(first, second, atol=1e-3)


def test_samples_hear_no_further_than_the_reach(codec):
    latent, hop = torch.randn(1, 320, 60), CONFIG.hop_length
    other = latent.clone()
    other[..., 30] += 1
    noise = WhiteNoise().take(60 * hop)
    changed = (codec.decoder(latent, noise) != codec.decoder(other, noise))[0, 0].nonzero()[:, 0]
    reach = -(-codec.decoder.reach // CONFIG.network.frames_per_code)
    assert changed.min() >= (30 - reach) * hop and changed.max() < (31 + reach) * hop


def test_all_of_it_learns_from_the_sound(codec):
    codec.requires_grad_(True).train()
    codec.decoder(torch.randn(2, 320, 6)).square().mean().backward()
    assert all(float(weight.grad.abs().sum()) > 0 for weight in codec.decoder.parameters())


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        VocoderConfig(kernel_size=4)
