"""The house rules that a reader relies on: imports point one way, and heavy packages stay where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "audiogen_cli"
# room → rooms it may import from
ARROWS = {
    "commands": {"commands", "bench", "interop", "evaluation", "lm", "codec", "data", "training"},
    "bench": {"bench", "lm", "codec", "data", "training"},
    "interop": {"interop", "lm", "codec", "data", "training"},
    "evaluation": {"evaluation", "lm", "codec", "data", "training"},
    "lm": {"lm", "codec", "data", "training"},
    "codec": {"codec", "data", "training"},
    "data": {"data", "training"},
    "training": {"training"},
}
MODULES = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = path.relative_to(PACKAGE).parts[0]
    used = {name.split(".")[1] for name in imported(path) if name.startswith("audiogen_cli.")}
    assert used & set(ARROWS) <= ARROWS.get(room, set())


@pytest.mark.parametrize("room", ["codec", "lm"])
def test_models_know_nothing_of_the_terminal(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert not {name.split(".")[0] for name in imported(path)} & {"typer", "rich"}, path


def test_only_the_text_encoder_clap_and_the_codecs_peer_touch_transformers():
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "transformers" in {n.split(".")[0] for n in imported(path)}
    }
    # A benchmark may: it measures beside a peer.
    assert {name for name in users if not name.startswith("bench/")} == {
        "evaluation/networks/clap.py",
        "lm/text/encoders.py",
    }


def test_importing_the_package_and_its_configs_imports_no_torch():
    modules = "audiogen_cli.app, audiogen_cli.codec.config, audiogen_cli.lm.config, audiogen_cli.training.recipe"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
