"""Count what keeps the house readable; `python tests/house_counts.py` prints each count beside its limit.

Everything but the run of `generate` is read from the source with `ast`: nothing here imports torch.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
import tempfile
import typing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "audiogen_cli"
QUESTIONS = ("What", "How", "Which", "Whether", "Where")


@dataclasses.dataclass(frozen=True)
class Measure:
    """A count of the house, its limit, and a function that returns what is counted, so that a failure names it.

    slow: for the table only.
    """

    name: str
    limit: int
    find: Callable[[], Iterable[object]] | Callable[[], int]
    slow: bool = False

    def count(self) -> tuple[int, list[object]]:
        """Return the count and what was counted, if it can be listed."""
        found = self.find()
        if isinstance(found, int):
            return found, []
        listed = list(found)
        return len(listed), listed


# --- the source ---


@cache
def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Return every module of the package: dotted name → file; a package's name stands for its `__init__`."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text("utf-8"))


def imports(path: Path, lazy: bool = True) -> set[str]:
    """Return the dotted names that a file imports. lazy: also inside functions and for type checking only."""
    names: set[str] = set()
    waiting: list[ast.AST] = [tree(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        waiting += [child for child in ast.iter_child_nodes(node) if lazy or not _runs_later(child)]
    return names


def _runs_later(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.dump(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def import_circles() -> list[tuple[str, ...]]:
    """Find modules that import each other at module level, in one step or several."""
    known = modules()
    graph = {name: imports(path, lazy=False) & known.keys() - {name} for name, path in known.items()}
    reached: dict[str, set[str]] = {}
    for start in graph:
        waiting, seen = list(graph[start]), set[str]()
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += graph[name]
        reached[start] = seen
    circles = {tuple(sorted(other for other in reached[a] if a in reached[other])) for a in graph if a in reached[a]}
    return sorted(circles)


def docstrings() -> Iterator[tuple[str, str]]:
    """Yield (file:line, docstring) of every module, class and function of the package."""
    for path in modules().values():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 1)}", text


def identifiers() -> Iterator[tuple[str, str]]:
    """Yield (file, name) of every name the package defines: modules, classes, functions, parameters, variables."""
    for path in modules().values():
        names = {path.stem}
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
        yield from ((path.relative_to(PACKAGE).as_posix(), name) for name in sorted(names))


# --- what is counted ---


def questions() -> list[str]:
    """List docstrings that begin with a question word instead of a verb."""
    return [f"{place}: {text.splitlines()[0]}" for place, text in docstrings() if text.split()[0] in QUESTIONS]


# Words with a meaning of their own in this house alone, and British spellings: in no name and in no docstring,
PRIVATE = {"heard", "hear", "hears", "told", "shelf", "lane", "road", "lie", "lies", "deal", "peculiar", "sift", "heap"}
BRITISH = {"licence", "licences", "normalise", "normalised", "normalises", "colour", "behaviour"}
# and some that are fine in a sentence, in no name.
PRIVATE_NAMES = {"take", "takes", "tell", "far", "listen"}
# file: words that mean there what a dictionary says.
ALLOWED_WORDS = {
    "data/loudness.py": {"shelf"},  # a shelving filter
    "evaluation/listening": {"heard", "hear"},  # people hear
    "data/headers": {"tell"},  # a method of Python's files
}


def private_words() -> list[str]:
    """List names and docstrings with a word of a private language, or in British spelling."""
    found = []
    for place, name, words in [
        *((file, name, _words(name) & (PRIVATE | BRITISH | PRIVATE_NAMES)) for file, name in identifiers()),
        *((place, text.splitlines()[0], _words(text) & (PRIVATE | BRITISH)) for place, text in docstrings()),
    ]:
        words -= {word for file, allowed in ALLOWED_WORDS.items() if place.startswith(file) for word in allowed}
        found += [f"{place}: {', '.join(sorted(words))}: {name}"] if words else []
    return found


def _words(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)}


def repeated_class_names() -> list[str]:
    """List public class names that two modules define."""
    places = defaultdict(list)
    for name, path in modules().items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    return [f"{name}: {', '.join(found)}" for name, found in sorted(places.items()) if len(found) > 1]


def package_lines() -> int:
    """Count the lines of the package's Python files."""
    return sum(len(path.read_text("utf-8").splitlines()) for path in modules().values())


def long_files() -> list[str]:
    """List files of more than 400 lines."""
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in modules().values()}
    return [f"{path.relative_to(PACKAGE)}: {length} lines" for path, length in lengths.items() if length > 400]


def fullest_folder() -> int:
    """Count the Python files of the folder that has most."""
    return max(Counter(path.parent for path in modules().values()).values())


def flat_packages() -> list[str]:
    """List packages without a map, or with code in their `__init__`."""
    inits = [path for path in modules().values() if path.name == "__init__.py"]
    return [
        str(path.relative_to(PACKAGE))
        for path in inits
        if not ast.get_docstring(tree(path)) or len(tree(path).body) > 1
    ]


def unmapped_modules() -> list[str]:
    """List modules and sub-packages that their package's map does not name."""
    found = []
    for name, path in modules().items():
        package, _, own = name.rpartition(".")
        wanted = f"{own}/" if path.name == "__init__.py" else own
        if package and own != "__main__":
            text = ast.get_docstring(tree(modules()[package])) or ""
            found += [] if re.search(rf"\b{wanted}", text) else [name]
    return found


def light_codec_branches() -> list[str]:
    """List places outside codec/light that ask which networks a codec has: by type, or by `kind`."""
    light = {"SpectralConfig", "FlowConfig", "SEANetConfig"}
    for name, path in modules().items():
        if name.startswith("audiogen_cli.codec.light."):
            light |= {node.name for node in tree(path).body if isinstance(node, ast.ClassDef)}
    found = []
    for name, path in modules().items():
        if name.startswith("audiogen_cli.codec.light"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                asked = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node.args[1])} & light
            elif isinstance(node, ast.Compare):
                asked = {ast.unparse(node)} if "network.kind" in ast.unparse(node) else set()
            else:
                continue
            found += [f"{path.relative_to(PACKAGE)}:{node.lineno}: {', '.join(asked)}"] if asked else []
    return found


def settings(module: str, config: str) -> int:
    """Count the settings of a recipe: fields of its dataclass and of the dataclasses in it."""
    kind = getattr(__import__(module, fromlist=[config]), config)

    def parts(hint: object) -> list[type]:
        own = [hint] if isinstance(hint, type) and dataclasses.is_dataclass(hint) else []
        return own + [part for argument in typing.get_args(hint) for part in parts(argument)]

    def count(kind: type) -> int:
        hints = typing.get_type_hints(kind)
        nested = [parts(hints[field.name]) for field in dataclasses.fields(kind)]
        return sum(sum(map(count, inner)) if inner else 1 for inner in nested)

    return count(kind)


def sampling_setting_files() -> list[str]:
    """List files that name the sampling setting `temperature`: those that one more setting would touch."""
    docs = {text for _, text in docstrings()}
    found = set()
    for path in modules().values():
        for node in ast.walk(tree(path)):
            name = getattr(node, "id", getattr(node, "attr", getattr(node, "arg", getattr(node, "value", ""))))
            if isinstance(name, str) and "temperature" in name.lower() and inspect.cleandoc(name) not in docs:
                found.add(str(path.relative_to(PACKAGE)))
    return sorted(found)


GENERATE = """
import json, sys
from audiogen_cli.app import main

PROMPT = "a dog barks"
PACKAGE, output, watched = sys.argv[1:]
carriers, reads = set(), []

def watch(frame, event, argument):
    code = frame.f_code
    if not code.co_filename.startswith(PACKAGE):
        return
    if event == "call" and "caption" in code.co_filename and frame.f_back.f_code.co_filename != code.co_filename:
        names = code.co_varnames[: code.co_argcount]
        if any(frame.f_locals.get(name) in (PROMPT, [PROMPT]) for name in names):
            reads.append(code.co_name)
    if event == "return" and "self" in frame.f_locals:
        kept = list(getattr(frame.f_locals["self"], "__dict__", {}).values())
        if any(value in (PROMPT, [PROMPT], (PROMPT,)) for value in kept if isinstance(value, (str, list, tuple))):
            carriers.add(type(frame.f_locals["self"]).__name__)

sys.argv = ["audiogen", "generate", PROMPT, "--seed", "1", "--duration", "0.1", "-o", output]
sys.stdout = sys.stderr
sys.setprofile(watch if watched else None)
try:
    main()
except SystemExit as ended:
    sys.setprofile(None)
    loaded = sorted(name for name, module in sys.modules.items() if not hasattr(module, "__path__"))
    loaded = [name for name in loaded if name.startswith("audiogen_cli.")]
    print(json.dumps([ended.code, loaded, sorted(carriers), reads]), file=sys.__stdout__)
"""


@cache
def generate_run(watched: bool) -> tuple[list[str], list[str], list[str]]:
    """Run `generate` once. Return the modules it loads and, if watched, the classes that keep a prompt's text and
    the functions that read it.

    Packages and modules of the other commands, all of which the command line registers, do not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", GENERATE, str(PACKAGE), f"{folder}/x.wav", "watched" if watched else ""]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout, done.stderr
    code, loaded, carriers, reads = json.loads(done.stdout)
    assert code == 0, done.stderr
    registered = {name for name in loaded if name.startswith("audiogen_cli.commands.")}
    used, waiting = set[str](), {"audiogen_cli.commands.generate"}
    while waiting:
        used |= waiting
        waiting = set().union(*(imports(modules()[name]) for name in waiting)) & registered - used
    return [name for name in loaded if name not in registered - used and name != "audiogen_cli.app"], carriers, reads


def readme_words() -> int:
    """Count the README's words."""
    return len((ROOT / "README.md").read_text("utf-8").split())


def missing_paths() -> list[str]:
    """List paths named in the package's README that do not exist: `room/module.py`, `room/`, also without the room."""
    text = (PACKAGE / "README.md").read_text("utf-8")
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?|\w+\.py)`", text))
    there = [f"/{path.relative_to(ROOT).as_posix()}{'/' * path.is_dir()}" for path in PACKAGE.rglob("*")]
    return sorted(
        path for path in named if not (ROOT / path).exists() and not any(whole.endswith(f"/{path}") for whole in there)
    )


def missing_names() -> list[str]:
    """List names of the README's table from the paper to the code that their file does not define."""
    table = (PACKAGE / "README.md").read_text("utf-8").partition("## From the paper")[2].partition("\n## ")[0]
    missing = []
    for row in table.splitlines():
        files = [path for path in re.findall(r"`([\w/]+\.py)`", row) if "/" in path and (PACKAGE / path).exists()]
        text = "".join((PACKAGE / path).read_text("utf-8") for path in files)
        names = re.findall(r"`(\w+)`", row) if files else []
        missing += [
            f"{files}: {name}"
            for name in names
            if not re.search(rf"(def|class) {name}\b|^{name}\b.* = |self\.{name} = ", text, re.M)
        ]
    return missing


def shadowed_fixtures() -> list[str]:
    """List fixtures of test files that hide one of the same name in a conftest.py above them."""
    places = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(tree(path)):
            decorators = getattr(node, "decorator_list", [])
            if isinstance(node, ast.FunctionDef) and any("pytest.fixture" in ast.unparse(d) for d in decorators):
                places[node.name].append(path)
    return [
        f"{name}: {path.relative_to(ROOT)}"
        for name, found in sorted(places.items())
        for path in found
        if any(other.name == "conftest.py" and other != path and other.parent in path.parents for other in found)
    ]


MEASURES = [
    Measure("classes that keep a prompt's text in generate", 5, lambda: generate_run(True)[1], True),
    Measure("times generate reads a prompt's text", 1, lambda: generate_run(True)[2], True),
    Measure("files touched by one more sampling setting", 2, sampling_setting_files),
    Measure("modules imported by generate", 38, lambda: generate_run(False)[0]),
    Measure("files in the fullest folder", 13, fullest_folder),
    Measure("import circles", 0, import_circles),
    Measure("files over 400 lines", 0, long_files),
    Measure("packages without a map, or with code in it", 0, flat_packages),
    Measure("modules that no map names", 0, unmapped_modules),
    Measure("type branches for the light codec outside codec/light", 0, light_codec_branches),
    Measure("settings of the codec", 55, lambda: settings("audiogen_cli.codec.config", "CodecTrainConfig")),
    Measure("settings of the language model", 52, lambda: settings("audiogen_cli.lm.config", "TrainConfig")),
    Measure("public class names defined twice", 3, repeated_class_names),
    Measure("docstrings beginning What/How/Which/Whether/Where", 14, questions),
    Measure("names and docstrings with private words", 0, private_words),
    Measure("package lines", 18_500, package_lines),
    Measure("README words", 899, readme_words),
    Measure("paths in audiogen_cli/README.md that do not exist", 0, missing_paths),
    Measure("names in audiogen_cli/README.md that their file lacks", 0, missing_names),
    Measure("fixtures that hide a shared one", 0, shadowed_fixtures),
]


def main() -> None:
    """Print every count beside its limit; with -v also what was counted."""
    width = max(len(measure.name) for measure in MEASURES)
    for measure in MEASURES:
        count, listed = measure.count()
        print(f"{measure.name:{width}}  {count:>7,} of {measure.limit:>7,}{'' if count <= measure.limit else '  !'}")
        if "-v" in sys.argv[1:]:
            print("".join(f"    {each}\n" for each in listed), end="")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
