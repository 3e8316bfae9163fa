"""Fixtures for all tests: the command line, in this process or in one of its own, and a zoo of tiny models and data.

The zoo is made once per session. Its files are shared: copy what a test changes.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from audiogen_cli.app import main, wait_briefly

if TYPE_CHECKING:
    from audiogen_cli.lm.generation.generator import Generator

REPOSITORY = Path(__file__).parent.parent
Run = Callable[..., subprocess.CompletedProcess[str]]

# Before anything imports these libraries. Tiny models gain nothing from a second thread, and wait for it.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"))
wait_briefly()  # as the command does: threads that spin slow down whatever else the machine runs

# The same examples in every run, however long each takes: a failure tells of a change, not of luck or a busy machine.
settings.register_profile("same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let the fixtures that a test is the first to ask for draw the same numbers in any order and process."""
    _seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Let a test draw the same numbers whether or not its fixtures were there, and none that they have drawn."""
    _seed(1)


def _seed(seed: int) -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@pytest.fixture(scope="session")
def esc50() -> Path:
    """Return ESC-50's folder (audio/, meta/esc50.csv): AUDIOGEN_ESC50, or ../shared/data/esc50. Skip if absent."""
    folder = Path(os.environ.get("AUDIOGEN_ESC50", REPOSITORY.parent / "shared" / "data" / "esc50"))
    if not (folder / "meta" / "esc50.csv").is_file():
        pytest.skip("ESC-50's recordings are not here; set AUDIOGEN_ESC50 to their folder")
    return folder


# --- the command line ---


@pytest.fixture
def command_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the empty `tmp_path`, offline, on one thread, with no model but those named."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"AUDIOGEN_MODEL": "", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def audiogen(command_environment: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `audiogen ARGUMENTS` in this process, in `tmp_path`; return exit code, stdout and stderr.

    `helpers.processes` runs it in processes of their own.
    """

    def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
        monkeypatch.setattr(sys, "argv", ["audiogen", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8"))
        redirected = contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1])
        with redirected[0], redirected[1], pytest.raises(SystemExit) as ended:
            main()
        forget_accelerator()
        code = ended.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(sys.argv, code, *(s.buffer.getvalue().decode() for s in streams))  # type: ignore[attr-defined]

    return run


def forget_accelerator() -> None:
    """Let the next run choose its own precision and device: accelerate keeps the first for the life of a process."""
    if "accelerate.state" in sys.modules:
        from accelerate.state import AcceleratorState, PartialState

        AcceleratorState._reset_state()
        PartialState._reset_state()


@pytest.fixture(autouse=True)
def released_folders() -> Iterator[None]:
    """Release the output folders that a test's library calls have locked."""
    yield
    if "audiogen_cli.lock" in sys.modules:
        sys.modules["audiogen_cli.lock"].release_folders()


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Let each test make an accelerator of its own."""
    yield
    forget_accelerator()


# --- the zoo: helpers/zoo.py makes it ---


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the session's tiny models lie."""
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="session")
def tiny_codec(zoo: Path) -> Path:
    """Return an untrained SEANet codec: 16 kHz, 25 frames per second, 2 codebooks of 16 entries."""
    from helpers.zoo import make_codec

    return make_codec(zoo / "codec")


@pytest.fixture(scope="session")
def light_codec(zoo: Path) -> Path:
    """Return an untrained light codec of the same rates and codebooks as `tiny_codec`."""
    from helpers.zoo import make_light_codec

    return make_light_codec(zoo / "light-codec")


@pytest.fixture(scope="session")
def word_vectors(zoo: Path) -> Path:
    """Return a model2vec folder, width 6, that knows dog, bark, rain, a and the suffix s."""
    from helpers.zoo import make_word_vectors

    return make_word_vectors(zoo / "vectors")


@pytest.fixture(scope="session")
def tiny_t5(zoo: Path) -> Path:
    """Return an untrained T5 encoder, width 8, whose tokenizer knows dog, bark and rain."""
    from helpers.zoo import make_t5

    return make_t5(zoo / "t5")


@pytest.fixture(scope="session")
def tiny_diffusion(zoo: Path, light_codec: Path) -> Path:
    """Return an untrained diffusion model, otherwise as `tiny_lm`: 10 steps."""
    from helpers.zoo import make_lm

    from audiogen_cli.lm.config import DiffusionConfig, Sampling, TextConfig

    shape = {"decoder": "diffusion", "text_prefix": False, "diffusion": DiffusionConfig(steps=10)}
    sampling = Sampling(guidance=2.0, top_p=0.9)
    return make_lm(zoo / "diffusion", light_codec, TextConfig("static"), "CC0\n", sampling=sampling, **shape)


@pytest.fixture(scope="session")
def tiny_lm(zoo: Path, light_codec: Path) -> Path:
    """Return an untrained language model: parallel streams, `light_codec`, the package's word vectors, 5 s window."""
    from helpers.zoo import make_lm

    from audiogen_cli.lm.config import Sampling, TextConfig

    license = "CC0: for tests only\nmore words\n"
    return make_lm(zoo / "tiny", light_codec, TextConfig("static"), license, sampling=Sampling(guidance=2.0, top_p=0.9))


@pytest.fixture(scope="session")
def delayed_lm(zoo: Path, tiny_codec: Path, word_vectors: Path) -> Path:
    """Return an untrained language model: delays, `tiny_codec`, `word_vectors`, 10-frame (0.4 s) window."""
    from helpers.zoo import make_lm

    from audiogen_cli.lm.config import Sampling, TextConfig

    shape = {"n_layers": 1, "max_frames": 10, "pattern": "delay", "sampling": Sampling(guidance=2.0)}
    return make_lm(zoo / "delayed", tiny_codec, TextConfig("static", str(word_vectors)), "only for tests", **shape)


@pytest.fixture(scope="session")
def delayed_generator(delayed_lm: Path) -> Generator:
    """Return the generator of `delayed_lm` on the CPU."""
    from audiogen_cli.lm.generation.generator import Generator

    return Generator.load(delayed_lm, device="cpu")


@pytest.fixture(scope="session")
def token_shards(zoo: Path, tiny_codec: Path) -> Path:
    """Return token shards of `tiny_codec`: 9 rows for training, 3 for validation, all learnable."""
    from helpers.zoo import make_rows, make_shards

    rows = make_rows([12, 9, 20, 12, 15, 11, 12, 7, 30]) + make_rows([12, 10, 8], "val")
    return make_shards(zoo / "tokens", tiny_codec, rows)


@pytest.fixture(scope="session")
def clip_manifests(zoo: Path) -> Path:
    """Return a folder with `esc50.parquet`: 24 synthetic clips of 0.5 s (8 train, 4 val, 12 test) in `../raw`."""
    from helpers.zoo import make_manifests

    return make_manifests(zoo / "clips")
