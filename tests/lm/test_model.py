"""The language model against an independent implementation in float64, written from the paper's formulas."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from helpers.zoo import CONFIG, make_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.training.cpu_kernels import use_cpu_kernels
from audiogen_cli.lm.training.step import lm_loss
from audiogen_cli.lm.transformer import CrossAttention, ProjectedText

S = CONFIG.codebook_size  # the special token
Weights = dict[str, Tensor]


def layer_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    rows = [(row - row.mean()) / (row.var(unbiased=False) + 1e-5).sqrt() for row in x]
    return torch.stack(rows) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def attention(q: Tensor, k: Tensor, v: Tensor, n_heads: int, causal: bool) -> Tensor:
    """q: [S, d]; k, v: [C, d]; one head and one query at a time."""
    size = q.shape[1] // n_heads
    rows = []
    for s in range(len(q)):
        seen = s + 1 if causal else len(k)
        heads = []
        for h in range(n_heads):
            part = slice(h * size, (h + 1) * size)
            weights = torch.exp(k[:seen, part] @ q[s, part] / math.sqrt(size))
            heads.append(weights @ v[:seen, part] / weights.sum())
        rows.append(torch.cat(heads))
    return torch.stack(rows)


def position(i: int, dim: int) -> Tensor:
    angles = [i / 10_000 ** (j / (dim // 2 - 1)) for j in range(dim // 2)]
    return torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles], dtype=torch.float64)


def reference(w: Weights, config, codes: Tensor, text: Tensor) -> Tensor:
    """One sample: codes [K, T], text [L, D] (L = 0: none). Returns logits [K, T, V]."""
    n_q, n_frames, dim = *codes.shape, config.dim
    late = config.stream_delays
    tables = w["embedding.table.weight"].unflatten(0, (n_q, S + 1))
    audio = []
    for step in range(n_frames + max(late)):  # input step 0 is all special tokens
        tokens = [codes[k, f] if 0 <= (f := step - 1 - late[k]) < n_frames else S for k in range(n_q)]
        total = sum(tables[k, token] for k, token in enumerate(tokens))
        audio.append(total / n_q if config.embedding == "mean" else total)
    u = linear(text, w, "text_projection") if len(text) else w["null_text"][None]
    x = torch.cat([u, torch.stack(audio)]) if config.text_prefix else torch.stack(audio)
    x = x + torch.stack([position(i, dim) for i in range(len(x))])
    for layer in range(config.n_layers):
        name = f"blocks.{layer}."
        q, k, v = linear(layer_norm(x, w, name + "norm_self"), w, name + "attention.qkv").split(dim, 1)
        x = x + linear(attention(q, k, v, config.n_heads, True), w, name + "attention.out")
        if config.cross_attention:
            q = linear(layer_norm(x, w, name + "norm_cross"), w, name + "cross_attention.query")
            k, v = linear(u, w, name + "cross_attention.key_value").split(dim, 1)
            x = x + linear(attention(q, k, v, config.n_heads, False), w, name + "cross_attention.out")
        h = linear(layer_norm(x, w, name + "norm_ff"), w, name + "up")
        x = x + linear(h * 0.5 * (1 + torch.erf(h / math.sqrt(2))), w, name + "down")
    x = x[len(u) :] if config.text_prefix else x
    heads = linear(layer_norm(x, w, "norm"), w, "heads.linear").unflatten(1, (n_q, S))
    return torch.stack([torch.stack([heads[t + late[k], k] for t in range(n_frames)]) for k in range(n_q)])


VARIANTS = [
    {},
    {"pattern": "parallel"},
    {"text_prefix": False, "embedding": "sum", "bias": False},  # what the public checkpoints are
    {"cross_attention": False},
    {"delays": (0, 3, 1), "n_heads": 4},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_logits_and_gradients_agree_with_the_reference(changes: dict[str, object]) -> None:
    model = make_model(**changes).double()
    generator = torch.Generator().manual_seed(1)
    lengths, n_texts = (6, 4), (3, 0)  # the second clip is shorter and has no text
    codes = torch.randint(S, (2, 3, 6), generator=generator)
    text = torch.randn(2, 3, CONFIG.text_width, dtype=torch.float64, generator=generator)
    text_mask = torch.arange(3) < torch.tensor(n_texts)[:, None]
    frames_mask = torch.arange(6) < torch.tensor(lengths)[:, None]

    output = model(codes, text, text_mask, frames_mask)
    lm_loss(output, codes).sum().backward()

    weights = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    loss = torch.zeros((), dtype=torch.float64)
    for b in range(2):
        logits = reference(weights, model.config, codes[b, :, : lengths[b]], text[b, : n_texts[b]])
        torch.testing.assert_close(output.logits[b, :, : lengths[b]], logits, atol=1e-4, rtol=1e-5)
        for k in range(3):
            for t in range(lengths[b]):
                loss = loss - (logits[k, t, codes[b, k, t]] - logits[k, t].logsumexp(0))
    loss.backward()
    for name, parameter in model.named_parameters():
        expected = weights[name].grad
        assert parameter.grad is not None and expected is not None, name
        scale = float(expected.abs().max()) + 1e-3
        torch.testing.assert_close(parameter.grad / scale, expected / scale, atol=1e-4, rtol=0, msg=name)


def test_text_reaches_every_audio_position_by_both_ways() -> None:
    codes, text_mask = torch.randint(S, (1, 3, 5)), torch.ones(1, 2, dtype=torch.bool)
    for changes in ({"cross_attention": False}, {"text_prefix": False}):
        model = make_model(**changes)
        one, two = (model(codes, torch.full((1, 2, CONFIG.text_width), x), text_mask).logits for x in (0.5, -0.5))
        assert ((one - two).abs().amax((0, 1, 3)) > 1e-3).all()


def test_a_clip_does_not_depend_on_its_batch() -> None:
    model = make_model()
    codes = torch.randint(S, (3, 3, 9))
    text, mask = torch.randn(3, 7, CONFIG.text_width), torch.arange(7) < torch.tensor([7, 2, 0])[:, None]
    together = model(codes, text, mask).logits
    for b, n_text in enumerate((7, 2, 1)):
        alone = model(codes[b : b + 1], text[b : b + 1, :n_text], mask[b : b + 1, :n_text]).logits
        torch.testing.assert_close(together[b : b + 1], alone, atol=1e-4, rtol=1e-5)


def test_bfloat16_training_is_float32_s_within_its_precision() -> None:
    """On a CPU, bf16 takes another way through attention (`training.cpu_kernels`)."""
    model = make_model().train()
    use_cpu_kernels(model)
    codes, text = torch.randint(S, (2, 3, 9)), torch.randn(2, 4, CONFIG.text_width)
    mask = torch.arange(4) < torch.tensor([4, 2])[:, None]
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = model(codes, text, mask)
        lm_loss(output, codes).mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_initial_loss_is_that_of_a_uniform_guess() -> None:
    torch.manual_seed(0)
    model = AudioLanguageModel(CONFIG)
    codes = torch.randint(S, (4, 3, 20))
    output = model(codes, torch.randn(4, 2, CONFIG.text_width), torch.ones(4, 2, dtype=torch.bool))
    torch.testing.assert_close(lm_loss(output, codes) / 80, torch.full((3,), math.log(S)), atol=0.1, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_text", [1, 3, 40])
def test_both_ways_of_cross_attention_are_one(n_text: int, bias: bool) -> None:
    config = dataclasses.replace(CONFIG, bias=bias)
    torch.manual_seed(0)
    attention_ = CrossAttention(config).double()
    x = torch.randn(3, 25, config.dim, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(3, n_text, config.dim, dtype=torch.float64, requires_grad=True)
    mask = torch.zeros(3, 1, 1, n_text, dtype=torch.float64)
    mask[1, ..., 1:] = -torch.inf
    text, wanted = ProjectedText(vectors, mask), torch.randn(3, 25, config.dim, dtype=torch.float64)
    inputs = [x, vectors, *attention_.parameters()]
    kv = attention_.precompute_kv(text)
    ways = [attention_(x, text), attention_(x, kv), attention_._attend_folded(x, kv)]
    first, *others = [[y, *torch.autograd.grad((y * wanted).sum(), inputs, retain_graph=True)] for y in ways]
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            torch.testing.assert_close(ours, theirs)


class CountBytes(TorchDispatchMode):
    """Counts the bytes of what operators return that is as large as one stream's logits, or larger."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.total = least, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found._base is None and found.nbytes >= self.least:
            self.total += found.nbytes
        return found


def test_the_backward_pass_of_many_streams_takes_no_copy_of_all_logits_for_each() -> None:
    model = make_model(n_q=12, pattern="delay", codebook_size=64, n_layers=1)
    codes = torch.randint(64, (2, 12, 40))
    logits = model(codes, torch.randn(2, 3, CONFIG.text_width), torch.ones(2, 3, dtype=torch.bool)).logits
    with CountBytes(logits.nbytes // 12) as count:
        (logits * torch.randn_like(logits)).sum().backward()
    assert count.total < 30 * logits.nbytes  # 20 times; sliced stream by stream from all of them 48 times
