"""Batches as the model takes them: what padding leaves alone, how few shapes there are, and that nothing waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.gpu import CUDA, fake_gpu
from torch import Tensor

from audiogen_cli.lm.config import LMConfig, TextConfig, TrainConfig
from audiogen_cli.lm.decoder import CodeBatch, find_decoder
from audiogen_cli.lm.text.encoders import TextEncoder
from audiogen_cli.lm.training import step as stepping
from audiogen_cli.lm.training.batches import code_batches, encode_texts, pad_shapes
from audiogen_cli.lm.training.datasets import Batch, Example, LengthBuckets, collate
from audiogen_cli.lm.training.state import build_state
from audiogen_cli.training.sampler import RankBatchSampler

FACTS = {"n_q": 2, "codebook_size": 16, "frame_rate": 25.0, "sample_rate": 16_000, "codec_fingerprint": ""}
SHAPE = LMConfig(dim=16, n_layers=2, n_heads=2, max_frames=400, text=TextConfig(), text_width=6, **FACTS)  # type: ignore[arg-type]


class Words(TextEncoder):
    """A vector for each letter."""

    width = 6

    def compute(self, texts: Any) -> list[Tensor]:
        return [torch.randn(len(text), 6, generator=torch.Generator().manual_seed(len(text))) for text in texts]


def batch_of(lengths: list[int], texts: list[str | None]) -> Batch:
    codes = [torch.randint(16, (2, n), generator=torch.Generator().manual_seed(n)) for n in lengths]
    pairs = zip(codes, texts, strict=True)
    return collate([Example(f"x/{number}", code, text) for number, (code, text) in enumerate(pairs)])


def losses(config: LMConfig, batch: CodeBatch) -> Tensor:
    torch.manual_seed(0)
    decoder = find_decoder(config)
    model: Any = decoder.build(config).train()
    state: Any = SimpleNamespace(objective=decoder.build_objective(config, TrainConfig(), torch.device("cpu")))
    accelerator: Any = SimpleNamespace(device=torch.device("cpu"), autocast=nullcontext)
    return stepping._losses(state, model, batch, accelerator, step=0)


DIFFUSION = {"decoder": "diffusion", "text_prefix": False}


@pytest.mark.parametrize(
    "changes",
    [{}, {"pattern": "delay"}, {"text_prefix": False}, {"text_prefix": False, "text_padding": "zeros"}, DIFFUSION],
    ids=str,
)
def test_padding_to_few_shapes_changes_no_loss(changes: dict[str, Any]) -> None:
    config = replace(SHAPE, **changes)
    batch = encode_texts(batch_of([90, 70, 3], ["a dog", None, "rain"]), Words(), config, torch.device("cpu"))
    padded = pad_shapes(batch, config)
    n_text = 5 if config.text_padding == "zeros" else 8
    assert padded.codes.shape == (3, 2, 128) and padded.text.shape == (3, n_text, 6)
    torch.testing.assert_close(losses(config, padded), losses(config, batch), atol=1e-3, rtol=1e-5)


def test_no_example_gets_longer_than_the_window() -> None:
    batch = encode_texts(batch_of([390], ["a"]), Words(), SHAPE, torch.device("cpu"))
    assert pad_shapes(batch, SHAPE).frames_mask.shape == (1, 400)
    longer = encode_texts(batch_of([410], ["a"]), Words(), SHAPE, torch.device("cpu"))
    assert pad_shapes(longer, SHAPE).frames_mask.shape == (1, 410)


def test_a_thousand_steps_have_at_most_36_shapes() -> None:
    """One of four GPUs, 8 samples at once, the base recipe's buckets; sounds of 1 to 10 s, texts of 3 to 8 tokens."""
    config = replace(SHAPE, n_q=1, max_frames=5000)
    numbers = np.random.default_rng(0)
    frames, words = numbers.integers(500, 5001, 128_000), numbers.integers(3, 9, 128_000)
    source: Any = SimpleNamespace(n_frames=lambda i: int(frames[i]))
    sampler = RankBatchSampler(LengthBuckets(source, 128, 8).step, range(1000), 0, 4, 8)
    plain, padded = set(), set()
    for rows in sampler:
        n_frames, n_text = max(map(source.n_frames, rows)), int(max(words[i] for i in rows))
        shape = torch.empty(len(rows), n_frames, device="meta"), torch.empty(len(rows), n_text, device="meta")
        batch = CodeBatch([], shape[0][:, None], shape[0], shape[1][..., None], shape[1])
        plain.add((*batch.codes.shape, n_text))
        padded.add((*(found := pad_shapes(batch, config)).codes.shape, found.text.shape[1]))
    assert len(plain) > 1000 and len(padded) <= 36


def test_a_micro_batch_makes_nobody_wait_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a value of a tensor without data raises, as reading one on a GPU would wait."""
    config = replace(SHAPE, dropout=0.1)
    read, encoder = batch_of([90, 70], ["a dog", None]), Words()
    encoder.encode(["a dog"])
    with fake_gpu():
        batch = encode_texts(read, encoder, config, CUDA)
        with torch.device(CUDA):
            decoder = find_decoder(config)
            model = decoder.build(config).train()
        objective = decoder.build_objective(config, TrainConfig(code_dropout=0.3), CUDA)
        state: Any = SimpleNamespace(objective=objective)
        accelerator: Any = SimpleNamespace(device=CUDA, autocast=nullcontext)
        found = stepping._losses(state, model, batch, accelerator, step=0, text_noise=0.5)
        assert found.device.type == "cuda" and batch.codes.shape == (2, 2, 128)
        with pytest.raises(Exception, match="_local_scalar_dense"):
            found.tolist()


def test_texts_are_encoded_where_the_steps_are_read_ahead() -> None:
    read: list[int] = []

    class Watched(Words):
        def compute(self, texts: Any) -> list[Tensor]:
            read.append(len(texts))
            return super().compute(texts)

    steps = iter([[batch_of([9], ["a"]), batch_of([5], ["b c"])], [batch_of([7], [None])]])
    ahead = code_batches(steps, Watched(), SHAPE, torch.device("cpu"))
    first, second = next(ahead)
    assert read == [1, 1] and first.text.shape == (1, 1, 6) and second.text_mask.sum() == 3
    assert not next(ahead)[0].text_mask.any()


def test_on_a_gpu_they_are_encoded_on_a_stream_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[object] = []

    @contextmanager
    def stream(chosen: object) -> Iterator[None]:
        entered.append(chosen)
        yield
        entered.remove(chosen)

    class Watched(Words):
        def compute(self, texts: Any) -> list[Tensor]:
            assert entered == ["cuda:3"]
            return super().compute(texts)

    monkeypatch.setattr(torch.cuda, "Stream", str)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    ahead = code_batches(iter([[batch_of([9], ["a"])]]), Watched(), SHAPE, torch.device("cuda:3"))
    assert next(ahead)[0].codes.shape == (1, 2, 128)
    assert next(ahead, None) is None and not entered


def test_the_loss_told_is_that_of_the_recordings_that_could_be_read() -> None:
    read = Example("x/0", torch.randint(16, (2, 20), generator=torch.Generator().manual_seed(0)), "rain")
    damaged = Example("x/1", torch.zeros(2, 30, dtype=torch.int64), "wind", "it is damaged")

    def tell(examples: list[Example]) -> float:
        torch.manual_seed(0)
        accelerator = Accelerator(cpu=True)
        state = build_state(find_decoder(SHAPE).build(SHAPE), TrainConfig(), accelerator)
        batch = encode_texts(collate(examples), Words(), SHAPE, accelerator.device)
        n_frames = sum(example.codes.shape[1] for example in examples)
        metrics = stepping.train_step(state, [batch], n_frames, TrainConfig(), accelerator)
        assert metrics is not None
        return metrics["loss"]

    assert tell([read, damaged]) == pytest.approx(tell([read]))
