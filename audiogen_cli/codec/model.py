"""The neural codec (sec. 3.1): encoder E, quantizer Q, decoder G."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from audiogen_cli import model_folder
from audiogen_cli.codec.config import CodecConfig
from audiogen_cli.codec.quantizer import ResidualVectorQuantizer
from audiogen_cli.codec.streaming import StreamingLayer, StreamState
from audiogen_cli.devices import alone, give_back_memory
from audiogen_cli.errors import InputError

BLOCK = 1 << 20  # samples of a batch that go through a network at once


@dataclass
class CodecOutput:
    """A training pass through the codec."""

    decoded: Tensor  # [B, 1, N]
    codes: Tensor  # [B, K, T]
    commitment: Tensor  # scalar


class AudioCodec(nn.Module):
    """Turns audio into K parallel streams of codes and back."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.fingerprint = ""  # set by load: the SHA-256 of the weights
        self._prepared: tuple[StreamingLayer, StreamingLayer] | None = None
        self.sample_rate, self.n_q, self.codebook_size = config.sample_rate, config.n_q, config.codebook_size
        self.hop_length, self.frame_rate = config.hop_length, config.frame_rate  # samples per frame, frames per second
        self.encoder, self.decoder = config.network.build(config.latent_dim, config.sample_rate)
        self.quantizer = ResidualVectorQuantizer(config.n_q, config.codebook_size, config.latent_dim)

    @classmethod
    def load(cls, model: str | Path, device: str | torch.device = "cpu") -> AudioCodec:
        """Read a codec, ready to encode and decode (without gradients). Raises InputError if it is unusable.

        model: its folder or checkpoint; as a str any name that `find_codec` knows, such as embedded.
        """
        folder = model_folder.find_codec(model) if isinstance(model, str) else model
        config = model_folder.load_config(folder, "codec", CodecConfig)
        codec = model_folder.build(lambda: cls(config), folder)
        codec.fingerprint = model_folder.fingerprint(folder)
        codec.to(device).eval().requires_grad_(False)
        codec.prepare()
        return codec

    def save(self, folder: Path, license: str, dtype: torch.dtype = torch.float32) -> None:
        """Write a model folder, its weights as `dtype`. license: the text of the weights' license."""
        weights = {name: value.to(dtype) for name, value in self.state_dict().items()}
        model_folder.save_model(folder, "codec", self.config, weights, license)

    def prepare(self) -> None:
        """Make `encode` and `decode` faster, and need less memory for long files, until training or a move.

        No gradients pass then, and weights must not change in any other way: they are copied in another layout.
        """
        self._prepared = self.encoder.streaming(), self.decoder.streaming()

    def train(self, mode: bool = True) -> AudioCodec:
        """Set the mode; training changes the weights, so the networks are no longer prepared."""
        self._prepared = None if mode else self._prepared
        super().train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> AudioCodec:
        self._prepared = None  # `to`, `cuda`, `half` do not move its copies of the weights
        super()._apply(fn, recurse)
        return self

    def encode(self, wav: Tensor, lengths: Sequence[int] = ()) -> Tensor:
        """Turn audio into codes (sec. 3.1: E, then Q).

        wav: [B, 1, N] float, mono at `sample_rate` Hz, in [-1, 1]; N need not be a multiple of `hop_length`. lengths:
        samples of each row, if only silence follows them; all rows then go through the network at once, and the codes
        of each row's own ceil(length / hop_length) frames are, up to rounding, those of the row alone.
        Returns codes [B, K, T] int64 in [0, codebook_size), T = ceil(N / hop_length).
        Raises ValueError if wav is no such tensor, has no samples or, on a CPU, one that is not finite.
        """
        _check_wav(wav)
        if wav.device.type == "cpu" and not wav.isfinite().all():  # a GPU would have to be waited for
            raise ValueError("wav holds samples that are not finite numbers")
        # In TF32 one code in seven is another.
        with alone(wav.device), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._encode(wav, lengths)

    def _encode(self, wav: Tensor, lengths: Sequence[int]) -> Tensor:
        if lengths:
            return self.quantizer.encode(self.encoder(wav, lengths))
        if self._prepared and _is_streamed(wav, wav.shape[2]):
            blocks = wav.transpose(1, 2).split(_frames_at_once(wav, BLOCK), 1)
            latents = _run_whole(self._prepared[0], blocks)
            codes = (self.quantizer.encode(latent.transpose(1, 2)) for latent in latents)
            return _join(codes, -(-wav.shape[2] // self.hop_length))
        return self.quantizer.encode(self.encoder(wav))

    def decode(self, codes: Tensor) -> Tensor:
        """Turn codes [B, K, T], of any integer type, into wav [B, 1, T · hop_length]. Raises ValueError if they are
        none, K is not this codec's or, on a CPU, a code is not in [0, codebook_size)."""
        codes = self._checked(codes)
        n_samples = codes.shape[2] * self.hop_length
        if self._prepared and _is_streamed(codes, n_samples):
            blocks = codes.split(_frames_at_once(codes, BLOCK // self.hop_length), 2)
            frames = _run_whole(self._prepared[1], blocks, lambda block: self.quantizer.decode(block).transpose(1, 2))
            return _join((wav.transpose(1, 2) for wav in frames), n_samples)
        wav: Tensor = self.decoder(self.quantizer.decode(codes))
        return wav

    def encode_chunks(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Encode a signal block by block, in the memory of a block.

        blocks: wav [B, 1, n], one after another, of any lengths. Yields codes [B, K, t], t ≥ 1, as soon as they are
        known; joined they are what `encode` gives for the whole, up to rounding.
        """
        encoder = self._prepared[0] if self._prepared else self.encoder.streaming()
        latents = _run(encoder, (_frames(wav) for wav in blocks))
        codes = (self.quantizer.encode(latent.transpose(1, 2)) for latent in latents)
        return _freeing_memory(codes, BLOCK // self.hop_length)

    def decode_chunks(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Decode codes block by block, in the memory of a block.

        blocks: codes [B, K, t], one after another, of any lengths. Yields wav [B, 1, n], n ≥ 1, as soon as it is
        known: a few frames late, because the networks look ahead. Joined it is what `decode` gives for the whole, up
        to rounding.
        """
        quantized = (self.quantizer.decode(self._checked(codes)).transpose(1, 2) for codes in blocks)
        decoder = self._prepared[1] if self._prepared else self.decoder.streaming()
        return _freeing_memory((wav.transpose(1, 2) for wav in _run(decoder, quantized)), BLOCK)

    def _checked(self, codes: Tensor) -> Tensor:
        fits = isinstance(codes, Tensor) and codes.ndim == 3 and codes.shape[1] == self.n_q and len(codes)
        if not fits or codes.is_floating_point():
            raise ValueError(f"codes must be a tensor of integers [B, {self.n_q}, T] with B > 0, not {_kind(codes)}")
        codes = codes.long()  # shards hold uint16, which indexes nothing
        if codes.device.type == "cpu" and codes.numel() and not 0 <= codes.min() <= codes.max() < self.codebook_size:
            raise ValueError(f"codes must lie in [0, {self.codebook_size}): {codes.min()} to {codes.max()} are here")
        return codes

    def start_from(self, folder: Path) -> None:
        """Load the weights of a codec's model folder; parts that it lacks stay as they are.

        Raises InputError if it lacks more than parts of the decoder, or if its weights are of other sizes.
        """
        weights, own = model_folder.load_weights(folder), self.state_dict()
        lacking = next((name for name in own if name not in weights and not name.startswith("decoder.")), None)
        unlike = next((name for name in weights if name not in own or own[name].shape != weights[name].shape), None)
        if lacking or unlike:
            raise InputError(f"{folder} is no codec to start from: {lacking or unlike} is not as the recipe has it")
        self.load_state_dict({**own, **weights})
        self.quantizer.settle()

    def forward(self, wav: Tensor) -> CodecOutput:
        """Encode, quantize and decode wav [B, 1, N] for training."""
        _check_wav(wav)
        latent = self.encoder(wav)
        output = self.quantizer(latent)
        decoded = self.decoder(output.quantized)
        return CodecOutput(decoded[..., : wav.shape[-1]], output.codes, output.commitment)


def _is_streamed(x: Tensor, n_samples: int) -> bool:
    """Return whether to stream signals through the prepared networks: on a GPU only long ones, to save its memory."""
    return x.device.type == "cpu" or len(x) * n_samples > BLOCK


def _frames_at_once(x: Tensor, n_frames: int) -> int:
    """Return how many frames of each signal to take at once: together about n_frames."""
    return max(1, n_frames // len(x))


@torch.no_grad()
def _run_whole(
    layer: StreamingLayer, blocks: Sequence[Tensor], enter: Callable[[Tensor], Tensor] = lambda block: block
) -> Iterator[Tensor]:
    """Run the blocks of whole signals, each made into frames [B, t, C] by `enter`, through a layer."""
    state: StreamState = {}
    *others, end = blocks
    for block in others:
        yield layer(enter(block), state, last=False)
    yield layer(enter(end), state, last=True)


def _join(parts: Iterable[Tensor], length: int) -> Tensor:
    """Join parts along their last axis, `length` in all, holding one of them at a time."""
    whole, known = None, 0
    for part in parts:
        if part.shape[-1] == length:
            return part
        whole = part.new_empty(*part.shape[:-1], length) if whole is None else whole
        whole[..., known : known + part.shape[-1]] = part
        known += part.shape[-1]
    assert whole is not None and known == length
    return whole


def _freeing_memory(parts: Iterable[Tensor], n_frames: int) -> Iterator[Tensor]:
    """Yield the parts [..., n]; return freed memory to the system about every n_frames, in case a caller keeps them."""
    known = 0
    for part in parts:
        yield part
        known += part.shape[-1]
        if known >= n_frames:
            give_back_memory()
            known = 0


@torch.no_grad()
def _run(layer: StreamingLayer, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Run blocks [B, t, C] of one signal through a layer; yield the outputs that are not empty."""
    state: StreamState = {}
    block = None
    for block in blocks:
        if (known := layer(block, state, last=False)).shape[1]:
            yield known
    if block is not None and (known := layer(block[:, :0], state, last=True)).shape[1]:
        yield known


def _check_wav(wav: Tensor) -> None:
    fits = isinstance(wav, Tensor) and wav.ndim == 3 and wav.shape[1] == 1 and wav.numel()
    if not fits or not wav.is_floating_point():
        raise ValueError(f"wav must be a tensor of floats [B, 1, N] with B, N > 0, not {_kind(wav)}")


def _kind(value: object) -> str:
    return f"{type(value).__name__} {list(getattr(value, 'shape', []))} {getattr(value, 'dtype', '')}"


def _frames(wav: Tensor) -> Tensor:
    """Check a block of wav [B, 1, n] and return it as frames [B, n, 1]."""
    if wav.ndim != 3 or wav.shape[1] != 1:
        raise ValueError(f"wav must be [B, 1, n], not {list(wav.shape)}")
    return wav.transpose(1, 2)
