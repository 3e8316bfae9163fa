"""Prompt files: the three formats, and what is refused, with the line that is at fault."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from audiogen_cli.errors import InputError
from audiogen_cli.lm.generation.prompts import read_prompts
from audiogen_cli.lm.generation.requests import Prompt


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_a_text_file_holds_a_prompt_a_line(tmp_path: Path) -> None:
    prompts = read_prompts(_write(tmp_path, "p.txt", "a dog, barking\r\n\n  rain \n"))
    assert [prompt.text for prompt in prompts] == ["a dog, barking", "rain"]
    assert prompts[1].where.endswith("p.txt line 3")


def test_csv_columns_override_and_others_travel_along(tmp_path: Path) -> None:
    text = (
        '\ufeffprompt,seed,duration,top_k,negative,name,tag\n"a dog, far away",7,2.5,40,speech,dog,animal\nrain,,,,,,\n'
    )
    first, second = read_prompts(_write(tmp_path, "p.csv", text))
    assert first == Prompt(
        "a dog, far away",
        seed=7,
        duration=2.5,
        name="dog",
        overrides={"top_k": 40, "negative": "speech"},
        extra={"tag": "animal"},
        where=f"{tmp_path / 'p.csv'} line 2",
    )
    assert (second.text, second.seed, second.duration, second.name, second.extra) == ("rain", None, None, None, {})


def test_json_lines_hold_objects_or_strings_and_null_means_no_text(tmp_path: Path) -> None:
    text = '{"prompt": "a dog", "guidance": 2, "temperature": null}\n"rain\u2028fall"\n{"prompt": null, "seed": 3}\n'
    first, second, third = read_prompts(_write(tmp_path, "p.jsonl", text))
    assert first.overrides == {"guidance": 2.0}
    assert second.text == "rain\u2028fall"
    assert (third.text, third.seed) == (None, 3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "Prompt,SEED,top-p,Top_K,tag-a\na dog,7,0.5,3,x\n"),
        ("p.jsonl", '{"Prompt": "a dog", "Seed": 7, "top-p": 0.5, "TOP_K": 3, "tag-a": "x"}\n'),
    ],
)
def test_columns_are_known_however_they_are_written(tmp_path: Path, name: str, text: str) -> None:
    (prompt,) = read_prompts(_write(tmp_path, name, text))
    assert (prompt.text, prompt.seed, prompt.overrides) == ("a dog", 7, {"top_p": 0.5, "top_k": 3})
    assert prompt.extra == {"tag-a": "x"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"prompt": "a dog", "seed": 1}\n', Prompt("a dog", 1, where="stdin line 1")),
        ("seed,prompt\n1,a dog\n", Prompt("a dog", 1, where="stdin line 2")),
        ("a dog, a cat\n", Prompt("a dog, a cat", where="stdin line 1")),
    ],
    ids=["jsonl", "csv", "txt"],
)
def test_the_first_line_of_stdin_tells_its_format(monkeypatch: pytest.MonkeyPatch, text: str, expected: Prompt) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    assert read_prompts(Path("-")) == [expected]


@pytest.mark.parametrize("name", ["p.txt", "p.csv", "p", "-"])
@pytest.mark.parametrize(
    "content",
    [
        b"prompt\tseed\na dog\t7\n",
        b"prompt;seed\na dog;7\n",
        b"sep=;\nPrompt;SEED\n;\na dog;7.0\n;;\n",
        "prompt,seed\na dog,7\n".encode("utf-16"),
    ],
    ids=["tabs", "semicolons", "spreadsheet", "utf-16"],
)
def test_a_table_is_never_read_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    (tmp_path / name).write_bytes(content)
    (prompt,) = read_prompts(Path("-") if name == "-" else tmp_path / name)
    assert (prompt.text, prompt.seed) == ("a dog", 7)


@pytest.mark.parametrize("name", ["p.txt", "p.json", "p.jsonl"])
def test_an_array_of_json_is_a_list_of_prompts(tmp_path: Path, name: str) -> None:
    first, second = read_prompts(_write(tmp_path, name, '["a dog", {"prompt": "rain", "seed": 7.0}]'))
    assert (first.text, second.text, second.seed) == ("a dog", "rain", 7) and second.where.endswith("item 2")
    (text,) = read_prompts(_write(tmp_path, "p.txt", "[wind] howls\n"))
    assert text.text == "[wind] howls"


def test_columns_that_no_json_can_hold_become_null(tmp_path: Path) -> None:
    (prompt,) = read_prompts(_write(tmp_path, "p.jsonl", '{"prompt": "dog", "x": NaN, "y": [1, -Infinity]}\n'))
    assert prompt.extra == {"x": None, "y": [1, None]}


@pytest.mark.parametrize(
    "entry", ['"note": "\\ud800"', '"note": {"a": ["\\ud800"]}', '"a\\ud800": 1', '"loop\\ud800": true']
)
def test_half_a_character_in_any_column_is_refused(tmp_path: Path, entry: str) -> None:
    (tmp_path / "p.jsonl").write_text(f'{{"prompt": "rain", {entry}}}')
    with pytest.raises(InputError, match="is no text"):
        read_prompts(tmp_path / "p.jsonl")


def test_a_column_of_prompts_takes_its_commas(tmp_path: Path) -> None:
    assert [prompt.text for prompt in read_prompts(_write(tmp_path, "p.csv", "prompt\na dog, far\n"))] == ["a dog, far"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "\n \n", "holds no prompts"),
        ("p.csv", "text\na dog\n", "lacks the column 'prompt'"),
        ("p.csv", "prompt,seed\na dog,barks,1\n", "line 2: more cells"),
        ("p.csv", 'prompt\n"a dog\n', "line 2: a quotation mark is never closed"),
        ("p.csv", "prompt,seed\n", "holds no prompts"),
        ("p.json", "[" * 100_000, "line 1: not valid JSON"),
        ("p.csv", "prompt,seed\na dog,1.5\n", "line 2: seed must be a whole number"),
        ("p.csv", "prompt,duration\na dog,nan\n", "line 2: duration must be a number"),
        ("p.csv", "prompt,duration\n,3\n", "line 2: the prompt is empty"),
        ("p.csv", "prompt,name\na dog,../dog\n", "line 2: name must be a plain file name"),
        ("p.csv", "prompt,name\na dog,\x1b[31mdog\n", "line 2: name must be a plain file name"),
        ("p.jsonl", '{"prompt": "a dog"}\n{"prompt": \n', "line 2: not valid JSON"),
        ("p.jsonl", "[1]\n", "item 1: expected a string or an object"),
        ("p.jsonl", '{"prompt": "a dog", "seed": true}\n', "line 1: seed must be a whole number"),
        ("p.jsonl", '{"prompt": "a dog", "negative": 3}\n', "line 1: negative must be a text"),
        ("p.jsonl", '{"prompt": "a dog", "top_p": 1, "top-p": 0.5}\n', "line 1: the column 'top_p' is there twice"),
        ("p.csv", "prompt,top-p,TOP_P\na dog,1,0.5\n", "line 2: the column 'top_p' is there twice"),
        ("p.jsonl", '{"prompt": 5}\n', "line 1: the prompt is empty or no text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_prompts(_write(tmp_path, name, text))


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_prompts(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_prompts(tmp_path / "latin.txt")
