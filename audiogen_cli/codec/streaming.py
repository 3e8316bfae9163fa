"""Layers that take a signal block by block, for fast inference in little memory (sec. 3.1).

A layer turns the next frames of a signal into the output frames that are known by then. What it needs of the past, and
what must wait for the future, it keeps in the signal's state. So a whole file is one last block, and an hour of sound
takes the memory of a block. Frames are [B, T, C], channels last: so convolutions and LayerNorm run fastest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.devices import count_threads
from audiogen_cli.onnx_session import STOP_SPINNING, open_session

OPSET, IR_VERSION = 14, 8  # the oldest with today's LSTM
OUTPUTS = "y", "last_hidden", "last_cell"
LSTMState = tuple[Tensor, Tensor]  # hidden and cell [1, B, C]
LSTMLayer = Callable[[Tensor, LSTMState | None], tuple[Tensor, LSTMState]]  # x [T, B, C], state: as an nn.LSTM's
ROWS = 8  # of the batch that parts of a signal make in an LSTM: more gain nothing
WARM_UP = 64  # frames before a part that its first state is computed from
SHORTEST = 4 * WARM_UP  # frames of a part: below, warming up costs too much
TOLERANCE = 1e-5  # of a state, relative where it is above 1

StreamState = dict["StreamingLayer", Any]  # of one signal (or batch of signals): what each layer keeps between blocks


class StreamingLayer(ABC):
    """Part of a network that runs over blocks of frames; holds no state of its own."""

    @abstractmethod
    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        """Take a signal's next frames [B, T, C], T ≥ 0; return the output frames known by now [B, T', C'].

        state: {} at a signal's beginning, then the one of the call before. last: nothing follows.
        """


class CodecNetwork(nn.Module, ABC):
    """An encoder, wav [B, 1, N] → latent [B, D, T], or a decoder, quantized latent [B, D, T] → wav [B, 1, N]."""

    shortest = 1  # frames that a row of an encoder needs to lie beside longer ones

    @abstractmethod
    def streaming(self) -> StreamingLayer:
        """Return the network as a streaming layer over wav [B, N, 1] or latent [B, T, D], until its weights change."""


class StreamingSequential(StreamingLayer):
    """Layers one after another."""

    def __init__(self, layers: Sequence[StreamingLayer]) -> None:
        self.layers = layers

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        for layer in self.layers:
            x = layer(x, state, last)
        return x


class ChunkedSequential(StreamingSequential):
    """Layers one after another, on few frames at a time: what passes between them stays in the processor's cache."""

    def __init__(self, layers: Sequence[StreamingLayer], n_frames: int) -> None:
        super().__init__(layers)
        self.n_frames = n_frames

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        *chunks, end = x.split(self.n_frames, 1)
        outputs = [super(ChunkedSequential, self).__call__(chunk, state, False) for chunk in chunks]
        return torch.cat([*outputs, super().__call__(end, state, last)], 1)


class StreamingELU(StreamingLayer):
    """The activation."""

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        # Eight times as fast as F.elu on a CPU, whose expm1 is slow; exp(x) - 1 is off by 6e-8 at most.
        negative = x.clamp(max=0).exp_().sub_(1)
        return torch.maximum(x, negative, out=negative)


class StreamingLayerNorm(StreamingLayer):
    """LayerNorm of each frame."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self.norm = norm

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        return F.layer_norm(x, self.norm.normalized_shape, self.norm.weight, self.norm.bias, self.norm.eps)


def pad(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pad x [B, C, T] as F.pad does; what is too short to mirror is mirrored with zeros after it."""
    if mode == "reflect" and x.shape[-1] <= max(left, right):
        fill = max(left, right) + 1 - x.shape[-1]
        return F.pad(F.pad(x, (0, fill)), (left, right), mode)[..., : x.shape[-1] + left + right]
    return F.pad(x, (left, right), mode)


class StreamingPadding(StreamingLayer):
    """Padding around a signal, so many frames that strides of `stride` fit.

    Mirroring (mode `reflect`) holds `right + stride` frames back, because they may be the last.
    """

    def __init__(self, left: int, right: int, stride: int, mode: str) -> None:
        self.left, self.right, self.stride, self.mode = left, right, stride, mode

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        n_frames, held = state.get(self, (0, None))
        n_frames += x.shape[1]
        right = self.right + -n_frames % self.stride
        if self.mode == "reflect":
            return self._mirror(x if held is None else torch.cat([held, x], 1), n_frames, right, state, last)
        ends = 0 if self in state else self.left, right if last else 0
        state[self] = n_frames, None
        return F.pad(x, (0, 0, *ends)) if any(ends) else x

    def _mirror(self, x: Tensor, n_frames: int, right: int, state: StreamState, last: bool) -> Tensor:
        begun = x.shape[1] < n_frames
        if not (begun or last or n_frames > self.left + self.right + self.stride):
            state[self] = n_frames, x
            return x[:, :0]
        if last:
            return pad(x.transpose(1, 2), 0 if begun else self.left, right, self.mode).transpose(1, 2)
        n_known = x.shape[1] - self.right - self.stride
        state[self] = n_frames, x[:, n_known:]
        return x[:, :n_known] if begun else torch.cat([x[:, 1 : self.left + 1].flip(1), x[:, :n_known]], 1)


class StreamingConv(StreamingLayer):
    """A convolution over a padded signal, kernel 2 · stride where there is a stride.

    Each stride is made a frame of its own first, so that one kind of convolution remains: stride 1, channels last.
    """

    def __init__(self, weight: Tensor, bias: Tensor, stride: int) -> None:
        """weight: [C', C, kernel]."""
        self.bias, self.stride = bias.detach(), stride
        strides = weight.detach().unflatten(2, (-1, stride))  # [C', C, kernel / stride, stride]
        self.weight = _channels_last(strides.permute(0, 3, 1, 2).flatten(1, 2))

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        if self in state and state[self].shape[1]:
            x = torch.cat([state[self], x], 1)
        n_kept = self.weight.shape[-1] - 1
        n_strides = x.shape[1] // self.stride
        state[self] = x[:, max(0, n_strides - n_kept) * self.stride :].clone()  # frees the memory of the rest
        if n_strides <= n_kept:
            return x.new_zeros(len(x), 0, len(self.weight))
        return _convolve(x[:, : n_strides * self.stride].reshape(len(x), n_strides, -1), self.weight, self.bias)


class StreamingConvTranspose(StreamingLayer):
    """A transposed convolution, kernel 2 · stride: frames t - 1 and t of the input make stride t of the output.

    left, right: output frames that are cut off at the signal's beginning and end.
    """

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, left: int, right: int) -> None:
        """weight: [C, C', kernel]."""
        self.stride, self.left, self.right = stride, left, right
        strides = weight.detach().unflatten(2, (2, -1))  # [C, C', 2, stride]
        self.weight = _channels_last(strides.permute(3, 1, 0, 2).flatten(0, 1).flip(2))
        self.bias = bias.detach().repeat(stride)

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        nothing = x.new_zeros(len(x), 0, len(self.bias) // self.stride)
        if not (x.shape[1] or self in state):
            return nothing
        before = state.get(self)
        x = torch.cat([x.new_zeros(len(x), 1, x.shape[2]) if before is None else before, x], 1)
        state[self] = x[:, -1:].clone()
        if last:
            x = F.pad(x, (0, 0, 0, 1))
        if x.shape[1] < 2:
            return nothing
        y = _convolve(x, self.weight, self.bias).reshape(len(x), (x.shape[1] - 1) * self.stride, -1)
        return y[:, self.left if before is None else 0 : y.shape[1] - (self.right if last else 0)]


def _channels_last(weight: Tensor) -> Tensor:
    """Lay out a weight [C', C, k] for `_convolve`."""
    return weight[:, :, None].contiguous(memory_format=torch.channels_last)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve x [B, T, C] with a weight [C', C, 1, k] of channels last; returns [B, T - k + 1, C']."""
    if x.shape[2] == 1:  # of one channel nothing is last: a matrix product over windows
        return F.linear(x[:, :, 0].unfold(1, weight.shape[-1], 1), weight[:, 0, 0], bias)
    if weight.shape[-1] == 1:
        return F.linear(x, weight[:, :, 0, 0], bias)
    return F.conv2d(x.transpose(1, 2)[:, :, None], weight, bias)[:, :, 0].transpose(1, 2)


class StreamingResidual(StreamingLayer):
    """A layer whose output is added to its input."""

    def __init__(self, layer: StreamingLayer) -> None:
        self.layer = layer

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        y, held = self.layer(x, state, last), state.get(self, x[:, :0])
        n_held = min(held.shape[1], y.shape[1])
        y[:, :n_held] += held[:, :n_held]
        n_new = y.shape[1] - n_held
        y[:, n_held:] += x[:, :n_new]
        state[self] = torch.cat([held[:, n_held:], x[:, n_new:]], 1)
        return y


class StreamingLSTM(StreamingLayer):
    """An LSTM over frames whose output is added to its input."""

    def __init__(self, lstm: nn.LSTM) -> None:
        self.layers = one_by_one(lstm)

    def __call__(self, x: Tensor, state: StreamState, last: bool) -> Tensor:
        if not x.shape[1]:
            return x
        before = state.get(self, [None] * len(self.layers))
        y, state[self] = x.transpose(0, 1), []
        for layer, own in zip(self.layers, before, strict=True):
            y, after = run_lstm(layer, y, own)
            state[self].append(after)
        return y.transpose(0, 1) + x


def one_by_one(lstm: nn.LSTM) -> list[LSTMLayer]:
    """Copy the layers of an LSTM."""
    layers: list[LSTMLayer] = []
    for number in range(lstm.num_layers):
        layer = nn.LSTM(lstm.hidden_size, lstm.hidden_size).requires_grad_(False)
        for name, weight in layer.named_parameters():
            weight.data = lstm.get_parameter(name.replace("_l0", f"_l{number}")).detach().clone()
        on_cpu = layer.weight_hh_l0.device.type == "cpu" and layer.weight_hh_l0.dtype == torch.float32
        layers.append(OnnxLSTM(layer) if on_cpu else layer)
    return layers


class OnnxLSTM:
    """A layer of an LSTM on ONNX Runtime, whose products of few rows are faster than PyTorch's."""

    def __init__(self, lstm: nn.LSTM) -> None:
        """lstm: one layer, float32; its weights are copied."""
        from onnx import TensorProto, helper, numpy_helper

        # Gates as ONNX orders them, with a first axis for the direction; torch has input, forget, cell, output.
        gates = {name: each.chunk(4) for name, each in lstm.named_parameters()}
        ours = {name: torch.cat([each[at] for at in (0, 3, 1, 2)])[None] for name, each in gates.items()}
        biases = torch.cat([ours["bias_ih_l0"], ours["bias_hh_l0"]], 1)
        weights = {"input": ours["weight_ih_l0"], "recurrence": ours["weight_hh_l0"], "biases": biases}
        names = "x", *weights, "", "hidden", "cell"  # "": lengths of rows
        node = helper.make_node("LSTM", names, OUTPUTS, hidden_size=lstm.hidden_size)
        inputs, outputs = (
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in part]
            for part in (("x", "hidden", "cell"), OUTPUTS)
        )
        tensors = [numpy_helper.from_array(weight.numpy(), name) for name, weight in weights.items()]
        graph = helper.make_graph([node], "lstm", inputs, outputs, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        self.session = open_session(model.SerializeToString(), count_threads(), STOP_SPINNING)
        self.width = lstm.hidden_size

    def __call__(self, x: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Run over x [T, B, C] from a state (None: zeros), as the `nn.LSTM` does."""
        hidden, cell = state or 2 * (x.new_zeros(1, x.shape[1], self.width),)
        found = self.session.run(None, {"x": x.numpy(), "hidden": hidden.numpy(), "cell": cell.numpy()})
        y, hidden, cell = map(torch.from_numpy, found)
        return y[:, 0], (hidden, cell)


def run_lstm(lstm: LSTMLayer, x: Tensor, state: LSTMState | None) -> tuple[Tensor, LSTMState]:
    """Run one layer over x [T, B, C] from a state (None: zeros): output [T, B, C] and last state, as `lstm(x, state)`.

    # ours: with one signal the recurrence reads all its weights for every frame and waits for memory most of the time
    (sec. 3.1's two layers take more than half of E's time on a CPU). An LSTM forgets, so parts of the signal can run
    side by side as a batch, each from the state that a few frames before it give. Whether that state was right is known
    once the part before has ended; parts that started wrong are run again, and what is still wrong then goes frame by
    frame. So the output is that of one pass, up to TOLERANCE. Measured: encoding 10 s with the x32 codec took 1.1 s of
    one core with torch's LSTM, 2.3 s without parts. An LSTM that never forgets takes at worst twice its time.
    """
    n_frames, n_rows, width = x.shape
    n_parts = min(ROWS // n_rows, n_frames // SHORTEST)
    if n_parts < 2 or x.device.type != "cpu":  # a GPU has the weights in its caches
        y, state = lstm(x, state)
        return y, state
    length = n_frames // n_parts
    whole, rest = x.split([n_parts * length, n_frames - n_parts * length])
    start = x.new_zeros(2, n_rows, width) if state is None else torch.cat(state)
    y, end = _run_parts(lstm, whole.view(n_parts, length, n_rows, width), start)
    state = end[:1], end[1:]
    if len(rest):
        y_rest, state = lstm(rest, state)
        y = torch.cat([y, y_rest])
    return y, state


def _run_parts(lstm: LSTMLayer, parts: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Run parts [P, L, B, C] of a signal from its state [2, B, C]: output [P · L, B, C] and last state [2, B, C]."""
    warm = _run_batch(lstm, parts[:-1, -WARM_UP:], None)[1]
    starts = torch.cat([start[None], warm])
    y, ends = _run_batch(lstm, parts, starts)
    if wrong := _find_wrong(starts, ends):
        starts[wrong] = ends[[part - 1 for part in wrong]]
        y[wrong], ends[wrong] = _run_batch(lstm, parts[wrong], starts[wrong])
    if wrong := _find_wrong(starts, ends):  # it remembers for longer than parts are: all before the first are right
        rest, end = _run_batch(lstm, parts[wrong[0] :].flatten(0, 1)[None], ends[wrong[0] - 1][None])
        return torch.cat([y[: wrong[0]].flatten(0, 1), rest[0]]), end[0]
    return y.flatten(0, 1), ends[-1]


def _run_batch(lstm: LSTMLayer, parts: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run parts [P, L, B, C] side by side from states [P, 2, B, C] (None: zeros): output and last states, likewise."""
    shape = parts.shape[0], parts.shape[2], parts.shape[3]
    x = parts.transpose(0, 1).flatten(1, 2)
    state = None if starts is None else (starts[:, 0].reshape(1, *x.shape[1:]), starts[:, 1].reshape(1, *x.shape[1:]))
    y, ends = lstm(x, state)
    return y.unflatten(1, shape[:2]).transpose(0, 1), torch.stack([end.view(shape) for end in ends], 1)


def _find_wrong(starts: Tensor, ends: Tensor) -> list[int]:
    """List the parts whose first state is not the last one of the part before; states [P, 2, B, C]."""
    error = (starts[1:] - ends[:-1]).abs() / ends[:-1].abs().clamp(min=1)
    return [part + 1 for part in (error > TOLERANCE).flatten(1).any(1).nonzero()[:, 0].tolist()]
