"""Encoding rows so that a row's codes do not depend on which others are encoded beside it.

A network's last bits depend on the batch's shape (other shapes, other kernels, another order of summation), and where
two codes are about equally near, the last bit decides. So the shape is never that of the batch at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from audiogen_cli.codec.model import AudioCodec

DEVICE_ROWS = 16  # of every call on an accelerator


class RowEncoder:
    """Encodes rows of any lengths. Close it after use: it has threads.

    On the CPU each row is encoded alone, on one thread; as many rows at once as torch had threads. That is also two to
    five times as fast as one batch on all threads. On other devices rows of one length are encoded together, always
    16, filled up with silence.
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
        """Fewer than so many rows a call leave something idle."""
        return self._threads if self._pool else DEVICE_ROWS

    def encode(self, wavs: Sequence[Tensor]) -> list[np.ndarray]:
        """wavs: each [N], on the device → the codes [K, T] of each."""
        if self._pool:
            return list(self._pool.map(self._encode_alone, wavs))
        return encode_in_groups(self.codec, wavs)

    def close(self) -> None:
        """End the threads, and give torch its number of threads back."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._threads)

    def _encode_alone(self, wav: Tensor) -> np.ndarray:
        with torch.inference_mode():
            codes: np.ndarray = self.codec.encode(wav[None, None])[0].numpy()
        return codes


def encode_all(codec: AudioCodec, wavs: Sequence[Tensor]) -> list[Tensor]:
    """The codes [K, T] int64 of each wav [N], of any lengths, as if each were encoded alone.

    Raises ValueError if one is not [N] with N > 0.
    """
    for wav in wavs:
        if wav.ndim != 1 or not len(wav):
            raise ValueError(f"each wav must be [N] with N > 0, not {list(wav.shape)}")
    device = next(codec.parameters()).device
    with closing(RowEncoder(codec)) as encoder:
        return [torch.from_numpy(codes) for codes in encoder.encode([wav.to(device) for wav in wavs])]


def encode_in_groups(codec: AudioCodec, wavs: Sequence[Tensor], size: int = DEVICE_ROWS) -> list[np.ndarray]:
    """The codes [K, T] of each wav [N], encoded `size` at a time; silence fills up a length with fewer."""
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
