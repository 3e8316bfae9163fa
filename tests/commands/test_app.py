"""The command line as a whole: help, exit codes, one-line errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from audiogen_cli.app import COMMANDS


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_nothing_heavy_and_opens_with_an_example(audiogen_process, command: str) -> None:
    result = audiogen_process(*[command] if command else [], "--help", python=("-X", "importtime"))
    assert result.returncode == 0
    imported = {
        line.rsplit("|", 1)[1].strip() for line in result.stderr.splitlines() if line.startswith("import time:")
    }
    assert "typer" in imported
    assert not imported & {"torch", "numpy", "rich", "transformers", "pyarrow", "scipy", "datasets"}
    paragraphs = result.stdout.split("\n\n")
    assert paragraphs[0].startswith(f"Usage: audiogen {command}".rstrip())
    assert paragraphs[1].strip().startswith(f"Example: audiogen {command}".rstrip())


def test_the_list_of_commands_says_what_each_is_for(audiogen) -> None:
    listed = audiogen("--help").stdout.split("Commands:")[1]
    for command in COMMANDS:
        line = next(line for line in listed.splitlines() if line.split()[:1] == [command])
        assert len(line.split()) > 3 and "Example" not in line


def test_no_arguments_show_the_help(audiogen) -> None:
    assert audiogen().stdout == audiogen("-h").stdout


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "2000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
)
def test_threads_wait_briefly_unless_told_otherwise(given: dict[str, str], expected: str) -> None:
    script = (
        "import atexit, os, sys; from audiogen_cli.app import main; sys.argv = ['audiogen', '--version']; "
        "atexit.register(lambda: print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)); main()"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    result = subprocess.run([sys.executable, "-c", script], env=clean | given, capture_output=True, text=True)
    assert result.stdout.split()[-2:] == [expected, "False"]


def test_version(audiogen) -> None:
    result = audiogen("--version")
    assert (result.returncode, result.stdout.split()[0]) == (0, "audiogen")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compose"], "No such command 'compose'; see audiogen --help"),
        (["generate", "--loud"], "see audiogen generate --help"),
        (["generate", "dog", "--duration", "long", "-o", "x.wav"], "'--duration'"),
        (["generate", "dog", "-o", "x.wav", "--duration", "0"], "prompt 'dog': duration must be"),
        (["generate", "dog", "-o", "x.wav", "--duration=-3"], "duration"),
        (["generate", "dog", "-o", "x.wav", "--top-p", "2"], "top_p"),
        (["generate", "dog", "-o", "x.wav", "--seed", "-1"], "'--seed'"),
        (["generate", "dog", "-o", "x.wav", "--device", "tpu"], "unknown device 'tpu'"),
        (["generate", "dog", "-o", "x.wav", "--model", "none"], "unknown model 'none'"),
        (["generate", "dog", "-o", "x.mp3"], "'.mp3'"),
        (["generate", "dog", "-o", "missing.wav/x.wav", "--samples", "2"], "2 sounds cannot go into one file"),
        (["generate", "dog"], "either -o FILE or --out-dir"),
        (["generate", "dog", "-o", "x.wav", "--out-dir", "out"], "either -o FILE or --out-dir"),
        (["generate", "-o", "x.wav"], "say what to generate"),
        (["generate", "dog", "--unconditional", "-o", "x.wav"], "say what to generate"),
        (["generate", " ", "-o", "x.wav"], "a prompt is empty"),
        (["generate", "--prompts", "none.csv", "--out-dir", "out"], "none.csv: No such file"),
        (["continue", "dog.wav"], "say where to write"),
        (["continue", "dog.wav", "", "-o", "x.wav"], "the prompt is empty"),
        (["info", "nowhere"], "nowhere: no such file or folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    audiogen_process, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = audiogen_process(*arguments, python=("-X", "importtime"))
    errors = [line for line in result.stderr.splitlines() if not line.startswith("import time:")]
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]
    assert "torch\n" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_it_failed_wherever_it_stands(audiogen) -> None:
    for arguments in (["--debug", "info", "nowhere"], ["info", "nowhere", "--debug"]):
        result = audiogen(*arguments)
        assert result.returncode == 2
        assert "Traceback" in result.stderr and result.stderr.splitlines()[-1].startswith("error: nowhere")


def test_an_unexpected_error_is_one_line_and_exit_code_1() -> None:
    code = "import sys; from audiogen_cli import app; sys.argv = ['audiogen', 'info', 'x']\n"
    code += "from audiogen_cli.interop import describe\n"
    code += "def broken(path): raise ZeroDivisionError('two\\nlines')\n"
    code += "describe.describe = broken\napp.main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "error: ZeroDivisionError: two lines (unexpected; --debug shows where)\n"


def test_ctrl_c_exits_with_130(tmp_path: Path) -> None:
    fifo = tmp_path / "prompts.txt"
    os.mkfifo(fifo)  # reading it waits for ever
    command = [sys.executable, "-m", "audiogen_cli", "generate", "--prompts", fifo, "--out-dir", tmp_path / "out"]
    # A runner in a shell's background would hand down that Ctrl-C is ignored.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process, fifo.open("w"):
        # Opening the fifo for writing has waited until the command had opened it for reading.
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr is not None and process.stderr.read() == "interrupted\n"


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "audiogen_cli", "--version"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, "")
