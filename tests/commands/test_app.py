"""The command line as a whole: help, exit codes, one-line errors, and what must not be imported for them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fuzz.harness import run

from audiogen_cli.app import COMMANDS, wait_briefly

HEAVY = ("torch", "numpy", "rich", "transformers", "pyarrow", "scipy", "datasets", "pandas", "nltk", "torchaudio")
BAD_CALLS = [
    (["compose"], "No such command 'compose'; see audiogen --help"),
    (["generate", "--loud"], "see audiogen generate --help"),
    (["generate", "--guidence", "3", "dog"], "did you mean --guidance? see audiogen generate --help"),
    (["generate", "dog", "--cfg-coef", "3"], "did you mean --guidance?"),
    (["generate", "dog", "--output-dir", "x"], "did you mean --out-dir?"),
    (["train-lm", "--size", "tinny"], "'--size': 'tinny' is not one of 'tiny'"),
    (["train-lm", "--epochs", "3"], "did you mean --max-steps?"),
    (["generate", "dog", "-o", "."], "-o . is a folder; give a file, such as sound.wav, or --out-dir ."),
    (["generate", "dog", "-o", "out/"], "-o out: end the file's name in .wav"),
    (["generate", "dog", "-o", "x.wav", "--duration", "2 parsecs"], "'2 parsecs' is no duration"),
    (["generate", "dog", "--duration", "long", "-o", "x.wav"], "'--duration'"),
    (["generate", "dog", "-o", "x.wav", "--duration", "0"], "duration"),
    (["generate", "dog", "-o", "x.wav", "--duration=-3"], "duration"),
    (["generate", "dog", "-o", "x.wav", "--top-p", "2"], "top_p"),
    (["generate", "dog", "-o", "x.wav", "--seed", "-1"], "'--seed'"),
    (["generate", "dog", "-o", "x.wav", "--device", "tpu"], "'tpu'"),
    (["generate", "dog", "-o", "x.wav", "--model", "none"], "'none'"),
    (["generate", "dog", "-o", "x.mp3"], "'.mp3'"),
    (["generate", "dog", "-o", "missing.wav/x.wav", "--samples", "2"], "2 sounds"),
    (["generate", "dog"], "--out-dir"),
    (["generate", "dog", "-o", "x.wav", "--out-dir", "out"], "--out-dir"),
    (["generate", "-o", "x.wav"], "--prompts"),
    (["generate", "dog", "--unconditional", "-o", "x.wav"], "--unconditional"),
    (["generate", " ", "-o", "x.wav"], "prompt"),
    (["generate", "--prompts", "none.csv", "--out-dir", "out"], "none.csv"),
    (["generate", "dog", "-o", "x.wav", "--duration", "1e18"], "duration"),
    (["generate", "dog", "-o", "x.wav", "--duration", "1e6"], "--stream"),
    (["generate", "dog", "--out-dir", "out", "-n", "1000000000"], "'-n' / '--samples'"),
    (["generate", "dog", "cat", "--out-dir", "out", "-n", "90000"], "180000 sounds"),
    (["generate", "dog", "-o", "x.wav", "--top-k", str(2**70)], "top_k"),
    (["generate", "dog", "-o", "x.wav", "--temperature", "1e9"], "temperature"),
    (["generate", "dog", "-o", "x.wav", "--seed", "9" * 400], "'--seed'"),
    (["generate", "dog \udcff", "-o", "x.wav"], "character 5"),
    (["generate", "dog", "-o", "x.wav", "--negative", "\ud83d"], "negative"),
    (["generate", "dog", "-o", "x" * 5000 + ".wav"], "File name too long"),
    (["generate", "dog", "-o", "x.wav", "--model", "x" * 5000], "File name too long"),
    (["tokenize", "--codec", "embedded", "--mix", "1000000000"], "'--mix'"),
    (["prep", "--folder", ".", "--name", "a\0b"], r"'a\x00b'"),
    (["prep", "--folder", ".", "--name", "x" * 5000], "200 bytes"),
    (["continue", "dog.wav"], "-o"),
    (["continue", "dog.wav", "", "-o", "x.wav"], "prompt"),
    (["info", "nowhere"], "nowhere"),
]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_opens_with_an_example(audiogen, command: str) -> None:
    result = audiogen(*[command] if command else [], "--help")
    paragraphs = result.stdout.split("\n\n")
    assert (result.returncode, result.stderr) == (0, "")
    assert paragraphs[0].startswith(f"Usage: audiogen {command}".rstrip())
    assert paragraphs[1].strip().startswith(f"Example: audiogen {command}".rstrip())


def test_the_list_of_commands_has_a_line_for_each(audiogen) -> None:
    listed = audiogen("--help").stdout.split("Commands:")[1]
    for command in COMMANDS:
        line = next(line for line in listed.splitlines() if line.split()[:1] == [command])
        assert len(line.split()) > 3 and "Example" not in line


def test_no_arguments_show_the_help(audiogen) -> None:
    assert audiogen().stdout == audiogen("-h").stdout


def test_quiet_leaves_results_warnings_and_errors(audiogen, tiny_lm: Path) -> None:
    options = ["-o", "x.wav", "--duration", "100ms", "--model", tiny_lm, "--seed", 1]
    assert audiogen("generate", "dog", *options).stderr
    quiet = audiogen("generate", "dog", *options, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "x.wav\n", "")
    assert audiogen("--quiet", "info", "nowhere").stderr.startswith("error: ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(command_environment: None, shell: str) -> None:
    given = {"COMP_WORDS": "audiogen pre", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "audiogen pre"}
    given |= {"_AUDIOGEN_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    code = "import sys; from audiogen_cli.app import main\ntry: main()\nfinally: sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **given}, capture_output=True, text=True)
    assert done.returncode == 0 and "prep" in done.stdout, done


def test_ctrl_c_at_the_very_end_shows_no_traceback(command_environment: None) -> None:
    code = "import atexit, os, signal, sys\nfrom audiogen_cli.app import main\nsys.argv = ['audiogen', '--version']\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "atexit.register(os.kill, os.getpid(), signal.SIGINT)\nmain()"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


ENDING = """
import atexit, sys, threading, time
from audiogen_cli import __main__

class Kept:
    def __del__(self):
        print("taken down", flush=True)

def main():
    atexit.register(print, "tidied up")
    threading.Thread(target=lambda: (time.sleep(0.3), print("thread ended"))).start()
    print("result")
    sys.exit(3)

kept = Kept()
__main__.main = main
__main__.run()
"""


def test_a_command_ends_without_taking_the_interpreter_down(command_environment: None) -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "result\nthread ended\ntidied up\n", "")


def test_without_stdout_the_end_is_silent(command_environment: None) -> None:
    command = f"{sys.executable} -m audiogen_cli info nowhere >&-"
    done = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_what_a_profiler_does_at_the_end_is_done(command_environment: None) -> None:
    code = f"import atexit\natexit.register(print, 'profile written')\n{ENDING}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-2:]) == (3, ["profile written", "taken down"])


@pytest.mark.parametrize("start", [["-m", "audiogen_cli"], ["-c", "from audiogen_cli.__main__ import run; run()"]])
def test_the_process_ends_with_the_code_of_its_command(command_environment: None, start: list[str]) -> None:
    done = subprocess.run([sys.executable, *start, "info", "nowhere"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: ")
    done = subprocess.run([sys.executable, *start, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("audiogen ")


def test_version(audiogen) -> None:
    result = audiogen("--version")
    assert (result.returncode, result.stdout.split()[0]) == (0, "audiogen")


@pytest.mark.parametrize(
    ("arguments", "fragment"), BAD_CALLS, ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else ""
)
def test_bad_input_is_one_line_and_exit_code_2(audiogen, tmp_path: Path, arguments: list[str], fragment: str) -> None:
    result = audiogen(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1 and fragment in result.stderr
    assert len(result.stderr) < 1000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_letters_that_the_terminal_lacks_are_escaped(command_environment: None, tiny_lm: Path, encoding: str) -> None:
    arguments = ["--model", str(tiny_lm), "--duration", "0.1", "--out-dir", "out", "--json"]
    result = run(["generate", "dog \U0001f415", "rain", *arguments], encoding=encoding)
    assert result.code == 0, result.stderr
    assert [json.loads(line)["prompt"] for line in result.stdout.splitlines()] == ["dog \U0001f415", "rain"]


CALLS_IN_TURN = """
import contextlib, io, json, os, sys
from audiogen_cli.app import main
heavy, calls = json.loads(sys.argv[1])
answers = []
for call in calls:
    sys.argv = ["audiogen", *call]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main()
        except SystemExit as ended:
            answers.append([call, ended.code, [name for name in heavy if name in sys.modules]])
print(json.dumps([answers, os.environ["GOMP_SPINCOUNT"]]))
"""


def test_help_imports_nothing_heavy_and_bad_input_and_audio_files_no_torch(
    command_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process of its own for all calls: this one has imported everything."""
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    soundfile.write("a.wav", np.zeros(1_600), 16_000)
    helps = [[*command.split(), "--help"] for command in ("", *COMMANDS)]
    others = [["info", "a.wav"], *(arguments for arguments, _ in BAD_CALLS)]
    command = [sys.executable, "-c", CALLS_IN_TURN, json.dumps([HEAVY, helps + others])]
    done = subprocess.run(command, capture_output=True, text=True)
    answers, spins = json.loads(done.stdout)
    assert answers[: len(helps)] == [[call, 0, []] for call in helps]
    assert [code for _, code, _ in answers[len(helps) :]] == [0] + [2] * len(BAD_CALLS)
    assert not [call for call, _, imported in answers if "torch" in imported]
    assert spins == "2000"  # set before torch is imported: OpenMP reads it only then


@pytest.mark.parametrize(("given", "expected"), [({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)])
def test_a_users_own_thread_settings_stay(
    given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    wait_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_debug_prints_a_traceback_wherever_it_stands(audiogen) -> None:
    for arguments in (["--debug", "info", "nowhere"], ["info", "nowhere", "--debug"]):
        result = audiogen(*arguments)
        assert result.returncode == 2
        assert "Traceback" in result.stderr and result.stderr.splitlines()[-1].startswith("error: nowhere")


def test_an_unexpected_error_is_one_line_and_exit_code_1(audiogen, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("audiogen_cli.interop.describe.describe", broken)
    result = audiogen("info", "x")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ZeroDivisionError: two lines (") and "--debug" in result.stderr


def test_a_torchaudio_that_does_not_fit_torch_is_named(audiogen, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path) -> None:
        raise OSError("Could not load this library: /lib/torchaudio/lib/_torchaudio.so")  # torch's own words

    monkeypatch.setattr("audiogen_cli.interop.describe.describe", load)
    result = audiogen("info", "x")
    assert result.returncode == 1
    assert "torchaudio does not fit torch; install both" in result.stderr and "unexpected" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_exits_with_130(tmp_path: Path, number: signal.Signals) -> None:
    fifo = tmp_path / "prompts.txt"
    os.mkfifo(fifo)  # reading it waits for ever
    command = [sys.executable, "-m", "audiogen_cli", "generate", "--prompts", fifo, "--out-dir", tmp_path / "out"]
    # A runner in a shell's background would hand down that Ctrl-C is ignored.
    heed = partial(signal.signal, number, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process, fifo.open("w"):
        # Opening the fifo for writing has waited until the command had opened it for reading.
        process.send_signal(number)
        assert process.wait() == 130
        assert process.stderr is not None and process.stderr.read() == "interrupted\n"


def test_escape_codes_of_licenses_and_recordings_do_not_reach_the_terminal(
    audiogen, tiny_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_lm, tmp_path / "model")
    (tmp_path / "model" / "LICENSE").write_text("CC0 \x1b]0;title\x07\n")
    result = audiogen("generate", "a dog", "--duration", "0.1", "--model", "model", "-o", "a.wav")
    assert result.returncode == 0 and "CC0 \\x1b]0;title\\x07" in result.stderr and "\x1b" not in result.stderr
    monkeypatch.setattr("audiogen_cli.data.audio._warned", set())
    soundfile.write("\x1b[31m.wav", np.full(1_600, 9.0), 16_000, subtype="FLOAT")
    result = audiogen("info", "\x1b[31m.wav")
    assert result.returncode == 0 and "\x1b" not in result.stdout + result.stderr


def test_a_closed_pipe_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "audiogen_cli", "--version"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, "")
