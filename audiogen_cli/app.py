"""The command line: registers the commands and turns whatever goes wrong into one line and an exit code.

0 done; 1 it ran and something failed; 2 usage, configuration or input; 130 interrupted. Command modules import only
typer at their top; what is heavy is imported when a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import atexit
import difflib
import errno
import inspect
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any, TextIO

import typer

from audiogen_cli.commands.bench import bench
from audiogen_cli.commands.continue_ import continue_
from audiogen_cli.commands.convert import convert
from audiogen_cli.commands.eval import eval_
from audiogen_cli.commands.generate import generate
from audiogen_cli.commands.import_ import import_
from audiogen_cli.commands.info import info
from audiogen_cli.commands.inpaint import inpaint
from audiogen_cli.commands.prep import prep
from audiogen_cli.commands.tokenize import tokenize
from audiogen_cli.commands.train_codec import train_codec
from audiogen_cli.commands.train_lm import train_lm
from audiogen_cli.devices import is_out_of_memory
from audiogen_cli.errors import AudiogenError, AudiogenWarning, Interrupted, printable
from audiogen_cli.processes import end_with_parent, handle_signals, interrupt

PYTHONS_WARNING = warnings.formatwarning
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DEBUG_OPTION, QUIET_OPTION = "--debug", "--quiet"
KEPT = ("warning:", "error:", "failed:", "interrupted", "stopped")  # beginnings of the lines that --quiet leaves
# Words of other tools for options of ours.
OTHER_NAMES = {
    **dict.fromkeys(("length", "seconds", "time", "audio-length"), ("duration",)),
    **dict.fromkeys(("cfg", "cfg-coef", "guidance-scale", "scale"), ("guidance",)),
    **dict.fromkeys(("count", "num", "number", "num-samples"), ("samples", "limit")),
    **dict.fromkeys(("outdir", "output-dir", "folder", "directory"), ("out-dir", "out")),
    **dict.fromkeys(("file", "out-file", "outfile"), ("output", "out")),
    **dict.fromkeys(("epochs", "steps", "iterations"), ("max-steps",)),
    **dict.fromkeys(("resume", "checkpoint", "init"), ("from",)),
    **dict.fromkeys(("gpu", "cuda"), ("device", "processes")),
    **dict.fromkeys(("name", "data", "input"), ("folder", "manifests", "tokens")),
}
LONGEST_LINE = 900  # letters of an error: it may quote a value of any length
SPINS = "2000"  # some microseconds: 4,000 cost twice as much beside a busy core, 1,000 a third more on idle ones

app = typer.Typer(
    pretty_exceptions_enable=False,  # main() words them
    rich_markup_mode=None,  # plain help: half the time, and it greps
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"audiogen {version('audiogen-cli')}")
        raise typer.Exit


@app.callback(epilog="`audiogen COMMAND --help` tells more. Results go to stdout, talk goes to stderr.")
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG_OPTION, help="On failure, print a traceback; goes anywhere.")] = False,
    quiet: Annotated[
        bool, typer.Option(QUIET_OPTION, help="Print no talk: results, warnings and errors only; goes anywhere.")
    ] = False,
) -> None:
    """Example: audiogen generate "a dog barks" -o dog.wav

    Sound from text: prepare data, train a codec and a language model, generate, continue, mend, score.
    """


def _purpose(command: Callable[..., Any]) -> str:
    """Return the first sentence of a command's help after its example, for the list of commands."""
    paragraphs = inspect.getdoc(command).split("\n\n")  # type: ignore[union-attr]  # every command has help
    first = next(" ".join(part.split()) for part in paragraphs if not part.startswith("Example"))
    return first.split(". ")[0].rstrip(".")


COMMANDS: dict[str, Callable[..., Any]] = {
    "prep": prep,
    "train-codec": train_codec,
    "tokenize": tokenize,
    "train-lm": train_lm,
    "generate": generate,
    "continue": continue_,
    "inpaint": inpaint,
    "convert": convert,
    "eval": eval_,
    "info": info,
    "import": import_,
    "bench": bench,
}
for name, command in COMMANDS.items():
    app.command(name, short_help=_purpose(command))(command)


def main() -> None:
    """Run the command line of this process and exit with its code."""
    wait_briefly()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a letter that the terminal lacks is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.formatwarning = _format_warning
    arguments = sys.argv[1:]
    debug, quiet = (option in arguments for option in (DEBUG_OPTION, QUIET_OPTION))
    arguments = [argument for argument in arguments if argument not in (DEBUG_OPTION, QUIET_OPTION)] or ["--help"]
    if quiet and not debug:
        sys.stderr = _Quiet(sys.stderr)
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # the reader of our results has gone, as in `… | head -1`: Typer exits then
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        code = 1
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        code = 130
    except Exception as error:  # the last resort: nobody is shown a traceback who did not ask for one
        if debug:
            traceback.print_exc()
        typer.echo(f"{'' if isinstance(error, Interrupted) else 'error: '}{_one_line(error)}", err=True)
        code = 2 if getattr(error, "errno", 0) == errno.ENAMETOOLONG else getattr(error, "exit_code", 1)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # what tidies up at the very end is not interrupted
    sys.exit(code)


def wait_briefly() -> None:
    """Let waiting threads sleep soon instead of spinning; call it before torch is imported.

    GNU's OpenMP, torch's on Linux, spins for milliseconds. Where another program keeps a core busy, that takes the time
    of the very thread which is waited for: generating then took 9 to 30 times as long, and now twice as long.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def _run(arguments: list[str]) -> int:
    if "LOCAL_RANK" in os.environ:  # one of a launch
        end_with_parent()
    result = 130
    with handle_signals(interrupt):
        try:
            result = app(arguments, prog_name="audiogen", standalone_mode=False)
        finally:
            if "audiogen_cli.lock" in sys.modules:
                sys.modules["audiogen_cli.lock"].release_folders(sweep=result == 130)
    if result == 130:  # how Typer reports Ctrl-C
        raise KeyboardInterrupt
    _leave_others()
    return result if isinstance(result, int) else 0


def _leave_others() -> None:
    """Leave the process group of a launch, whose threads may otherwise abort the interpreter's end."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


class _Quiet(io.TextIOBase):
    """stderr without talk: what follows an error is kept, too."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.line, self.open = stream, "", False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return the stream's own."""
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """Return the stream's own."""
        return self.stream.errors

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def fileno(self) -> int:
        """Return the stream's own, for child processes."""
        return self.stream.fileno()

    def write(self, text: str) -> int:
        """Pass on whole lines that are no talk."""
        *lines, self.line = (self.line + text).split("\n")
        for line in lines:
            self.open |= line.startswith("error:")
            if self.open or line.startswith(KEPT):
                self.stream.write(f"{line}\n")
                self.stream.flush()
        return len(text)


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Word our own warnings in one line, those of other packages as Python does."""
    if issubclass(category, AudiogenWarning):
        return f"warning: {printable(str(message))}\n"
    return PYTHONS_WARNING(message, category, filename, lineno, line)


def _meant(error: Exception) -> str:
    """Name the options that a misspelt one resembles, or the option of another tool that does the same."""
    typed = getattr(error, "option_name", "").lstrip("-")
    if not typed or (context := getattr(error, "ctx", None)) is None:
        return ""
    known = [name for each in context.command.params for name in each.opts if name.startswith("--")]
    close = difflib.get_close_matches(f"--{typed}", known, n=2, cutoff=0.75)
    close = [name for word in OTHER_NAMES.get(typed, ()) if (name := f"--{word}") in known] or close
    return f"did you mean {' or '.join(close)}? " if close else ""


def _one_line(error: Exception) -> str:
    """Word an error in one line: our own message, Typer's, or the kind and text of an unexpected one."""
    if isinstance(error, AudiogenError):
        text = str(error)
    elif hasattr(error, "format_message"):  # Typer's usage errors, which have no public class in all its versions
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "audiogen"
        said = (
            getattr(error, "message", "") if hasattr(error, "option_name") else error.format_message()
        )  # without its own guess
        text = f"{said.rstrip('.').replace('Value error, ', '')}; {_meant(error)}see {command} --help"
    elif isinstance(error, OSError) and (error.filename is not None or error.errno in FULL):
        where = "the disk" if error.filename is None else os.fsdecode(error.filename)
        text = f"{where}: {error.strerror}{'; make room, or choose another folder' if error.errno in FULL else ''}"
    elif is_out_of_memory(error):
        text = f"not enough memory ({error or 'for what was asked'}): ask for less at once, or use a larger machine"
    elif "torchaudio.so" in str(error):
        text = f"{error}: torchaudio does not fit torch; install both from one index, torchaudio 2.11.0 with torch 2.11"
    else:
        text = f"{type(error).__name__}: {error} (unexpected; {DEBUG_OPTION} shows where)"
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 250]} … {line[-240:]}"
