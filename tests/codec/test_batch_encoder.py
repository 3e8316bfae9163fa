"""Rows encoded side by side on a GPU: the codes that each has alone, in few operations and few shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.gpu import CUDA, count_ops, fake_gpu

from audiogen_cli.codec.batch_encoder import encode_batch, encode_padded
from audiogen_cli.codec.config import CodecConfig, SEANetConfig, SpectralConfig
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.data import mixing
from audiogen_cli.data.augment import RowSpec
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.mixing import MixDraw, mix_rows
from audiogen_cli.data.windows import Window

SMALL = SEANetConfig(channels=4, strides=(2, 5), lstm_layers=1)
NETWORKS = [
    SMALL,
    replace(SMALL, pad_mode="reflect", norm="weight"),
    replace(SMALL, causal=True),
    replace(SMALL, causal=True, pad_mode="reflect"),
    SpectralConfig(),
]
LENGTHS = [8_001, 7_777, 4_002, 333, 90, 3]


def codec_of(network: SEANetConfig | SpectralConfig) -> AudioCodec:
    torch.manual_seed(0)
    codec = AudioCodec(CodecConfig(network=network, latent_dim=8, n_q=2, codebook_size=64))
    return codec.eval().requires_grad_(False)


def rows_of(lengths: list[int]) -> torch.Tensor:
    wav = 0.3 * torch.randn(len(lengths), 1, max(lengths))
    return wav * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None, None])


@pytest.mark.parametrize("network", NETWORKS)
def test_rows_that_are_filled_up_have_the_latents_they_have_alone(network: SEANetConfig | SpectralConfig) -> None:
    codec = codec_of(network)
    lengths = [n for n in LENGTHS if n >= codec.encoder.shortest * codec.hop_length]
    wav = torch.nn.functional.pad(rows_of(lengths), (0, 1_003))
    filled = codec.encoder(wav, lengths)
    for row, n in enumerate(lengths):
        alone = codec.encoder(wav[row : row + 1, :, :n])[0]
        torch.testing.assert_close(filled[row, :, : alone.shape[1]], alone, atol=1e-4, rtol=1e-4)
    if network.kind == "seanet" and not network.causal:  # silence alone would not do
        alone = codec.encoder(wav[1:2, :, : lengths[1]])[0]
        assert (codec.encoder(wav)[1, :, : alone.shape[1]] - alone).abs().max() > 1e-3


class Elsewhere(torch.Tensor):
    """A tensor on the CPU that says it is on a GPU, as far as `encode_padded` asks."""

    device = CUDA  # type: ignore[assignment]


@pytest.mark.parametrize("network", [NETWORKS[1], NETWORKS[4]])
def test_a_gpu_gives_each_row_its_codes_and_halves_the_batch_when_memory_is_short(
    network: SEANetConfig | SpectralConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, wav, shapes = codec_of(network), rows_of(LENGTHS), []
    honest = codec.encode

    def encode(wav: torch.Tensor, lengths: Sequence[int] = ()) -> torch.Tensor:
        if len(wav) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        shapes.append(len(wav))
        return honest(wav.as_subclass(torch.Tensor), lengths)

    monkeypatch.setattr(codec, "encode", encode)
    codes = encode_padded(codec, wav.as_subclass(Elsewhere), LENGTHS)
    assert next(size for size in shapes if size > 1) == 4 and max(shapes) == 4
    for row, (n, found) in enumerate(zip(LENGTHS, codes, strict=True)):
        alone = honest(wav[row : row + 1, :, :n])[0].numpy()
        assert found.shape == alone.shape and (found == alone).mean() > 0.99


def test_a_call_has_one_of_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, shapes = codec_of(SMALL), set()
    monkeypatch.setattr(codec, "encode", lambda wav, lengths: shapes.add(tuple(wav.shape)) or wav)
    for n in range(1, 33):
        assert len(encode_batch(codec, torch.zeros(n, 1, 8_000 - n), [8_000 - n] * n)) == n
    assert shapes == {(size, 1, 8_000) for size in (1, 2, 4, 8, 16, 32)}


def test_a_batch_takes_at_most_200_operations_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "draw_mix", lambda *drawn: MixDraw(160_000, 160_000, 160_000, 0, 0.0))
    clip = Clip("x/a", "x", "train", "a.wav", 0.0, 10.0, 16_000, 1, (), (), ("a",), "")
    window = Window(clip, "x/a", 0.0, 160_000)
    wav = np.zeros(160_000, np.float32)
    rows: Any = [(RowSpec("x/a", window), (wav[: 160_000 - n], None)) for n in range(64)]
    rows += [(RowSpec("x/b", window, window, n), (wav, wav)) for n in range(64)]
    with fake_gpu(), torch.device(CUDA):
        # The paper's x32 but for its LSTM: 9 more, which take minutes to pretend.
        codec = AudioCodec(CodecConfig(network=SEANetConfig(lstm_layers=0))).eval().requires_grad_(False)
        made: list[Any] = []
        assert count_ops(lambda: made.extend(mix_rows(rows, CUDA))) <= 110  # half of the rows are mixes
        assert 100 < count_ops(lambda: encode_batch(codec, *made)) <= 200 - 9


def test_codes_are_computed_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, seen = codec_of(SMALL), []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    codec.encoder.register_forward_pre_hook(lambda *inputs: seen.append(torch.backends.cudnn.allow_tf32))
    for lengths in ((), [999, 1_000]):
        codec.encode(rows_of([1_000, 1_000]), lengths)
    assert seen == [False, False] and torch.backends.cudnn.allow_tf32
