"""Rates are per second of training, utilisation is per GPU, and projections follow from them."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from audiogen_cli.bench.train_step import projected_days
from audiogen_cli.devices import free_memory
from audiogen_cli.lm.config import LMConfig, TextConfig, TrainConfig
from audiogen_cli.lm.flops import training_flops
from audiogen_cli.training import throughput as throughputs
from audiogen_cli.training.throughput import Throughput

CPU = torch.device("cpu")
MEGA = 1_000_000


def test_pauses_do_not_count_and_waiting_does(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 3.0, 7.0, 8.0, 8.0])
    monkeypatch.setattr(throughputs, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    throughput = Throughput(CPU)  # at 0
    with throughput.waiting():  # 1 to 2
        pass
    with throughput.paused():  # 3 to 7
        pass
    throughput.add(10)
    throughput.add(30)
    numbers = throughput.read()  # at 8: 4 seconds of training
    assert (numbers["tokens_per_s"], numbers["step_seconds"], numbers["data_wait"]) == (10.0, 2.0, 0.25)
    assert numbers["mfu"] is None and numbers["memory_gb"] > 0


def test_utilisation_is_that_of_one_gpu(monkeypatch):
    monkeypatch.setattr(throughputs, "peak_flops", lambda device: 1e12)
    clock = iter([0.0, 2.0, 2.0])
    monkeypatch.setattr(throughputs, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    throughput = Throughput(CPU, processes=4)
    throughput.add(100, 3e12)
    throughput.add(10, 1e12)  # a short step needs less: together 2e12 a second, 0.5e12 on each
    assert throughput.read()["mfu"] == pytest.approx(0.5)


def test_operations_are_six_for_each_weight_and_token_and_attentions():
    facts = {"sample_rate": 16_000, "codec_fingerprint": "", "max_frames": 100, "text": TextConfig(), "text_width": 8}
    shape = {"dim": 64, "n_layers": 3, "n_heads": 2, "n_q": 1, "codebook_size": 128, "frame_rate": 50.0}
    config = LMConfig(**shape, **facts, cross_attention=False)
    weights = 3 * 12 * 64 * 64 + 64 * 128
    assert training_flops(config, 100) == 6 * (100 * weights + 3 * 100 * 100 * 64)
    config = LMConfig(**shape, **facts, text_prefix=False, decoder="diffusion")  # every frame looks at all frames
    weights += 3 * 2 * 64 * 64
    assert training_flops(config, 100) == 6 * (100 * weights + 2 * 3 * 100 * 100 * 64)


def test_projected_days():
    config = TrainConfig(max_steps=86_400, crop_seconds=10.0)
    assert projected_days(config, frames_per_s=256 * 10 * 500.0, frame_rate=500.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("free", "chosen"), [(None, 16), (1e12, 16), (900 * MEGA, 4), (200 * MEGA, 1)])
def test_a_micro_batch_that_does_not_fit_is_halved_until_it_does(monkeypatch, free, chosen):
    tried = []

    def measure(work, device):
        work()
        return 100.0 * MEGA * (1 + tried[-1]), 10.0

    monkeypatch.setattr(throughputs, "measure", measure)
    monkeypatch.setattr(throughputs, "free_memory", lambda device: free)
    trial = throughputs.try_micro_batches(tried.append, 16, 32, 50 * MEGA, Accelerator(cpu=True))
    assert trial.micro_batch == chosen and set(tried) <= {1, 2}
    assert trial.needed == (100 * (1 + chosen) + 50) * MEGA
    assert trial.seconds == 10 * 32 / tried[-1]
    said = {16: None, 4: "micro-batches of 16 would not fit into memory: 4 at once", 1: "more than is free"}[chosen]
    assert (trial.warn() is None) == (said is None) and (said or "") in (trial.warn() or "")


def test_memory_of_a_trial_is_what_it_takes_at_a_time():
    needed, seconds = throughputs.measure(lambda: torch.ones(64 * MEGA), torch.device("cpu"))
    # 256 MB; where there are many cores, the system counts to within tens of them
    assert sys.platform != "linux" or 150 * MEGA < needed < 400 * MEGA
    assert seconds > 0


def test_free_memory_is_that_of_the_machine():
    assert sys.platform != "linux" or 0 < free_memory(torch.device("cpu")) < 1e14


def test_a_gpu_is_warm_before_it_is_timed(monkeypatch):
    run, timed = [], []

    def measure(work, device):
        before = run[-1]
        work()
        timed.append(run[-1])
        assert before == run[-1], "its kernels have not been chosen before"
        return MEGA, 0.5

    monkeypatch.setattr(throughputs, "measure", measure)
    monkeypatch.setattr(throughputs, "free_memory", lambda device: 1e9)
    accelerator = SimpleNamespace(device=torch.device("cuda"))
    trial = throughputs.try_micro_batches(run.append, 8, 8, 0, accelerator, first=(2, lambda n: run.append(n)))
    assert timed == [1, 2, 8, 8] and run == [1, 1, 2, 2, 8, 8, 8, 8]
    assert (trial.seconds, trial.first_seconds, trial.first_steps) == (0.5, 0.5, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere getrusage tells the peak, with that of earlier programs")
def test_the_peak_is_not_that_of_the_program_which_started_this_one():
    ours = "import torch; from audiogen_cli.training.throughput import *; print(peak_memory(torch.device('cpu')))"
    big = f"import os, sys; x = b'1' * 2_000_000_000; os.execv(sys.executable, [sys.executable, '-c', {ours!r}])"
    assert int(subprocess.check_output([sys.executable, "-c", big])) < 1_500 * MEGA


@pytest.mark.parametrize(
    ("limit", "chosen", "tries"), [(0, 1, [1]), (1, 1, [1, 2]), (4, 4, [1, 2, 16, 8, 4]), (16, 16, [1, 2, 16])]
)
@pytest.mark.parametrize("free", [None, 1e12])
def test_a_micro_batch_that_runs_out_of_memory_is_halved(monkeypatch, limit, chosen, tries, free):
    tried = []

    def measure(work, device):
        work()
        if tried[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 100.0 * MEGA, 0.1

    monkeypatch.setattr(throughputs, "measure", measure)
    monkeypatch.setattr(throughputs, "free_memory", lambda device: free)
    trial = throughputs.try_micro_batches(tried.append, 16, 16, 0, Accelerator(cpu=True))
    assert (trial.micro_batch, trial.fits, tried) == (chosen, limit > 0, tries)
    assert ("memory runs out" in trial.describe(9)) is (limit == 0)
    assert (trial.warn() is None) == (limit == 16)


@pytest.mark.parametrize(("wanted", "needed"), [(8, 900), (4, 500 + 300)])
def test_gradients_kept_between_micro_batches_count(monkeypatch, wanted, needed):
    tried = []
    monkeypatch.setattr(
        throughputs, "measure", lambda work, device: (work(), (100.0 * MEGA * (1 + tried[-1]), 10.0))[1]
    )
    monkeypatch.setattr(throughputs, "free_memory", lambda device: 1000 * MEGA)
    trial = throughputs.try_micro_batches(tried.append, wanted, 8, 0, Accelerator(cpu=True), accumulated=300 * MEGA)
    assert (trial.micro_batch, trial.needed) == (wanted, needed * MEGA)
