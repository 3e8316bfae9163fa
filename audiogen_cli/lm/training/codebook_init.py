"""Learning through the codec's codebooks: codes that sound alike are near each other before the first step.

# ours: in training, a table of codes, read or predicted, is a linear map of the codec's own vectors for them plus a
residual per code. From a thousand clips alone a model would have to find out for every code of every stream which
others are near; this way a step towards one code teaches all codes near it. The tables read and predicted begin with
the same map, so a sound continues unchanged unless the model has learned better.

`state_dict()` of a tied model holds plain tables, and `load_state_dict` takes them: nothing else needs to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.lm.model import CodeModel

# Of each dimension's standard deviation, the power that it is divided by: with 0 the loudest dimensions dominate, with
# 1 all are equally loud.
FLATTENING = 0.5
# Standard deviations that `CodeModel` begins with: of an input, and of a head's weights.
INPUT_STD, HEAD_STD = 0.5, 0.02
TINY = 1e-12  # instead of a spread of zero
RESIDUAL, MAPS = "parametrizations.weight.original", "parametrizations.weight.0.maps"  # a tied layer's parameters
RESIDUAL_INIT = 0.1  # standard deviation of the residuals at the start, as a share of the mapped vectors'


class CodebookTiedEmbedding(nn.Module):
    """Parametrize a table [K · V, d] as residual + vectors @ maps: vectors [K, V, D] fixed, maps [K, D, d] learned."""

    vectors: Tensor

    def __init__(self, vectors: Tensor, maps: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors, persistent=False)
        self.maps = nn.Parameter(maps)

    def forward(self, residual: Tensor) -> Tensor:
        return residual + torch.bmm(self.vectors, self.maps).flatten(0, 1)


@torch.no_grad()
def tie_to_codebooks(model: CodeModel, codec: AudioCodec) -> None:
    """Tie the code embeddings and heads of a fresh `model` to the codebooks of `codec`, which made its codes."""
    config = model.config
    vectors = torch.stack([stream.codebook.detach().float() for stream in codec.quantizer]).to(model.null_text.device)
    vectors = vectors - vectors.mean(1, keepdim=True)  # [K, V, D]
    spread = vectors.square().mean(1).sum(0).sqrt()  # [D]
    vectors = vectors / spread.clamp(min=1e-4 * float(spread.max()) + TINY) ** FLATTENING
    shared = nn.init.orthogonal_(vectors.new_empty(vectors.shape[2], config.dim))
    mapped = (vectors @ shared).square().mean((1, 2))  # [K], the mean square of each stream's mapped vectors
    mapped = mapped.clamp(min=1e-6 * float(mapped.max()) + TINY)  # 0 where a stream's codes are all alike
    special = vectors.new_zeros(config.n_q, 1, vectors.shape[2])
    table, heads = model.embedding.table, model.heads.linear
    summands = config.n_q if config.embedding == "mean" else 1
    maps_in = (shared * INPUT_STD * summands * mapped.sum().rsqrt()).repeat(config.n_q, 1, 1)
    nn.init.normal_(table.weight, std=RESIDUAL_INIT * INPUT_STD * summands * config.n_q**-0.5)
    nn.init.normal_(heads.weight, std=RESIDUAL_INIT * HEAD_STD)
    _tie(table, CodebookTiedEmbedding(torch.cat([vectors, special], 1), maps_in))
    maps_out = shared * HEAD_STD * mapped.rsqrt()[:, None, None]
    _tie(heads, CodebookTiedEmbedding(vectors, maps_out))


def _tie(layer: nn.Module, tied: CodebookTiedEmbedding) -> None:
    """Parametrize a layer's weight, folded in its state dict as if it were plain."""
    parametrize.register_parametrization(layer, "weight", tied)
    layer.register_state_dict_post_hook(_fold)
    layer.register_load_state_dict_pre_hook(_unfold)


@torch.no_grad()
def _fold(layer: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Replace the parameters by the plain table that they make."""
    del state[prefix + RESIDUAL], state[prefix + MAPS]
    state[f"{prefix}weight"] = layer.weight


def _unfold(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take a plain table as the residuals; the maps become zero."""
    if (table := state.pop(f"{prefix}weight", None)) is not None:
        state[prefix + RESIDUAL] = table
        state[prefix + MAPS] = torch.zeros_like(layer.get_parameter(MAPS))
