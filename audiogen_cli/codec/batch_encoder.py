"""Encoding rows of audio so that a row's codes do not depend on the rows encoded beside it.

A network's last bits depend on the batch's shape (other shapes, other kernels, another order of summation), and if two
codebook entries are almost equally near, the last bit decides. So the shape is fixed, whatever is encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from audiogen_cli.data.shards import ShardMeta

if TYPE_CHECKING:
    from audiogen_cli.codec.model import AudioCodec

DEVICE_ROWS = 16  # of every call on an accelerator


class RowEncoder:
    """Encode rows of any lengths. Close it after use: it has threads.

    On the CPU each row is encoded alone on one thread, as many rows at once as torch had threads: two to five times as
    fast as one batch on all threads. On other devices rows of one length are encoded together, always 16, the missing
    ones silent.
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

    def encode(self, wavs: Sequence[Tensor]) -> list[np.ndarray]:
        """Encode wavs [N], on the device; return the codes [K, T] of each."""
        if self._pool:
            return list(self._pool.map(self._encode_alone, wavs))
        return encode_in_groups(self.codec, wavs)

    def close(self) -> None:
        """End the threads and restore torch's number of threads."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._threads)

    def _encode_alone(self, wav: Tensor) -> np.ndarray:
        with torch.inference_mode():
            codes: np.ndarray = self.codec.encode(wav[None, None])[0].numpy()
        return codes


def shard_meta(codec: AudioCodec) -> ShardMeta:
    """Return the description of shards of this codec, without counts."""
    return ShardMeta(codec.fingerprint, codec.n_q, codec.codebook_size, codec.frame_rate, codec.sample_rate, {})


def encode_in_groups(codec: AudioCodec, wavs: Sequence[Tensor], size: int = DEVICE_ROWS) -> list[np.ndarray]:
    """Encode wavs [N], `size` of one length at a time, the missing ones silent; return the codes [K, T] of each."""
    by_length: dict[int, list[int]] = {}
    for row, wav in enumerate(wavs):
        by_length.setdefault(len(wav), []).append(row)
    codes: dict[int, np.ndarray] = {}
    for length, rows in by_length.items():
        for begin in range(0, len(rows), size):
            group = rows[begin : begin + size]
            batch = wavs[group[0]].new_zeros(size, 1, length)
            batch[: len(group), 0] = torch.stack([wavs[row] for row in group])
            with torch.inference_mode():
                codes |= dict(zip(group, codec.encode(batch).cpu().numpy(), strict=False))
    return [codes[row] for row in range(len(wavs))]
