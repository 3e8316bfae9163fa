"""Which examples make a step, sorted by length; which process reads them; which text they have."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.zoo import make_rows, make_shards
from hypothesis import given
from hypothesis import strategies as st

from audiogen_cli.data.captions import process_tags
from audiogen_cli.errors import InputError
from audiogen_cli.lm.config import ModelShape, TrainConfig
from audiogen_cli.lm.training.datasets import LengthBuckets, load_tokens
from audiogen_cli.training.sampler import RankBatchSampler


class Lengths:
    """Examples that have nothing but a length."""

    def __init__(self, seed: int = 0) -> None:
        self.table = np.random.default_rng(seed).integers(1, 500, 1000)

    def n_frames(self, i: int) -> int:
        return int(self.table[i % 1000])


@given(batch_size=st.integers(1, 40), bucket_steps=st.integers(1, 4), seed=st.integers(0, 100))
def test_every_example_is_in_one_step(batch_size: int, bucket_steps: int, seed: int) -> None:
    buckets = LengthBuckets(Lengths(seed), batch_size, bucket_steps, seed)  # type: ignore[arg-type]
    seen: Counter[int] = Counter()
    for step in range(2 * bucket_steps):
        numbers = buckets.step(step)
        lengths = [buckets.source.n_frames(i) for i in numbers]
        assert len(numbers) == batch_size and lengths == sorted(lengths)
        assert buckets.lengths(step) == lengths
        seen.update(numbers)
    assert seen == Counter(range(2 * bucket_steps * batch_size))
    again = LengthBuckets(Lengths(seed), batch_size, bucket_steps, seed)  # type: ignore[arg-type]
    assert again.step(2 * bucket_steps - 1) == buckets.step(2 * bucket_steps - 1)  # from anywhere, as a resumed run


def test_sorting_several_steps_saves_padding() -> None:
    def wasted(bucket_steps: int) -> float:
        buckets, frames, padded = LengthBuckets(Lengths(), 64, bucket_steps), 0, 0  # type: ignore[arg-type]
        for rank in range(16):
            for batch in RankBatchSampler(buckets.step, range(8), rank, 16, 4):
                lengths = [buckets.source.n_frames(i) for i in batch]
                frames, padded = frames + sum(lengths), padded + max(lengths) * len(lengths)
        return 1 - frames / padded

    assert wasted(1) > 0.3
    assert wasted(8) < 0.1


def test_a_tenth_of_the_examples_in_shards_has_no_text(token_shards: Path) -> None:
    recipe = TrainConfig()
    train = load_tokens(recipe, token_shards).train
    without = sum(train[i].text is None for i in range(2000)) / 2000
    assert recipe.text_dropout == 0.1 and abs(without - 0.1) < 0.02  # sec. 3.2


def test_a_model_without_text_processing_trains_on_captions(
    tmp_path: Path, token_shards: Path, tiny_codec: Path
) -> None:
    raw = TrainConfig(text_dropout=0.0, model=ModelShape(text_processing="none"))
    texts = {load_tokens(raw, token_shards).train[i].text for i in range(9)}
    assert texts == {"The dog!", "The rain!", "The bark!"}  # as published
    plain = load_tokens(replace(raw, model=ModelShape()), token_shards).train
    assert {plain[i].text for i in range(9)} == {"dog", "rain", "bark"}  # sec. 4.1

    old = make_shards(tmp_path / "old", tiny_codec, make_rows([12, 9, 20]))  # as an earlier version wrote them
    shard = old / "shard-00000.parquet"
    pq.write_table(pq.read_table(shard, partitioning=None).drop_columns(["captions"]), shard)
    assert load_tokens(TrainConfig(), old).train[0].id
    with pytest.raises(InputError, match="tokenize again"):
        load_tokens(raw, old)


def test_rows_that_have_only_tags_are_read_among_masks(tmp_path: Path, tiny_codec: Path) -> None:
    """A pure function of seed and number; those of one tag come first; captions and validation stay as they are."""
    tags = (("Dogs",), (), ("Dogs", "Rain"), ("Rain", "Barking", "Dogs"))
    rows = [
        replace(row, tags=own, texts=(process_tags(own) or "a caption",), captions=(" ".join(own) or "A caption.",))
        for row, own in zip(make_rows([12] * 8) + make_rows([12] * 4, "val"), tags * 3, strict=True)
    ]
    shards = make_shards(tmp_path / "tokens", tiny_codec, rows)
    recipe = TrainConfig(text_dropout=0.0, mask_tags=True)
    one, two = (load_tokens(recipe, shards) for _ in range(2))
    texts = {i: str(one.train[i].text) for i in range(40)}
    assert texts == {i: two.train[i].text for i in reversed(range(40))}
    levels = [sum(word != "[MASK]" for word in texts[i].split()) for i in range(8) if "[MASK]" in texts[i]]
    assert levels == [1, 1, 2, 2, 3, 3] and sum(text == "a caption" for text in texts.values()) == 10
    assert len(set(texts.values())) > 20 and {"dog", "rain", "bark"} < set(" ".join(texts.values()).split())
    assert one.validation and one.validation.validation_example(2).text == "dog rain"
    other = load_tokens(replace(recipe, seed=1), shards).train
    assert [other[i].text for i in range(40)] != list(texts.values())
    raw = load_tokens(replace(recipe, model=ModelShape(text_processing="none")), shards).train
    assert {"Dogs", "Rain", "Barking"} < set(" ".join(str(raw[i].text) for i in range(40)).split())

    shard = shards / "shard-00000.parquet"
    pq.write_table(pq.read_table(shard, partitioning=None).drop_columns(["tags"]), shard)
    with pytest.raises(InputError, match="mask_tags reads: tokenize again"):
        load_tokens(recipe, shards)
