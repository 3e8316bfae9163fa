"""The house rules that a reader relies on: imports point one way, heavy packages stay in their rooms, counts hold."""

import subprocess
import sys

import house_counts
import pytest
from house_counts import MEASURES, PACKAGE, imports, modules

# room → rooms it may import from, besides itself and the package's top-level modules
ARROWS = {
    "commands": {"bench", "interop", "evaluation", "lm", "codec", "data", "training"},
    "bench": {"lm", "codec", "data", "training"},
    "interop": {"lm", "codec", "data", "training"},
    "evaluation": {"lm", "codec", "data", "training"},
    "lm": {"codec", "data", "training"},
    "codec": {"data", "training"},
    "data": {"training"},
    "training": set(),
}
# sub-room → other sub-rooms of its room that it may import from
INNER_ARROWS = {
    "lm.text": set(),
    "lm.decoding": set(),
    "lm.diffusion": {"lm.text", "lm.decoding"},
    "lm.generation": {"lm.text", "lm.decoding"},
    "lm.training": {"lm.text", "lm.diffusion", "lm.generation"},
    "evaluation.networks": set(),
    "evaluation.metrics": {"evaluation.networks"},
    "evaluation.tasks": {"evaluation.metrics", "evaluation.networks"},
    "evaluation.listening": {"evaluation.tasks"},
    "evaluation.report": set(),
    "data.datasets": {"data.datasets.libraries", "data.preparation"},  # preparation.filename_words only
    "data.datasets.libraries": {"data.datasets", "data.preparation"},
    "data.preparation": {"data.datasets"},
    "codec.light": set(),
    "commands.terminal": set(),
}
# Measures over their limit, with their count: it may fall, never grow. Remove an entry once its limit is met.
OPEN = {
    # lm.adapters, generation.delivery, decoding.rounding, onnx_graph, lm.decoder, light.phases
    "modules imported by generate": 44,
    # freeze, lora.rank, lora.alpha: fine-tuning; decoder, diffusion.schedule, diffusion.steps, passes,
    # mask_tags: diffusion;
    # timing, loop: whole sounds
    "settings of the language model": 62,
    # with adapters, packed weights, delivery, the baseline and its MBTG, GPUs, estimates, agreed trials, sums on GPUs
    # whose order no other row changes, checks of what only a caller from Python can give, the gather on CPUs, splits by
    # every usual name of a folder, recordings that several datasets hold, a row of guidance for a negative text, tones'
    # phases, readers that end with their training, what was damaged, copied or renamed between two runs, locks
    # of containers, lists without recordings, processes that end at once, sounds delivered twice, files cut short,
    # names with suffixes, loudness in blocks, large models in parts, downloads and results that others left,
    # an LSTM on ONNX Runtime, memory of containers, candidates of earlier runs, formats too small for a rate
    "package lines": 31_572,
}


def packages(path):
    """Return the top-level packages that a file imports."""
    return {name.split(".")[0] for name in imports(path)}


def sub_room(name):
    """Return the dotted folder of a module within the package: "lm.text" for audiogen_cli.lm.text.cache."""
    parts = name.split(".")[1:]
    return ".".join(parts if modules()[name].name == "__init__.py" else parts[:-1])


def test_imports_point_one_way():
    wrong = []
    for name, path in modules().items():
        room, inner = sub_room(name).split(".")[0], sub_room(name)
        for used in imports(path) & modules().keys():
            other_room, other_inner = sub_room(used).split(".")[0], sub_room(used)
            if room and other_room not in {"", room, *ARROWS.get(room, set())}:
                wrong.append((name, used))
            if inner in INNER_ARROWS and other_inner in INNER_ARROWS.keys() - INNER_ARROWS[inner] - {inner}:
                wrong += [(name, used)] if room == other_room else []
    assert not wrong


@pytest.mark.parametrize("room", ["codec", "lm"])
def test_models_know_nothing_of_the_terminal(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert not packages(path) & {"typer", "rich"}, path


def test_only_the_text_encoder_clap_and_the_codecs_peer_touch_transformers():
    users = {path.relative_to(PACKAGE).as_posix() for path in modules().values() if "transformers" in packages(path)}
    # A benchmark may: it measures beside a peer.
    assert {name for name in users if not name.startswith("bench/")} == {
        "evaluation/networks/clap.py",
        "lm/text/encoders.py",
    }


def test_importing_the_package_and_its_configs_imports_no_torch():
    modules = "audiogen_cli.app, audiogen_cli.codec.config, audiogen_cli.lm.config, audiogen_cli.training.recipe"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_dependency_is_capped():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [line for lines in (project["dependencies"], *extras) for line in lines]
    assert any(line.startswith("torch>=") for line in lines)
    assert [line for line in lines if any(sign in line for sign in ("<", "==", "~=", "!="))] == []


@pytest.mark.parametrize("measure", [each for each in MEASURES if not each.slow], ids=lambda measure: measure.name)
def test_counts_of_the_house(measure):
    count, listed = measure.count()
    most = OPEN.get(measure.name, measure.limit)
    assert count <= most, "\n".join([f"{count:,} are more than {most:,}:", *map(str, listed)])
    assert measure.name not in OPEN or count > measure.limit, "the limit is met: remove the entry from OPEN"


def test_every_open_count_belongs_to_a_measure():
    assert OPEN.keys() <= {measure.name for measure in MEASURES}


def test_a_circle_and_a_private_word_are_found(tmp_path, monkeypatch):
    package = tmp_path / "audiogen_cli"
    package.mkdir()
    (package / "__init__.py").write_text('"""A map."""')
    (package / "a.py").write_text('"""Import b."""\nfrom audiogen_cli.b import heard_by\n')
    (package / "b.py").write_text('"""Import a."""\nfrom audiogen_cli import a\n\n\ndef heard_by(): ...\n')
    found = house_counts.modules(package)
    monkeypatch.setattr(house_counts, "modules", lambda: found)
    monkeypatch.setattr(house_counts, "PACKAGE", package)
    assert house_counts.import_circles() == [("audiogen_cli.a", "audiogen_cli.b")]
    assert house_counts.private_words() == ["b.py: heard: heard_by"]
