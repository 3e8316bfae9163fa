"""Locks on output folders: two commands in one folder, killed ones, folders that cannot be written to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audiogen_cli.errors import InputError
from audiogen_cli.files import temporary_name
from audiogen_cli.lock import LOCK_FILE, hold_folder, release_folders

HOLD = """
import sys
from pathlib import Path
from audiogen_cli.lock import hold_folder
hold_folder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()  # until it is killed, or nobody is there any more
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another command that holds `tmp_path / "out"`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_command_is_refused_by_name_until_the_first_has_ended(
    other: subprocess.Popen[str], tmp_path: Path, audiogen
) -> None:
    expected = rf"out: another command is writing there: process {other.pid} on {socket.gethostname()}, since 20"
    with pytest.raises(InputError, match=expected):
        hold_folder(tmp_path / "out")
    (tmp_path / "out" / f".0123456789abcdef.{other.pid}.tmp").write_text("half")
    (tmp_path / "sounds").mkdir()
    for arguments in (
        ["prep", "--folder", "sounds", "--out", "out"],
        ["generate", "dog", "--out-dir", "out"],
        ["eval", "--split", "esc50-test", "--out", "out"],
        ["import", "sounds", "--out", "out"],
    ):
        refused = audiogen(*arguments)
        assert refused.returncode == 2 and f"process {other.pid} on" in refused.stderr and not refused.stdout
    (tmp_path / "out" / ".mine.tmp").touch()
    other.kill()
    other.wait()
    assert (tmp_path / "out" / LOCK_FILE).exists()
    hold_folder(tmp_path / "out")
    # What it had left is gone, too, and nothing else.
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [LOCK_FILE, ".mine.tmp"]


def test_trainings_and_tokenize_are_refused_too(
    other: subprocess.Popen[str], audiogen, token_shards: Path, clip_manifests: Path, tiny_codec: Path
) -> None:
    for arguments in (
        ["train-lm", "--size", "tiny", "--tokens", token_shards, "--codec", tiny_codec],
        ["train-codec", "--manifests", clip_manifests],
        ["tokenize", "--manifests", clip_manifests, "--codec", tiny_codec, "--device", "cpu"],
    ):
        refused = audiogen(*arguments, "--out", "out")
        assert refused.returncode == 2 and f"process {other.pid} on" in refused.stderr, refused.stderr


def test_folders_made_for_nothing_go_again_and_locks_with_them(tmp_path: Path) -> None:
    hold_folder(tmp_path / "a" / "b")
    hold_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / LOCK_FILE).exists()
    release_folders()
    assert not list(tmp_path.iterdir())
    hold_folder(tmp_path / "c")
    (tmp_path / "c" / "result").touch()
    release_folders()
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["result"]


def test_what_a_process_of_the_same_number_left_goes_and_ones_own_stays(tmp_path: Path) -> None:
    """As in a container that was restarted."""
    own, older = temporary_name(tmp_path), tmp_path / f".{'0' * 16}.{os.getpid()}.tmp"
    left = [older, tmp_path / f".{'0' * 24}.{os.getpid()}.tmp", tmp_path / f".{'1' * 24}.99999999.tmp"]
    for path in (own, *left):
        path.touch()
    hold_folder(tmp_path)
    assert own.exists() and not any(path.exists() for path in left)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory is elsewhere")
def test_semaphores_of_a_killed_command_go_with_its_lock(other: subprocess.Popen[str], tmp_path: Path) -> None:
    left, others = Path(f"/dev/shm/sem.loky-{other.pid}-test"), Path("/dev/shm/sem.loky-99999999-test")
    left.touch()
    others.touch()
    other.kill()
    other.wait()
    hold_folder(tmp_path / "out")
    try:
        assert not left.exists() and others.exists()
    finally:
        others.unlink()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory is elsewhere")
def test_a_command_that_is_stopped_leaves_no_semaphores_of_its_own(tmp_path: Path) -> None:
    hold_folder(tmp_path / "out")
    left = Path(f"/dev/shm/sem.loky-{os.getpid()}-test")
    left.touch()
    release_folders(sweep=True)
    assert not left.exists()


def test_the_lock_of_a_number_that_another_process_has_now_is_stale(
    other: subprocess.Popen[str], tmp_path: Path
) -> None:
    lock = tmp_path / "out" / LOCK_FILE
    record = json.loads(lock.read_text())
    lock.write_text(json.dumps({**record, "started": "12"}))
    hold_folder(tmp_path / "out")
    assert json.loads(lock.read_text())["process"] == os.getpid()


def test_a_lock_of_another_machine_is_stale_when_it_has_not_been_touched_for_long(
    other: subprocess.Popen[str], tmp_path: Path
) -> None:
    lock = tmp_path / "out" / LOCK_FILE
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "host": "elsewhere"}))
    with pytest.raises(InputError, match="on elsewhere"):
        hold_folder(tmp_path / "out")
    os.utime(lock, (time.time() - 600,) * 2)
    hold_folder(tmp_path / "out")


def test_in_two_containers_processes_may_have_one_number(other: subprocess.Popen[str], tmp_path: Path) -> None:
    lock = tmp_path / "out" / LOCK_FILE
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "host": "elsewhere", "process": os.getpid()}))
    with pytest.raises(InputError, match=f"process {os.getpid()} on elsewhere"):
        hold_folder(tmp_path / "out")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"process": "x"}'])
def test_what_is_no_lock_locks_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK_FILE).write_text(content)
    hold_folder(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/out: cannot be written to \(Not a directory\)"):
        hold_folder(tmp_path / "file" / "out")
    (tmp_path / "victim").touch()
    (tmp_path / LOCK_FILE).symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match="cannot be written to"):
        hold_folder(tmp_path)
