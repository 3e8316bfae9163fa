"""The heap in order: freed memory goes back to the system although tensors that lie between it are kept."""

import ctypes
from pathlib import Path

import pytest
import torch

from audiogen_cli.codec import model
from audiogen_cli.codec.config import CodecConfig, SEANetConfig
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.devices import give_back_memory

STATUS = Path("/proc/self/status")


def resident() -> float:
    """MB of this process in memory."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not (STATUS.is_file() and hasattr(ctypes.CDLL(None), "malloc_trim")), reason="not glibc on Linux")
def test_what_is_free_between_kept_tensors_goes_back():
    kept, passing = [], []
    for _ in range(1000):
        passing.append(torch.ones(25_000))  # 100 kB: small enough for the heap by any threshold
        kept.append(torch.ones(100))
    before = resident()
    passing.clear()
    give_back_memory()
    assert before - resident() > 50  # of 100; the system counts to within tens of MB where there are many cores
    assert all(bool((each == 1).all()) for each in kept)


def test_the_heap_is_put_in_order_after_every_minute_or_so_of_a_long_signal(monkeypatch):
    codec = AudioCodec(CodecConfig(network=SEANetConfig(channels=2), latent_dim=4, codebook_size=16)).eval()
    blocks: list[int] = []
    monkeypatch.setattr(model, "BLOCK", 1600)
    monkeypatch.setattr(model, "give_back_memory", lambda: blocks.append(1))
    codes = torch.cat(list(codec.encode_chunks(torch.zeros(8, 1, 1, 800))), -1)
    assert 3 <= len(blocks) <= 4
    blocks.clear()
    list(codec.decode_chunks(codes.split(25, -1)))
    assert 3 <= len(blocks) <= 4
