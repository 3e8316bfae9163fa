"""The decoding step as an ONNX graph: the model's blocks and heads (`transformer.Block`), and a text's keys and values.

Weights are outside of the graphs, in memory or in a file (`Place`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from onnx import NodeProto, TensorProto, ValueInfoProto, helper
from torch import Tensor

from audiogen_cli.lm.config import LMConfig
from audiogen_cli.lm.decoding.cpu_model import padded_size
from audiogen_cli.lm.decoding.rounding import GROUPS

MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
OPSETS = {"": 20, MICROSOFT: 1}
IR_VERSION = 9  # of opset 20
INT8_PRODUCTS = 4  # an "accuracy level" of the kernel: inputs are rounded to int8, too, in groups as the weights
TYPES = {torch.float32: TensorProto.FLOAT, torch.uint8: TensorProto.UINT8, torch.int32: TensorProto.INT32}

# Shapes: R rows, S steps, L text positions, C cached positions, H heads of E numbers, see `padded_size`.


@dataclass(frozen=True)
class Place:
    """Point to a weight in a file."""

    file: str  # its name in the folder that the session is told
    offset: int
    n_bytes: int


@dataclass
class Graph:
    """A graph under construction. Values have names; weights those of the model's layers, and `.codes`, `.scales` and
    `.zeros` if they are rounded."""

    weights: Mapping[str, Tensor]
    places: Mapping[str, Place]  # of weights in a file
    nodes: list[NodeProto] = field(default_factory=list)
    inputs: list[ValueInfoProto] = field(default_factory=list)
    outputs: list[ValueInfoProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)

    def add(self, kind: str, *inputs: str, domain: str = "", outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Add an operator; return the name of its first output."""
        names = list(outputs) or [f"{kind}.{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0]

    def read(self, name: str, dtype: torch.dtype, *shape: str | int) -> str:
        """Declare an input."""
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[dtype], shape))
        return name

    def write(self, name: str, *shape: str | int) -> str:
        """Declare an output, float32."""
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def weight(self, name: str) -> str:
        """Declare a weight."""
        tensor = self.weights[name]
        place = self.places.get(name, Place(name, 0, tensor.nbytes))
        proto = TensorProto(name=name, dims=tensor.shape, data_type=TYPES[tensor.dtype])
        proto.data_location = TensorProto.EXTERNAL
        for key, value in (("location", place.file), ("offset", place.offset), ("length", place.n_bytes)):
            proto.external_data.add(key=key, value=str(value))
        self.initializers[name] = proto
        return name

    def constant(self, name: str, *values: int) -> str:
        """Declare a list of integers."""
        self.initializers[name] = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return name

    def linear(self, layer: str, x: str, n_inputs: int, has_bias: bool) -> str:
        """Multiply x [R, S, in] by a layer's weight: [R, S, out]."""
        bias = self.weight(f"{layer}.bias") if has_bias else ""
        if f"{layer}.codes" not in self.weights:
            y = self.add("FusedMatMul", x, self.weight(f"{layer}.weight"), domain=MICROSOFT, transB=1)
            return self.add("Add", y, bias) if bias else y
        codes, scales = (self.weight(f"{layer}.{part}") for part in ("codes", "scales"))
        zeros = self.weight(f"{layer}.zeros") if f"{layer}.zeros" in self.weights else ""
        bits = 4 if zeros else 8
        kernel: dict[str, Any] = {"bits": bits, "block_size": GROUPS[f"int{bits}"], "accuracy_level": INT8_PRODUCTS}
        kernel |= {"K": n_inputs, "N": len(self.weights[codes])}
        return self.add("MatMulNBits", x, codes, scales, zeros, "", bias, domain=MICROSOFT, **kernel)

    def norm(self, layer: str, x: str) -> str:
        """Apply a LayerNorm."""
        weight, bias = (self.weight(f"{layer}.{part}") for part in ("weight", "bias"))
        return self.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=1e-5)  # torch's epsilon

    def serialize(self) -> bytes:
        """Return the graph as a file's content."""
        tensors = list(self.initializers.values())
        graph = helper.make_graph(self.nodes, "audiogen", self.inputs, self.outputs, tensors)
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()
        return content


def add_step(graph: Graph, config: LMConfig, blocks: range) -> None:
    """Add some blocks, and the heads after the last.

    Inputs: x, embeddings [R, S, d], or state.N of the block before the first; lengths [R], the last of its positions in
    each row; total, the largest of them plus 1; key.N and value.N, each block's cache [R, H, C, E], changed in place
    through the outputs new_key.N and new_value.N. With cross-attention: text_key.N and text_value.N [R, H, L, E], and
    text_mask [R, 1, S, L], which is added to the scores. Further outputs: state.N, of each block [R, S, d], and logits
    [R, 1, K · V] of the last step.
    """
    dim, n_heads, size, bias = config.dim, config.n_heads, padded_size(config), config.bias
    heads: dict[str, Any] = {"num_heads": n_heads, "scale": (dim // n_heads) ** -0.5}
    x = graph.read(f"state.{blocks[0] - 1}" if blocks[0] else "x", torch.float32, "R", "S", dim)
    lengths, total = graph.read("lengths", torch.int32, "R"), graph.read("total", torch.int32)
    mask = graph.read("text_mask", torch.float32, "R", 1, "S", "L") if config.cross_attention else ""
    for number in blocks:
        block = f"blocks.{number}"
        qkv = graph.linear(f"{block}.attention.qkv", graph.norm(f"{block}.norm_self", x), dim, bias)
        cache = [graph.read(f"{part}.{number}", torch.float32, "R", n_heads, "C", size) for part in ("key", "value")]
        new = [graph.write(f"new_{part}.{number}", "R", n_heads, "C", size) for part in ("key", "value")]
        y = graph.add(
            "GroupQueryAttention",
            *(qkv, "", "", *cache, lengths, total),
            domain=MICROSOFT,
            outputs=[f"attended.{number}", *new],
            kv_num_heads=n_heads,
            **heads,
        )
        x = graph.add("Add", x, graph.linear(f"{block}.attention.out", y, n_heads * size, bias))
        if config.cross_attention:
            cross = f"{block}.cross_attention"
            query = graph.linear(f"{cross}.query", graph.norm(f"{block}.norm_cross", x), dim, bias)
            parts = ("text_key", "text_value")
            text = [graph.read(f"{part}.{number}", torch.float32, "R", n_heads, "L", size) for part in parts]
            y = graph.add("MultiHeadAttention", query, *text, "", "", mask, domain=MICROSOFT, **heads)
            x = graph.add("Add", x, graph.linear(f"{cross}.out", y, n_heads * size, bias))
        y = graph.add("Gelu", graph.linear(f"{block}.up", graph.norm(f"{block}.norm_ff", x), dim, bias))
        y = graph.linear(f"{block}.down", y, config.ff_scale * dim, bias)
        x = graph.add("Add", x, y, outputs=[graph.write(f"state.{number}", "R", "S", dim)])
    if blocks.stop < config.n_layers:
        return
    bounds = graph.constant("last", -1), graph.constant("end", 1 << 30), graph.constant("steps_axis", 1)
    x = graph.norm("norm", graph.add("Slice", x, *bounds))
    logits = graph.linear("heads.linear", x, dim, bias)
    graph.add("Identity", logits, outputs=[graph.write("logits", "R", 1, config.n_q * config.codebook_size)])


def add_text(graph: Graph, config: LMConfig) -> None:
    """Add what blocks read of texts [R, L, d]: outputs text.N, a layer's keys and then its values [R, L, 2 · H · E]."""
    text = graph.read("text", torch.float32, "R", "L", config.dim)
    for number in range(config.n_layers):
        y = graph.linear(f"blocks.{number}.cross_attention.key_value", text, config.dim, config.bias)
        width = 2 * config.n_heads * padded_size(config)
        graph.add("Identity", y, outputs=[graph.write(f"text.{number}", "R", "L", width)])


def find_places(file: Path) -> dict[str, Place]:
    """Return where in a safetensors file its tensors are."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    bounds = {name: facts["data_offsets"] for name, facts in header.items()}
    return {name: Place(file.name, 8 + length + start, end - start) for name, (start, end) in bounds.items()}
