"""Text encoders: word vectors and a tiny T5, both made here."""

from __future__ import annotations

import threading
from email.message import Message
from pathlib import Path
from shutil import copytree
from urllib.error import HTTPError
from urllib.request import Request

import numpy as np
import pytest
import torch
from helpers.zoo import WORDS, make_clip, make_t5, make_word_vectors
from model2vec import StaticModel
from safetensors.numpy import save_file

from audiogen_cli import hub
from audiogen_cli.errors import AudiogenWarning, InputError
from audiogen_cli.lm.config import TextConfig
from audiogen_cli.lm.text import encoders
from audiogen_cli.lm.text.encoders import CLIP, T5, StaticVectors, WordNumbers, load_text_encoder, pad
from audiogen_cli.lm.text.hub import find_on_hub


@pytest.fixture(scope="module")
def vectors_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_word_vectors(tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5(tmp_path_factory.mktemp("t5"))


def test_static_gives_one_vector_a_token_and_drops_unknown_ones(vectors_folder: Path) -> None:
    encoder = StaticVectors(vectors_folder)
    one, two, unknown, blank = encoder.encode(["dog barks", "dog xyz bark", "xyz", "  "])
    assert one.shape == (3, 6)  # dog, bark, ##s
    assert torch.equal(two, one[:2])
    assert unknown.shape == blank.shape == (0, 6)
    assert encoder.width == 6 and len(encoder.fingerprint or "") == 64


@pytest.mark.parametrize("shared", [False, True])
def test_static_gives_what_model2vec_does(vectors_folder: Path, tmp_path: Path, shared: bool) -> None:
    model = StaticModel.from_pretrained(vectors_folder)
    if shared:  # fewer vectors than tokens, which weights tell apart
        numbers = np.arange(len(WORDS))
        model = StaticModel(
            model.embedding[:3], model.tokenizer, token_mapping=numbers % 3, weights=numbers.astype(np.float32) - 2.5
        )
    model.save_pretrained(tmp_path)
    encoder, texts = StaticVectors(tmp_path), ["dog barks rain", "dog xyz", "xyz"]
    for found, expected in zip(encoder.compute(texts), model.encode_as_sequence(texts), strict=True):
        rows = torch.tensor(expected, dtype=torch.float32)
        assert torch.equal(found, torch.nn.functional.normalize(rows, dim=1) * encoder.width**0.5)


def test_word_vectors_that_do_not_fit_their_words_are_refused(vectors_folder: Path, tmp_path: Path) -> None:
    copytree(vectors_folder, tmp_path / "short")
    save_file({"embeddings": np.zeros((2, 6), np.float32)}, tmp_path / "short" / "model.safetensors")
    with pytest.raises(InputError, match=r"cannot be read: \d+ tokens, but vectors of shape \[2, 6\]"):
        StaticVectors(tmp_path / "short")


@pytest.mark.parametrize("encoder", [StaticVectors, WordNumbers])
def test_words_are_known_as_a_whole_or_not_at_all(vectors_folder: Path, encoder: type[StaticVectors]) -> None:
    words = encoder(vectors_folder).find_words("a dog, xyz barks!")
    assert words == {"a": True, "dog": True, "xyz": False, "barks": False}


def test_a_word_is_unknown_whatever_the_vocabulary_calls_that(vectors_folder: Path, tmp_path: Path) -> None:
    folder = copytree(vectors_folder, tmp_path / "words")
    renamed = (folder / "tokenizer.json").read_text().replace("[UNK]", "<unk>")
    (folder / "tokenizer.json").write_text(renamed)
    assert StaticVectors(folder).find_words("dog xyz") == {"dog": True, "xyz": False}


def test_batch_pads_on_the_right_and_marks_no_text(vectors_folder: Path) -> None:
    text, mask = StaticVectors(vectors_folder).batch(["dog", None, "rain bark dog"])
    assert text.shape == (3, 3, 6)
    assert mask.tolist() == [[True, False, False], [False] * 3, [True] * 3]
    assert not text[~mask].any()


def test_repeated_texts_are_computed_once(vectors_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = StaticVectors(vectors_folder)
    computed: list[str] = []
    compute = encoder.compute
    monkeypatch.setattr(encoder, "compute", lambda texts: [computed.extend(texts), compute(texts)][1])
    encoder.encode(["dog", "rain", "dog"])
    first = encoder.encode(["rain"])[0]
    assert computed == ["dog", "rain"]
    monkeypatch.setattr("audiogen_cli.lm.text.encoders.CACHE_BYTES", 0)
    encoder.encode(["bark"])
    assert torch.equal(encoder.encode(["rain"])[0], first)  # forgotten, computed anew


def test_the_cache_of_texts_is_bounded_in_their_number_too(
    vectors_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = WordNumbers(vectors_folder)  # a few bytes a text
    monkeypatch.setattr("audiogen_cli.lm.text.encoders.CACHE_BYTES", 100_000)
    for number in range(200):
        encoder.encode([f"dog {number}"])
    assert 30 < len(encoder._cache) < 100


def test_t5_does_not_let_texts_influence_each_other(t5_folder: Path) -> None:
    texts = ["dog", "dog bark rain dog bark", "rain", "dog bark"]
    together = T5(str(t5_folder)).encode(texts)
    for text, vectors in zip(texts, together, strict=True):
        assert vectors.shape == (len(text.split()) + 1, 8)  # one more for </s>
        assert torch.equal(T5(str(t5_folder)).encode([text])[0], vectors)


def test_t5_from_a_folder_is_read_in_silence(t5_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    T5(str(t5_folder))
    assert capfd.readouterr().err == ""


def test_t5_padded_to_one_batch_as_on_a_gpu_is_t5_alone(t5_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["dog bark", "rain dog bark dog", "bark", "rain rain"]
    alone, shapes = T5(str(t5_folder)).encode(texts), []
    monkeypatch.setitem(encoders.AT_ONCE, "cpu", 3)
    encoder = T5(str(t5_folder))
    honest = encoder._model.forward
    monkeypatch.setattr(
        encoder._model, "forward", lambda *x, **named: [shapes.append(named["input_ids"].shape), honest(*x, **named)][1]
    )
    for vectors, expected in zip(encoder.encode(texts), alone, strict=True):
        torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-5)
    assert shapes == [(3, 5), (1, 3)]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TextConfig("static", "/nowhere"), "no word vectors in '/nowhere'"),
        (TextConfig("t5", "/nowhere/t5"), "the text encoder '/nowhere/t5' is not on this machine: no such folder"),
    ],
)
def test_missing_encoders_are_input_errors(config: TextConfig, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_text_encoder(config)
    assert "\n" not in str(caught.value)


def test_a_download_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"config.json": "{}"}
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda name, file: str(tmp_path / file) if file in files else None
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr("audiogen_cli.lm.text.hub.ask", lambda address: 200)
    assert not find_on_hub("t5-base")
    files["model.safetensors"] = ""
    assert find_on_hub("t5-base")


def test_a_hub_that_does_not_answer_costs_seconds_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, given_up = [], threading.Event()

    def hang(request: Request, timeout: float) -> None:
        asked.append(request.full_url)
        given_up.wait()
        raise TimeoutError

    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    monkeypatch.setattr(hub, "urlopen", hang)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    with pytest.raises(InputError, match=r"cannot be reached; .* --set text\.name=FOLDER") as caught:
        load_text_encoder(TextConfig("t5", "nobody/t5-that-is-nowhere"))
    given_up.set()
    assert "\n" not in str(caught.value)
    assert asked == ["https://huggingface.co/nobody/t5-that-is-nowhere/resolve/main/config.json"]

    def refuse(request: Request, timeout: float) -> None:
        raise HTTPError(request.full_url, 404, "Not Found", Message(), None)

    monkeypatch.setattr(hub, "urlopen", refuse)
    with pytest.raises(InputError, match="has no model of that name"):
        load_text_encoder(TextConfig("t5", "nobody/t5-that-is-nowhere"))


def test_offline_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "urlopen", lambda *_, **__: pytest.fail("the network was asked"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"HF_HUB_OFFLINE is set; .* --set text\.name=FOLDER"):
        load_text_encoder(TextConfig("t5", "nobody/t5-that-is-nowhere"))


def test_lookup_numbers_the_words_that_it_knows(vectors_folder: Path) -> None:
    encoder = load_text_encoder(TextConfig("lookup", str(vectors_folder)))
    one, two, unknown, blank = encoder.encode(["dog barks", "dog xyz bark", "xyz", " "])
    assert one.tolist() == [[WORDS.index("dog")], [WORDS.index("bark")], [WORDS.index("##s")]]
    assert two.tolist() == one.tolist()[:2] and unknown.shape == blank.shape == (0, 1)
    assert len(encoder.fingerprint or "") == 64
    packaged = load_text_encoder(TextConfig("lookup"))
    assert len(packaged.encode(["dog bark"])[0]) == 2
    with pytest.raises(InputError, match=r"no tokenizer\.json in '/nowhere'"):
        load_text_encoder(TextConfig("lookup", "/nowhere"))


def test_clip_says_once_that_it_cuts_long_texts(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    encoder = load_text_encoder(TextConfig("clip", str(make_clip(tmp_path / "clip"))))
    texts = ["dog rain", "rain " * 20, "dog " * 40, "dog " * 7, "dog " * 8]
    with pytest.warns(AudiogenWarning, match="CLIP reads 9 tokens: longer texts are cut, such as 'rain rain") as told:
        encoder.encode(texts)
        encoder.encode(["rain dog " * 30])
    assert len(told) == 1
    cut = AutoTokenizer.from_pretrained(tmp_path / "clip")(texts, padding="max_length", truncation=True, max_length=9)
    assert isinstance(encoder, CLIP) and encoder._tokenize(texts) == cut["input_ids"]


def test_pad_of_nothing_still_has_a_position() -> None:
    text, mask = pad([torch.zeros(0, 4), torch.zeros(0, 4)])
    assert text.shape == (2, 1, 4) and not mask.any()


def test_clip_gives_all_positions_whatever_the_text(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, CLIPTextModel

    encoder = load_text_encoder(TextConfig("clip", str(make_clip(tmp_path / "clip"))))
    dog, full, blank = encoder.encode(["dog rain", "dog " * 7, " "])
    assert encoder.width == 8 and dog.shape == full.shape == (9, 8) and blank.shape == (0, 8)
    tokens = AutoTokenizer.from_pretrained(tmp_path / "clip")("dog rain")["input_ids"]
    model = CLIPTextModel.from_pretrained(tmp_path / "clip").eval()
    with torch.no_grad():
        states = model(torch.tensor([tokens])).last_hidden_state[0]
    wanted = torch.nn.functional.normalize(states, dim=1) * 8**0.5
    assert torch.allclose(dog[: len(tokens)], wanted, atol=1e-5)  # what follows has no influence
    assert torch.allclose(dog.norm(dim=1), torch.full((9,), 8**0.5))
