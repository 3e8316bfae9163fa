"""SEANet and Q against other hands: transformers' EncodecModel with the same weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen_cli.bench.codec import PEERS, build_peer
from audiogen_cli.codec.config import CodecConfig, SEANetConfig, SpectralConfig
from audiogen_cli.codec.model import AudioCodec

SMALL = {"channels": 4, "strides": (2, 2, 2, 4)}


def small_codec(network: SEANetConfig | SpectralConfig, **settings: int) -> AudioCodec:
    torch.manual_seed(0)
    codec = AudioCodec(CodecConfig(network=network, latent_dim=16, codebook_size=32, **settings))
    return codec.eval().requires_grad_(False)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("norm", ["weight", "none"])
def test_equals_encodec_given_the_same_weights(norm, pad_mode, causal):
    codec = small_codec(SEANetConfig(**SMALL, norm=norm, pad_mode=pad_mode, causal=causal), n_q=2)
    peer = build_peer(codec)
    assert len(peer.quantizer.layers) == 2

    wav = 0.1 * torch.randn(2, 1, 1600)
    with torch.no_grad():
        latent = peer.encoder(wav)
        codes = peer.quantizer.encode(latent).transpose(0, 1)
        decoded = peer.decoder(peer.quantizer.decode(codes.transpose(0, 1)))
    assert torch.allclose(codec.encoder(wav), latent, atol=1e-5)
    for _ in ("plain", "prepared"):
        assert torch.equal(codec.encode(wav), codes)
        assert torch.allclose(codec.decode(codes), decoded, atol=1e-5)
        codec.prepare()


def test_a_peer_needs_networks_that_it_has():
    assert PEERS.keys() == {"seanet"}


@pytest.mark.parametrize("network", [SEANetConfig(**SMALL), SpectralConfig()])
@given(n_samples=st.integers(1, 3000))
@settings(max_examples=15, deadline=None)
def test_any_length_gives_ceil_frames_and_back(network, n_samples):
    codec = small_codec(network, n_q=2)
    codes = codec.encode(torch.zeros(1, 1, n_samples))
    n_frames = -(-n_samples // codec.hop_length)
    assert codes.shape == (1, 2, n_frames)
    assert codec.decode(codes).shape == (1, 1, n_frames * codec.hop_length)


@pytest.mark.parametrize("strides,hop", [((2, 2, 2, 4), 32), ((2, 2, 4, 4), 64), ((2, 4, 4, 4), 128)])
def test_down_sampling_factors_of_the_paper(strides, hop):
    config = CodecConfig(network=SEANetConfig(strides=strides))
    assert config.hop_length == hop
    assert config.frame_rate == 16_000 / hop


def test_causal_codec_does_not_look_ahead():
    codec = small_codec(SEANetConfig(**SMALL, causal=True), n_q=1)
    wav = torch.randn(1, 1, 640)
    other = wav.clone()
    other[..., 320:] = 0
    assert torch.allclose(codec.encoder(wav)[..., :10], codec.encoder(other)[..., :10], atol=1e-6)


def test_layer_norm_spares_the_waveform():
    codec = small_codec(SEANetConfig(**SMALL), n_q=1)
    assert codec.decode(torch.randint(32, (1, 1, 20))).std() > 0


def test_encode_refuses_what_is_no_wav():
    codec = small_codec(SEANetConfig(**SMALL))
    for bad in (torch.zeros(1, 2, 64), torch.zeros(64), torch.zeros(1, 1, 0)):
        with pytest.raises(ValueError, match="wav must be"):
            codec.encode(bad)
    with pytest.raises(ValueError, match="codes must be"):
        codec.decode(torch.zeros(1, 3, 4, dtype=torch.long))
