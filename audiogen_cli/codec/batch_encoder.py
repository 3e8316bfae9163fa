"""Encoding rows of audio so that a row's codes do not depend on the rows encoded beside it.

A network's last bits depend on the batch's shape (other shapes, other kernels, another order of summation), and if two
codebook entries are almost equally near, the last bit decides. So on the CPU every row is encoded alone. A GPU takes
many at once, each padded behind its own end as if it were alone; there only those last bits depend on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiogen_cli.data.shards import ShardMeta
from audiogen_cli.devices import is_out_of_memory

if TYPE_CHECKING:
    from audiogen_cli.codec.model import AudioCodec

DEVICE_ROWS = 128  # of a call on an accelerator; half as many where they do not fit into its memory, and so on
ROUNDING = 0.5  # seconds: calls have lengths that are a multiple of it, so that few kernels need to be chosen


class RowEncoder:
    """Encode rows of any lengths. Close it after use: it has threads.

    On the CPU each row is encoded alone on one thread, as many rows at once as torch had threads: two to five times as
    fast as one batch on all threads. On other devices see `encode_padded`.
    """

    def __init__(self, codec: AudioCodec) -> None:
        self.codec, self.device = codec, next(codec.parameters()).device
        self._threads = torch.get_num_threads()
        on_cpu = self.device.type == "cpu"
        self._pool = (
            ThreadPoolExecutor(self._threads, initializer=torch.set_num_threads, initargs=(1,)) if on_cpu else None
        )

    @property
    def rows_at_once(self) -> int:
        """Return the number of rows below which a call leaves threads or device idle."""
        return self._threads if self._pool else DEVICE_ROWS

    def encode(self, wav: Tensor, lengths: Sequence[int]) -> list[np.ndarray]:
        """Encode wav [B, 1, N], silent behind the rows' lengths, on the device; return the codes [K, T] of each."""
        if not self._pool:
            return encode_padded(self.codec, wav, lengths)
        return list(self._pool.map(lambda row, n: encode_alone(self.codec, row[:, :n]), wav, lengths))

    def close(self) -> None:
        """End the threads and restore torch's number of threads."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._threads)


def shard_meta(codec: AudioCodec) -> ShardMeta:
    """Return the description of shards of this codec, without counts."""
    return ShardMeta(codec.fingerprint, codec.n_q, codec.codebook_size, codec.frame_rate, codec.sample_rate, {})


def encode_alone(codec: AudioCodec, row: Tensor) -> np.ndarray:
    """Encode a row [1, N]; return its codes [K, T]."""
    with torch.inference_mode():
        codes: np.ndarray = codec.encode(row[None])[0].cpu().numpy()
    return codes


def encode_padded(codec: AudioCodec, wav: Tensor, lengths: Sequence[int], size: int = DEVICE_ROWS) -> list[np.ndarray]:
    """Encode wav [B, 1, N], silent behind the rows' lengths; return the codes [K, T] of each.

    On the CPU each row alone; on other devices up to `size` at once, neighbors of about one length if the caller has
    sorted them.
    """
    if wav.device.type == "cpu" or len(wav) == 1:
        return [encode_alone(codec, row[:, :n]) for row, n in zip(wav, lengths, strict=True)]
    codes: list[np.ndarray] = []
    while len(codes) < len(wav):
        begin = len(codes)
        n_samples = lengths[begin : begin + size]
        try:
            batch = encode_batch(codec, wav[begin : begin + size], n_samples).cpu().numpy()
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            size = -(-size // 2)
            torch.cuda.empty_cache()
            continue
        for row, n, found in zip(wav[begin:], n_samples, batch, strict=False):
            n_frames = -(-n // codec.hop_length)
            codes.append(found[:, :n_frames] if n_frames >= codec.encoder.shortest else encode_alone(codec, row[:, :n]))
    return codes


@torch.inference_mode()
def encode_batch(codec: AudioCodec, wav: Tensor, lengths: Sequence[int]) -> Tensor:
    """Encode wav [B, 1, N], silent behind the rows' lengths, in one call of few shapes; return codes [B, K, T']."""
    unit = round(ROUNDING * codec.sample_rate)
    n_samples = -(-max(lengths) // unit) * unit
    n_silent = (1 << (len(wav) - 1).bit_length()) - len(wav)  # powers of two
    wav = F.pad(wav[..., :n_samples], (0, max(0, n_samples - wav.shape[-1]), 0, 0, 0, n_silent))
    return codec.encode(wav, [*lengths, *[n_samples] * n_silent])[: len(lengths)]
