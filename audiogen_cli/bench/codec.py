"""Speed of a codec beside transformers' `EncodecModel`, the same networks by other hands, with the same weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any, cast

import torch
from torch import Tensor

from audiogen_cli.codec.config import CodecConfig, SEANetConfig
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.seanet import COMPRESS, KERNEL_SIZE, RESIDUAL_KERNEL_SIZE

CLIP_SECONDS = 10.0
BATCH_SIZES = (1, 8)
SPEEDS = tuple(f"{verb}_{kind}" for verb in ("encode", "decode") for kind in ("x_realtime", "peer_ratio"))


def make_codec(device: torch.device) -> AudioCodec:
    """The paper's x32 with random weights. Weight norm stands for LayerNorm, which the peer does not have."""
    torch.manual_seed(0)
    codec = AudioCodec(CodecConfig(network=SEANetConfig(norm="weight")))
    codec.to(device).eval().requires_grad_(False).prepare()
    return codec


def build_peer(codec: AudioCodec) -> Any:
    """Build an `EncodecModel` with a SEANet codec's networks and weights; LayerNorm is left out, if there is any."""
    from transformers import EncodecConfig, EncodecModel

    config, network = codec.config, cast("SEANetConfig", codec.config.network)
    settings = EncodecConfig(
        sampling_rate=config.sample_rate,
        audio_channels=1,
        normalize=False,
        num_filters=network.channels,
        upsampling_ratios=list(reversed(network.strides)),
        kernel_size=KERNEL_SIZE,
        last_kernel_size=KERNEL_SIZE,
        residual_kernel_size=RESIDUAL_KERNEL_SIZE,
        compress=COMPRESS,
        num_lstm_layers=network.lstm_layers,
        use_causal_conv=network.causal,
        pad_mode=network.pad_mode,
        use_conv_shortcut=False,
        hidden_size=config.latent_dim,
        codebook_dim=config.latent_dim,
        codebook_size=config.codebook_size,
    )
    # It works out its number of streams from a bandwidth, and versions differ in how.
    settings.target_bandwidths = [1e6]
    settings.target_bandwidths = [(config.n_q + 0.5) * 1e6 / settings.num_quantizers]
    peer: Any = EncodecModel(settings)
    missing, unknown = peer.load_state_dict(_peer_weights(codec), strict=False)
    assert not unknown and not [name for name in missing if not name.startswith("quantizer")]
    return peer.to(next(codec.parameters()).device).eval().requires_grad_(False)


def _peer_weights(codec: AudioCodec) -> dict[str, Tensor]:
    """The codec's weights by the peer's names, convolutions without weight norm split into length and direction."""
    weights: dict[str, Tensor] = {}
    for name, value in codec.state_dict().items():
        if name.startswith("quantizer"):
            stream = name.split(".")[2]
            weights[f"quantizer.layers.{stream}.codebook.embed"] = value
        elif name.endswith("conv.weight"):
            stem = name.removesuffix("weight") + "parametrizations.weight"
            weights |= {f"{stem}.original0": value.norm(dim=(1, 2), keepdim=True), f"{stem}.original1": value}
        elif ".norm." not in name:
            weights[name] = value
    return weights


PEERS: dict[str, Callable[[AudioCodec], Any]] = {"seanet": build_peer}  # by codec.network.kind


def measure_codec(codec: AudioCodec, batch_sizes: Sequence[int] = BATCH_SIZES, repeats: int = 5) -> dict[str, Any]:
    """Encode and decode 10 s clips of noise, the codec and its peer in turn; medians of `repeats` rounds.

    The top level holds the least over batch sizes of `…_x_realtime` (seconds of sound per second) and `…_peer_ratio`
    (our speed over the peer's, null where there is no peer), `batches` each one's, and what the outputs have in common:
    `decoded_difference`, the greatest of a sample, and `codes_equal`, the share of codes; null for networks with
    LayerNorm, which the peer lacks.
    """
    build = PEERS.get(codec.config.network.kind)
    peer = build(codec) if build else None
    batches = {str(size): _measure_batch(codec, peer, size, repeats) for size in batch_sizes}
    return {
        **{name: _least(batch[name] for batch in batches.values()) for name in SPEEDS},
        "batches": batches,
        "clip_seconds": CLIP_SECONDS,
        "network": codec.config.network.kind,
        "parameters": sum(value.numel() for value in codec.parameters()),
        "peer": f"transformers {version('transformers')} EncodecModel" if peer else None,
        "device": str(next(codec.parameters()).device),
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "repeats": repeats,
    }


@torch.inference_mode()
def _measure_batch(codec: AudioCodec, peer: Any, batch_size: int, repeats: int) -> dict[str, float | None]:
    wav = 0.1 * torch.randn(batch_size, 1, round(CLIP_SECONDS * codec.sample_rate)).to(next(codec.parameters()).device)
    codes = codec.encode(wav)
    runs: dict[str, Callable[[], Tensor]] = {
        "encode": lambda: codec.encode(wav),
        "decode": lambda: codec.decode(codes),
    }
    if peer:
        runs["peer_encode"] = lambda: peer.quantizer.encode(peer.encoder(wav)).transpose(0, 1)
        runs["peer_decode"] = lambda: peer.decoder(peer.quantizer.decode(codes.transpose(0, 1)))
    seconds, outputs = _time_in_turn(runs, repeats)
    result: dict[str, float | None] = dict.fromkeys((*SPEEDS, "decoded_difference", "codes_equal"))
    for verb in ("encode", "decode"):
        result[f"{verb}_x_realtime"] = batch_size * CLIP_SECONDS / seconds[verb]
        if peer:
            result[f"{verb}_peer_ratio"] = seconds[f"peer_{verb}"] / seconds[verb]
    if peer and codec.config.network.norm != "layer":  # type: ignore[union-attr]
        result["decoded_difference"] = float((outputs["decode"] - outputs["peer_decode"]).abs().max())
        result["codes_equal"] = float((outputs["encode"] == outputs["peer_encode"]).float().mean())
    return result


def _time_in_turn(runs: dict[str, Callable[[], Tensor]], repeats: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Median seconds and the output of each, run in turn after a round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    outputs = {name: run() for name, run in runs.items()}
    for _ in range(repeats):
        for name, run in runs.items():
            _wait(outputs[name].device)
            began = time.perf_counter()
            outputs[name] = run()
            _wait(outputs[name].device)
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}, outputs


def _wait(device: torch.device) -> None:
    """Wait until an accelerator is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)
