"""Learning through the codec's codebooks: which codes sound alike is known before the first step.

# ours: a table of codes, read or predicted, is in training a linear map of the codec's own vectors for them plus what
is peculiar to each code. From a thousand clips alone a model would have to find out for every code of every stream what
it is near to; this way one step teaches all codes that lie in its direction. Since what is read and what is predicted
begin with one and the same map, a sound goes on as it is unless the model has learnt better. A saved model holds plain
tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from audiogen_cli.training.sharding import copy_into

if TYPE_CHECKING:
    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.lm.model import AudioLanguageModel

# Of a component's standard deviation, divided by that power: with 0 the loudest components are all that is seen, with 1
# each is as loud as any other.
FLATTENING = 0.5
# Standard deviations, as `AudioLanguageModel` begins with them: of an input, and of a head's weights.
EMBEDDED, PREDICTED = 0.5, 0.02
TINY = 1e-12  # instead of a spread of zero
PECULIAR = 0.1  # how large what is peculiar to each code begins, as a share of the rest


class _Mapped(nn.Module):
    """Tables of codes [K · V, d]: `vectors` [K, V, D], mapped by K matrices [D, d], plus what is peculiar to each."""

    vectors: Tensor

    def __init__(self, vectors: Tensor, maps: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors, persistent=False)
        self.maps = nn.Parameter(maps)

    def forward(self, peculiar: Tensor) -> Tensor:
        return peculiar + torch.bmm(self.vectors, self.maps).flatten(0, 1)


@torch.no_grad()
def learn_through(model: AudioLanguageModel, codec: AudioCodec) -> None:
    """Have the tables of a fresh `model` learn through the codebooks of `codec`, which has made its codes."""
    config = model.config
    vectors = torch.stack([stream.codebook.detach().float() for stream in codec.quantizer]).to(model.null_text.device)
    vectors = vectors - vectors.mean(1, keepdim=True)  # [K, V, D]
    spread = vectors.square().mean(1).sum(0).sqrt()  # [D]
    vectors = vectors / spread.clamp(min=1e-4 * float(spread.max()) + TINY) ** FLATTENING
    shared = nn.init.orthogonal_(vectors.new_empty(vectors.shape[2], config.dim))
    mapped = (vectors @ shared).square().mean((1, 2))  # [K], of each stream's tables the mean square
    mapped = mapped.clamp(min=1e-6 * float(mapped.max()) + TINY)  # 0 where a stream's codes are all alike
    special = vectors.new_zeros(config.n_q, 1, vectors.shape[2])
    table, heads = model.embedding.table, model.heads.linear
    summands = config.n_q if config.embedding == "mean" else 1
    into = (shared * EMBEDDED * summands * mapped.sum().rsqrt()).repeat(config.n_q, 1, 1)
    nn.init.normal_(table.weight, std=PECULIAR * EMBEDDED * summands * config.n_q**-0.5)
    nn.init.normal_(heads.weight, std=PECULIAR * PREDICTED)
    parametrize.register_parametrization(table, "weight", _Mapped(torch.cat([vectors, special], 1), into))
    out_of = shared * PREDICTED * mapped.rsqrt()[:, None, None]
    parametrize.register_parametrization(heads, "weight", _Mapped(vectors, out_of))


def named_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights to save, detached, by the names of a plain model: tables as they are read, whatever they learn by."""
    weights = {}
    for name in _own_parameters(model):
        owner, _, attribute = name.rpartition(".")
        weights[name] = getattr(model.get_submodule(owner), attribute).detach()
    return weights


@torch.no_grad()
def write_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights, by the names that `named_weights` gives them, into a model, whatever its tables learn by.

    Tables that learn through codebooks then hold all of it as what is peculiar to each code: their maps become zero.
    """
    for module in model.modules():
        if isinstance(module, _Mapped):
            module.maps.zero_()
    parameters = _own_parameters(model)
    copy_into(list(parameters.values()), [weights[name] for name in parameters])


def _own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters but for the maps, by the names that they have in a plain model."""
    return {
        name.replace(".parametrizations", "").removesuffix(".original"): parameter
        for name, parameter in model.named_parameters()
        if not name.endswith(".maps")
    }
