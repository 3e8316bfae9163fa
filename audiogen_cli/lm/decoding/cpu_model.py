"""A model's blocks and heads on ONNX Runtime, whose products of few rows read the weights at the speed of memory.

In int8 and int4 (`rounding`) the inputs of a product are rounded to int8, too, in groups; all else is float32.

# ours: int4 is for the blocks. What reads the text, once, and the heads are int8 beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.devices import count_threads
from audiogen_cli.errors import AudiogenError
from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.rounding import ROUNDED, round_weight
from audiogen_cli.lm.model import CodeModel
from audiogen_cli.lm.transformer import CrossAttentionKV, ProjectedText
from audiogen_cli.onnx_session import STOP_SPINNING, open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from audiogen_cli.lm.decoding.onnx_graph import Graph

GRAPH_PARTS = ("blocks.", "norm.", "heads.")  # beginnings of the names of a graph's weights
SENSITIVE = ("key_value", "linear")  # int8 beside int4
HEAD_SIZES = 8  # attention takes heads of a multiple of so many numbers
NUMPY = {torch.float32: "float32", torch.int32: "int32"}
PARTS, PART_BYTES = 4, 1 << 27  # at most so many graphs of blocks, each of so many bytes of weights or more
STEPS = 256  # of a row that are read at once: the scores of attention take S · C numbers a head

# Shapes: R rows, S steps, L text positions, C cached positions, H heads of E numbers, see `padded_size`.


class GraphBlocks(nn.Module):
    """Replace the blocks, the last norm and the heads of a model for decoding: no gradients, no saving."""

    def __init__(self, config: LMConfig, weights: Mapping[str, Tensor], dtype: str, file: Path | None = None) -> None:
        """weights, dtype: see `convert_weights`. file: the safetensors file that they are mapped from, if any; ONNX
        Runtime then reads them there one by one. No plain copy stays in memory."""
        super().__init__()
        from audiogen_cli.lm.decoding.onnx_graph import add_step, add_text

        self.config, self.dtype, self.size = config, dtype, padded_size(config)
        n_bytes = sum(each.nbytes for each in weights.values())
        n_parts = min(PARTS, count_threads(), config.n_layers, 1 + n_bytes // PART_BYTES)
        bounds = [config.n_layers * part // n_parts for part in range(n_parts + 1)]
        graphs: list[Callable[[Graph, LMConfig], None]] = [
            partial(add_step, blocks=range(*pair)) for pair in pairwise(bounds)
        ]
        graphs += [add_text] if config.cross_attention else []
        with ThreadPoolExecutor() as pool:  # each lays out its weights on one core
            sessions = list(pool.map(lambda add: _open(config, add, weights, file), graphs))
        self.parts, self.text = sessions[:n_parts], next(iter(sessions[n_parts:]), None)
        # Read by every step: matrices, but not those that read the text.
        read = (each for name, each in weights.items() if each.dim() > 1 and "key_value" not in name)
        self.n_bytes = sum(each.nbytes for each in read)

    def empty_cache(self, n_rows: int, n_columns: int) -> dict[str, Tensor]:
        """Return key.N and value.N, each layer's cache [R, H, C, E], which takes memory as it is written to."""
        shape = n_rows, self.config.n_heads, n_columns, self.size
        return {f"{part}.{n}": torch.empty(shape) for n in range(self.config.n_layers) for part in ("key", "value")}

    def read_text(self, vectors: Tensor) -> dict[str, Tensor]:
        """Return text_key.N and text_value.N, what each layer reads of texts [R, L, d]: [R, H, L, E].

        Nothing without cross-attention.
        """
        found = {}
        for number, each in enumerate(self.text.run(None, {"text": vectors.detach().numpy()}) if self.text else ()):
            both = torch.from_numpy(each).unflatten(-1, (2, self.config.n_heads, -1)).permute(2, 0, 3, 1, 4)
            found[f"text_key.{number}"], found[f"text_value.{number}"] = both
        return found

    def bind(
        self, x: Tensor, lengths: Tensor, total: Tensor, past: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> Binding:
        """Bind what `onnx_graph.add_step` reads and writes. past: caches and texts."""
        between = {part.get_inputs()[0].name: torch.empty_like(x) for part in self.parts[1:]}
        caches = {f"new_{name}": each for name, each in past.items() if not name.startswith("text")}
        inputs = {"x": x, "lengths": lengths, "total": total, **past}
        return Binding(self.parts, {**inputs, **caches, **between, **outputs})

    def read(self, x: Tensor, past: Mapping[str, Tensor], states: Sequence[int] = ()) -> list[Tensor]:
        """Read the first steps x [1, S, d] of a row into its caches; return the outputs of some blocks, [1, S, d] each.

        past: its caches and texts, see `bind`; text_mask [1, 1, 1, L].
        """
        end, parts, past = 0, [], dict(past)
        mask = past.get("text_mask")
        for part in x.split(STEPS, dim=1):
            end += part.shape[1]
            total = torch.tensor(end, dtype=torch.int32)
            if mask is not None:
                past["text_mask"] = mask.repeat(1, 1, part.shape[1], 1)
            outputs = {f"state.{number}": torch.empty(part.shape) for number in states}
            self.bind(part.contiguous(), total[None] - 1, total, past, outputs).run()
            parts.append(outputs.values())
        return [torch.cat(each, dim=1) for each in zip(*parts, strict=True)]

    def states(
        self, x: Tensor, text: CrossAttentionKV | ProjectedText | None, run: Callable[..., Tensor]
    ) -> Iterator[Tensor]:
        """Yield what `transformer.Blocks` does."""
        rows = []
        for row in range(len(x)):
            past = self.empty_cache(1, x.shape[1])
            if isinstance(text, ProjectedText):
                texts = self.read_text(text.vectors[row : row + 1])
                past |= {name: each.contiguous() for name, each in texts.items()}
                past["text_mask"] = text.mask[row : row + 1]
            rows.append(self.read(x[row : row + 1], past, range(self.config.n_layers)))
        yield from map(torch.cat, zip(*rows, strict=True))


class ConvertedLayer(nn.Module):
    """Stand where the graphs hold a layer, in a model that only decodes by now."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("the model was converted for decoding on a CPU: load it again for forward")


def use_graph(model: CodeModel, weights: Mapping[str, Tensor], dtype: str, file: Path | None = None) -> None:
    """Replace a model's blocks, last norm and heads; see `GraphBlocks`."""
    model.blocks = cast(Any, GraphBlocks(model.config, weights, dtype, file))
    model.norm = model.heads = cast(Any, ConvertedLayer())


def convert_weights(model: CodeModel, dtype: str) -> dict[str, Tensor]:
    """Return what `GraphBlocks` reads of a model, by names of its layers, which lose it. dtype: float32, int8 or int4.

    Raises AudiogenError where weights to be rounded are no finite numbers: rounding would hide that.
    """
    converted: dict[str, Tensor] = {}
    if dtype in ROUNDED and not all(bool(each.isfinite().all()) for each in model.parameters()):
        raise AudiogenError("the model's weights are no finite numbers: its training failed, or its file is damaged")
    for name, layer in model.named_modules():
        if not f"{name}.".startswith(GRAPH_PARTS) or not isinstance(layer, nn.Linear | nn.LayerNorm):
            continue
        tensors = {
            part: _pad_heads(f"{name}.{part}", each.detach().float(), model.config).contiguous()
            for part, each in layer.named_parameters()
        }
        for part in tensors:
            delattr(layer, part)
        if isinstance(layer, nn.Linear) and dtype in ROUNDED:
            own = "int8" if name.endswith(SENSITIVE) else dtype
            tensors |= round_weight(tensors.pop("weight"), own)
        converted |= {f"{name}.{part}": tensor for part, tensor in tensors.items()}
    return converted


def padded_size(config: LMConfig) -> int:
    """Return E, the numbers of a head as the graphs have them: d / H and zeros up to a multiple of HEAD_SIZES."""
    return -(-config.dim // config.n_heads // HEAD_SIZES) * HEAD_SIZES


def _pad_heads(name: str, x: Tensor, config: LMConfig) -> Tensor:
    """Fill up the heads in a weight or bias of an attention with zeros."""
    size = config.dim // config.n_heads
    missing = padded_size(config) - size
    if not missing or "attention." not in name or name.endswith("out.bias"):
        return x
    if name.endswith("out.weight"):
        return F.pad(x.unflatten(1, (-1, size)), (0, missing)).flatten(1)
    return F.pad(x.unflatten(0, (-1, size)).transpose(1, -1), (0, missing)).transpose(1, -1).flatten(0, 1)


def _open(
    config: LMConfig, add: Callable[[Graph, LMConfig], None], weights: Mapping[str, Tensor], file: Path | None
) -> InferenceSession:
    from audiogen_cli.lm.decoding.onnx_graph import Graph, find_places

    graph = Graph(weights, find_places(file) if file else {})
    add(graph, config)
    folder = {"session.model_external_initializers_file_folder_path": str(file.parent)} if file else {}
    own = {name: each.numpy() for name, each in weights.items() if name in graph.initializers and not file}
    return open_session(graph.serialize(), count_threads(), STOP_SPINNING | folder, own)


class Binding:
    """Tensors that sessions, one after another, read and write in place."""

    def __init__(self, sessions: Sequence[InferenceSession], tensors: Mapping[str, Tensor]) -> None:
        """tensors: by the names of inputs and outputs; other outputs are not kept."""
        self._tensors = tensors  # their memory must not go
        self._bindings = [(session, session.io_binding()) for session in sessions]
        for session, binding in self._bindings:
            for bind, values in (
                (binding.bind_input, session.get_inputs()),
                (binding.bind_output, session.get_outputs()),
            ):
                for name in (value.name for value in values if value.name in tensors):
                    each = tensors[name]
                    assert each.is_contiguous()
                    bind(name, "cpu", 0, NUMPY[each.dtype], tuple(each.shape), each.data_ptr())

    def run(self) -> None:
        for session, binding in self._bindings:
            session.run_with_iobinding(binding)
