"""An LSTM, layer by layer, over long signals (sec. 3.1): parts of one side by side; on a CPU on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

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
