"""Audio and codes that come block by block against whole files."""

import itertools
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen_cli.codec import model, seanet
from audiogen_cli.codec.batch_encoder import RowEncoder
from audiogen_cli.codec.config import CodecConfig, FlowConfig, SEANetConfig, SpectralConfig
from audiogen_cli.codec.light import spectral
from audiogen_cli.codec.light.spectral import SpectralDecoder
from audiogen_cli.codec.model import AudioCodec

WAVEFORM = {"channels": 8, "strides": (2, 3, 2, 4)}
NETWORKS = [
    SEANetConfig(**WAVEFORM, norm="layer", pad_mode="constant", causal=False),
    SEANetConfig(**WAVEFORM, norm="weight", pad_mode="constant", causal=True),
    SEANetConfig(**WAVEFORM, norm="weight", pad_mode="reflect", causal=False),
    SEANetConfig(**WAVEFORM, norm="layer", pad_mode="reflect", causal=True),
    SpectralConfig(n_fft=64, stft_hop=16, frames_per_code=3),
    SpectralConfig(n_fft=50, stft_hop=10, frames_per_code=2),
    SpectralConfig(
        n_fft=64, stft_hop=16, n_mels=8, frames_per_code=8, flow=FlowConfig((8, 8, 8), dim=8, code_blocks=1, steps=2)
    ),
]


def small_codec(network: SEANetConfig | SpectralConfig) -> AudioCodec:
    torch.manual_seed(0)
    codec = AudioCodec(CodecConfig(network=network, latent_dim=16, codebook_size=32, n_q=2))
    if isinstance(codec.decoder, SpectralDecoder) and codec.decoder.flow:
        torch.nn.init.normal_(codec.decoder.flow.leave.weight)  # a fresh flow stands still
    return codec.eval().requires_grad_(False)


@pytest.fixture(autouse=True, scope="module")
def short_drawings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectral, "BLOCK", 5)
        patch.setattr(spectral, "CONTEXT", 2)
        yield


def pieces(signal: torch.Tensor, sizes: list[int]) -> Iterator[torch.Tensor]:
    """A signal [..., N] cut into parts of these sizes, over and over."""
    at = 0
    for size in itertools.cycle(sizes):
        if at >= signal.shape[-1]:
            return
        yield signal[..., at : at + size]
        at += size


sizes = st.lists(st.integers(0, 400), min_size=1, max_size=4).filter(any)


@pytest.mark.parametrize("network", NETWORKS)
@given(n_samples=st.integers(1, 2000), sizes=sizes)
@settings(max_examples=5, deadline=None)
def test_blocks_of_wav_give_the_codes_of_the_whole(network, n_samples, sizes):
    codec = small_codec(network)
    wav = torch.randn(2, 1, n_samples, generator=torch.Generator().manual_seed(n_samples))
    blocks = list(codec.encode_chunks(pieces(wav, sizes)))
    assert all(block.shape[-1] for block in blocks)
    assert (torch.cat(blocks, -1) == codec.encode(wav)).float().mean() > 0.995  # a tie may fall otherwise


@pytest.mark.parametrize("network", NETWORKS)
@given(n_frames=st.integers(1, 60), sizes=sizes.map(lambda sizes: [size // 20 + 1 for size in sizes]))
@settings(max_examples=5, deadline=None)
def test_blocks_of_codes_give_the_wav_of_the_whole(network, n_frames, sizes):
    codec = small_codec(network)
    codes = torch.randint(32, (2, 2, n_frames), generator=torch.Generator().manual_seed(n_frames))
    blocks = list(codec.decode_chunks(pieces(codes, sizes)))
    assert all(block.shape[-1] for block in blocks)
    assert torch.allclose(torch.cat(blocks, -1), codec.decode(codes), atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_sound_comes_a_few_frames_after_its_codes(network):
    codec = small_codec(network)
    heard = [0]

    def listening() -> Iterator[torch.Tensor]:
        for _ in range(30):
            yield torch.zeros(1, 2, 1, dtype=torch.long)
            told.append(heard[0] // codec.hop_length)

    told: list[int] = []
    for wav in codec.decode_chunks(listening()):
        heard[0] += wav.shape[-1]
    assert heard == [30 * codec.hop_length]
    late = max(frames - sounding for frames, sounding in enumerate(told, 1))
    at_once = isinstance(network, SEANetConfig) and network.causal and network.pad_mode == "constant"
    assert late <= (0 if at_once else 12)


@pytest.mark.parametrize("network", NETWORKS[-3:])
def test_clips_of_different_lengths_get_their_own_codes(network):
    codec = small_codec(network)
    wavs = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (1000, 1, 333, 1000)]
    with closing(RowEncoder(codec)) as encoder:
        together = encoder.encode(torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)[:, None], [*map(len, wavs)])
    for wav, codes in zip(wavs, together, strict=True):
        alone = codec.encode(wav[None, None])[0].numpy()
        assert codes.shape == alone.shape and codes.dtype == alone.dtype
        assert (codes == alone).mean() > 0.995  # one thread or several: a tie may fall otherwise


def test_nothing_in_nothing_out():
    codec = small_codec(NETWORKS[0])
    assert list(codec.encode_chunks([])) == list(codec.decode_chunks([])) == []
    with pytest.raises(ValueError, match="wav must be"):
        list(codec.encode_chunks([torch.zeros(1, 2, 9)]))
    with pytest.raises(ValueError, match="codes must be"):
        list(codec.decode_chunks([torch.zeros(1, 3, 9, dtype=torch.long)]))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("at_once", [200, 1 << 20])
def test_prepared_networks_give_what_the_plain_ones_give(network, at_once, monkeypatch):
    plain, prepared = small_codec(network), small_codec(network)
    monkeypatch.setattr(model, "BLOCK", at_once)
    monkeypatch.setattr(seanet, "CHUNK", 500)
    prepared.prepare()
    wav = torch.randn(3, 1, 2005, generator=torch.Generator().manual_seed(1))
    codes = plain.encode(wav)
    assert (prepared.encode(wav) == codes).float().mean() > 0.995
    assert torch.allclose(prepared.decode(codes), plain.decode(codes), atol=1e-4)


def test_training_and_moving_let_go_of_prepared_networks():
    codec = small_codec(NETWORKS[0])
    for change in (codec.train, codec.double, codec.float):
        codec.prepare()
        assert codec._prepared
        change()
        assert codec._prepared is None
