"""Speed of a codec beside transformers' `EncodecModel`, the same networks by other hands, with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from audiogen_cli.bench.timing import time_in_turn
from audiogen_cli.codec.batch_encoder import encode_batch
from audiogen_cli.codec.config import CodecConfig, SEANetConfig
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.codec.seanet import COMPRESS, KERNEL_SIZE, RESIDUAL_KERNEL_SIZE

CLIP_SECONDS = 10.0
BATCH_SIZES, GPU_BATCH_SIZES = (1, 8), (1, 8, 32)
SPEEDS = tuple(f"{verb}_{kind}" for verb in ("encode", "decode") for kind in ("x_realtime", "peer_ratio"))


def make_codec(device: torch.device) -> AudioCodec:
    """Build the paper's x32 with random weights, with weight norm for LayerNorm, which the peer lacks."""
    torch.manual_seed(0)
    codec = AudioCodec(CodecConfig(network=SEANetConfig(norm="weight")))
    codec.to(device).eval().requires_grad_(False).prepare()
    return codec


def build_peer(codec: AudioCodec) -> Any:
    """Build an `EncodecModel` with the networks and weights of a SEANet codec, all but LayerNorm, which it lacks."""
    from transformers import EncodecConfig, EncodecModel

    config = codec.config
    network: Any = config.network
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


PEERS = {"seanet": build_peer}  # by kind of network; transformers has no other kind


def _peer_weights(codec: AudioCodec) -> dict[str, Tensor]:
    """Rename the codec's weights as the peer's; split convolutions without weight norm into length and direction."""
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


def measure_codec(codec: AudioCodec, batch_sizes: Sequence[int] = (), repeats: int = 5) -> dict[str, Any]:
    """Encode and decode 10 s clips of noise, the codec and its peer in turn; return medians of `repeats` rounds.

    batch_sizes: (): BATCH_SIZES, or GPU_BATCH_SIZES. A GPU encodes as it does in `tokenize`.
    `…_x_realtime`: seconds of sound per second; `…_peer_ratio`: our speed over the peer's, None without a peer. The
    top level holds the least over batch sizes, `batches` those of each, with `decoded_difference` (the greatest of a
    sample) and `codes_equal` (the share of codes), None for networks with LayerNorm.
    """
    build = PEERS.get(codec.config.network.kind)
    peer = build(codec) if build else None
    on_gpu = next(codec.parameters()).device.type == "cuda"
    batch_sizes = batch_sizes or (GPU_BATCH_SIZES if on_gpu else BATCH_SIZES)
    batches = {str(size): _measure_batch(codec, peer, size, repeats) for size in batch_sizes}
    return {
        **{name: min((b[name] for b in batches.values() if b[name] is not None), default=None) for name in SPEEDS},
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
def _measure_batch(codec: AudioCodec, peer: Any, batch_size: int, repeats: int) -> dict[str, Any]:
    device = next(codec.parameters()).device
    wav = 0.1 * torch.randn(batch_size, 1, round(CLIP_SECONDS * codec.sample_rate)).to(device)
    codes, lengths = codec.encode(wav), [wav.shape[2]] * batch_size
    runs: dict[str, Callable[[], Tensor]] = {
        "encode": lambda: encode_batch(codec, wav, lengths) if device.type == "cuda" else codec.encode(wav),
        "decode": lambda: codec.decode(codes),
    }
    if peer:
        runs["peer_encode"] = lambda: peer.quantizer.encode(peer.encoder(wav)).transpose(0, 1)
        runs["peer_decode"] = lambda: peer.decoder(peer.quantizer.decode(codes.transpose(0, 1)))
    outputs = {name: run() for name, run in runs.items()}  # also warms up
    timings = time_in_turn(runs, repeats, device)
    result: dict[str, Any] = dict.fromkeys((*SPEEDS, "decoded_difference", "codes_equal"))
    for verb in ("encode", "decode"):
        result[f"{verb}_x_realtime"] = batch_size * CLIP_SECONDS / timings.median(verb)
        result[f"{verb}_peer_ratio"] = timings.ratio(f"peer_{verb}", verb)
    if peer and codec.config.network.norm != "layer":  # type: ignore[union-attr]
        result["decoded_difference"] = float((outputs["decode"] - outputs["peer_decode"]).abs().max())
        result["codes_equal"] = float((outputs["encode"] == outputs["peer_encode"]).float().mean())
    return result
