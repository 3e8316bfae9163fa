"""Graphs on ONNX Runtime, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import ndarray
    from onnxruntime import InferenceSession

STOP_SPINNING = {"session.force_spinning_stop": "1"}  # after a run, else its threads wait for the next one busily


def open_session(
    graph: bytes,
    n_threads: int,
    settings: Mapping[str, str] | None = None,
    weights: Mapping[str, ndarray] | None = None,
) -> InferenceSession:
    """Open a graph.

    n_threads: 0 for every core. settings: of the session, by name. weights: those that the graph declares as external;
    the session copies them.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import: some builds call home
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 3
    for name, value in (settings or {}).items():
        options.add_session_config_entry(name, value)
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(each) for each in weights.values()]
        options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
