"""Names of devices: what passes, and what is said of one that is not there."""

from __future__ import annotations

import errno
import os
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from onnx import TensorProto, helper

from audiogen_cli import devices
from audiogen_cli.devices import (
    alone,
    check_device,
    choose_device,
    count_threads,
    current,
    free_memory,
    is_out_of_memory,
    single_thread,
)
from audiogen_cli.errors import InputError
from audiogen_cli.onnx_session import open_session
from audiogen_cli.training.launch import relaunch, start_accelerator
from audiogen_cli.training.sharding import precision_policy


def test_a_cpu_is_no_current_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)  # as beside a generator on a GPU
    with current(torch.device("cpu")):
        pass


def test_long_words_of_torch_about_a_device_stay_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("Could not run 'aten::empty' with arguments from the 'MPS' backend. " * 10)

    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(InputError) as error:
        choose_device("mps")
    assert str(error.value) == "device 'mps' cannot be used here: this torch or machine has none"


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_device_names_pass(device: str) -> None:
    check_device(device)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", ""])
def test_other_device_names_do_not(device: str) -> None:
    with pytest.raises(InputError, match="unknown device"):
        check_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named() -> None:
    assert choose_device("auto").type == "cpu"  # on a Mac, too
    with pytest.raises(InputError, match="device 'cuda' cannot be used here"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a memory object"), True),
        (RuntimeError("unable to mmap 80 bytes from file <model.safetensors>: Cannot allocate memory (12)"), True),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_out_of_memory_is_known_in_all_its_forms(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_out_of_memory_is_known_where_onnx_runtime_says_it() -> None:
    ends = [
        helper.make_tensor_value_info("n", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("zeros", TensorProto.FLOAT, ["n"]),
    ]
    model = helper.make_model(
        helper.make_graph([helper.make_node("ConstantOfShape", ["n"], ["zeros"])], "zeros", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    session = open_session(model.SerializeToString(), 1)
    with pytest.raises(Exception, match="ONNXRuntimeError") as error:
        session.run(None, {"n": np.array([1 << 45])})
    assert is_out_of_memory(error.value)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("place", "limits", "expected"),
    [
        ("/", {"": "100"}, 100 - 60 + 10),  # in a container
        ("/host/abc", {"": "100"}, 100 - 60 + 10),  # whose list names the host's folder
        ("/jobs/7/step", {"jobs": "100", "jobs/7": "90"}, 90 - 60 + 10),  # the narrowest of a batch job's
        ("/jobs/7", {}, 1000),
        ("/", {"": "5000"}, 1000),
    ],
)
def test_free_memory_ends_where_a_containers_does(
    version: int,
    place: str,
    limits: dict[str, str],
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "sys/fs/cgroup" / ("memory" if version == 1 else "")
    most, used, kept = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if version == 1
        else ("memory.max", "memory.current", "inactive_file")
    )
    for name in ("", "jobs", "jobs/7", "jobs/7/step"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / most).write_text(limits.get(name, "max" if version == 2 else str(2**63 - 4096)))
        (root / name / used).write_text("60\n")
        (root / name / "memory.stat").write_text(f"anon 50\n{kept} 10\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    listed = f"4:memory:{place}\n0::/\n" if version == 1 else f"0::{place}\n"
    (tmp_path / "proc/self/cgroup").write_text(f"1:cpu,cpuacct:/a:b\n{listed}")
    monkeypatch.setattr(devices, "Path", lambda path: tmp_path / str(path).lstrip("/"))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    assert free_memory(torch.device("cpu")) == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert free_memory(torch.device("cpu")) == expected / 2
    assert free_memory(torch.device("mps")) is None


@pytest.mark.parametrize(
    ("name", "rank", "expected"),
    [("cuda:1", None, 1), ("cuda", None, 2), ("auto", None, 2), ("auto", "3", 3), ("auto", "5", 1)],
)
def test_a_chosen_gpu_becomes_the_current_one(
    name: str, rank: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    current: list[int] = []
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch._C, "_cuda_setDevice", current.append, raising=False)  # below what refuses "cuda"
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert choose_device(name) == torch.device("cuda", expected) and current == [expected]


def test_one_thread_at_a_time_computes_on_a_gpu_and_any_number_on_a_cpu() -> None:
    for name, together in (("cuda:1", False), ("cpu", True)):
        entered = threading.Event()

        def enter(name: str = name, entered: threading.Event = entered) -> None:
            with alone(torch.device(name)):
                entered.set()

        with alone(name), alone(name):
            thread = threading.Thread(target=enter)
            thread.start()
            assert entered.wait(60 if together else 0.2) == together
        thread.join()
        assert entered.is_set()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"--processes 2: this machine has 1 GPU"):
        relaunch(2)


def test_processes_wait_for_each_other_for_a_day_and_old_gpus_train_in_float32(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import accelerate

    monkeypatch.setattr(accelerate, "Accelerator", lambda **settings: settings)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    settings: dict[str, Any] = start_accelerator("bf16")  # type: ignore[assignment]
    assert settings["mixed_precision"] == "no" and "no bfloat16" in capsys.readouterr().err
    assert settings["kwargs_handlers"][0].timeout == timedelta(days=1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    settings = start_accelerator("bf16")  # type: ignore[assignment]
    assert settings["mixed_precision"] == "bf16" and settings["cpu"] is False
    assert (
        vars(settings["kwargs_handlers"][1]).items()
        >= {"gradient_as_bucket_view": True, "broadcast_buffers": False}.items()
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert start_accelerator("no")["cpu"] is True  # type: ignore[index]  # also where Apple's GPU is


def test_a_cpu_without_bfloat16_trains_in_float32(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("accelerate.Accelerator", lambda **settings: settings)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for able in (True, False):
        monkeypatch.setattr("audiogen_cli.training.launch.has_native_bfloat16", lambda able=able: able)
        settings: dict[str, Any] = start_accelerator("bf16")  # type: ignore[assignment]
        assert settings["mixed_precision"] == ("bf16" if able else "no")
        assert ("CPU has no bfloat16" in capsys.readouterr().err) != able


def test_fsdp_keeps_the_residual_stream_in_float32() -> None:
    assert precision_policy(None).param_dtype is None
    policy = precision_policy(torch.bfloat16)
    assert (policy.param_dtype, policy.reduce_dtype, policy.cast_forward_inputs) == (
        torch.bfloat16,
        torch.float32,
        False,
    )


def test_one_thread_for_a_while_leaves_torch_as_it_was() -> None:
    before, found = torch.get_num_threads(), []

    def compute() -> None:
        with single_thread():
            found.append((torch.get_num_threads(), count_threads()))
        found.append((torch.get_num_threads(), count_threads()))

    torch.set_num_threads(3)
    try:
        with single_thread():
            for _ in range(4):  # threads whose first use of torch is in here
                thread = threading.Thread(target=compute)
                thread.start()
                thread.join()
        assert torch.get_num_threads() == count_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert found == [(1, 3), (3, 3)] * 4


def test_a_thread_that_began_with_one_does_not_leave_one_to_all() -> None:
    """As a server's, whose first use of torch fell into another's step and whose own step comes after it."""
    before, begun, go = torch.get_num_threads(), threading.Event(), threading.Event()

    def serve() -> None:
        torch.zeros(1) + 1
        torch.get_num_threads()
        begun.set()
        go.wait()
        with single_thread():
            pass

    torch.set_num_threads(3)
    try:
        thread = threading.Thread(target=serve)
        with single_thread():
            thread.start()
            begun.wait()
        go.set()
        thread.join()
        assert torch.get_num_threads() == count_threads() == 3
        fresh: list[int] = []
        other = threading.Thread(target=lambda: fresh.append(count_threads()))
        other.start()
        other.join()
        assert fresh == [3]
    finally:
        torch.set_num_threads(before)
