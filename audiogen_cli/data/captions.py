"""Turn published captions and tags into the text that the model reads (paper sec. 4.1).

Captions and prompts lose stop words and numbers; the rest is lemmatized with WordNet: `a dog is barking at the park` →
`dog bark park`. Tags are joined to a pseudo sentence: `dog`, `bark`, `park` → `dog bark park`.

WordNet's words and NLTK's stop words are read from resources/nltk_data, and detachment rules and exceptions are those
of NLTK's WordNetLemmatizer; the tests compare the results. NLTK's import and reader take 2.6 s, and this 0.2 s.
"""

from __future__ import annotations

import re
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from audiogen_cli.files import RESOURCES

if TYPE_CHECKING:
    import numpy as np

    from audiogen_cli.data.manifest import Clip

MASK_WORD, MOST_MASKS = "[MASK]", 3  # ours: how many there are at a place
CORPORA = RESOURCES / "nltk_data" / "corpora"

PartOfSpeech = Literal["noun", "verb", "adj"]

# Ending → replacement, in WordNet's order: the first result that WordNet knows is the lemma.
DETACHMENTS: dict[PartOfSpeech, tuple[tuple[str, str], ...]] = {
    "noun": (
        *(("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z")),
        *(("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
    ),
    "verb": (
        *(("s", ""), ("ies", "y"), ("es", "e"), ("es", "")),
        *(("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    ),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
}

# A word is letters and digits, with apostrophes inside.
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
# The BBC's archive notes, `- Nov '1979 (1C20, reprocessed)`: when a sound was filed on which shelf, not what it is.
_ARCHIVE_NOTE = re.compile(r"\s-\s[\w .'’]{0,20}\d{4}\s*\(\d{1,3}[A-Z]\d{0,3}\b[^()]*\)[.\s]*$|,\s*reprocessed(?=\))")
_WOULD_DOUBLE = re.compile("(^|[^aeiou])[aeiouy][^aeiouwxy]$")
# What may separate two sounds of a text; the weather is a sound by itself (`footsteps in the rain`).
_JOINT = re.compile(
    r"[,;]|\b(?:and|while|whilst|then|followed by|as)\b|\bin (?:the|a) (?=(?:rain|wind|storm|thunderstorm)\b)",
    re.IGNORECASE,
)
_DETERMINERS = frozenset(
    ("a", "an", "the", "his", "her", "its", "their", "my", "your", "our", "this", "that", "these", "those", "some")
)

# ours: words that are things in sound captions, although WordNet has them as verb forms, too.
_THINGS = frozenset(
    (
        *("bearing", "building", "clothing", "crossing", "dwelling", "evening", "landing", "meaning", "plumbing"),
        *("railing", "wedding", "moped"),
        # irregular pasts
        *("bit", "bound", "clove", "dove", "drove", "ground", "lay", "left", "rent", "saw", "shot", "stove", "wound"),
    )
)
# ours: words that only describe a sound, although WordNet has them as nouns or verbs, too.
_DESCRIPTIONS = frozenset(
    (
        *("brief", "busy", "calm", "clean", "clear", "cold", "constant", "dark", "deep", "dry", "dull", "electric"),
        *("faint", "fast", "flat", "gentle", "heavy", "high", "hollow", "large", "light", "little", "long", "low"),
        *("metallic", "natural", "old", "quick", "quiet", "rapid", "regular", "rough", "sharp", "short"),
        *("shrill", "slow", "small", "smooth", "steady", "thick", "thin", "warm", "wet", "wild", "young"),
    )
)


def process_caption(text: str) -> str:
    """Turn a caption or a prompt into the words the model reads: `A dog barks at 2 cars` → `dog bark car`.

    # ours, where the paper is silent:
    - stop words are NLTK's 179 English ones, contractions (`isn't`) and `up`, `down`, `off` included;
    - a number is any word that holds a digit (`35`, `1/4`, `3C6`, `16mm`); spelled-out ones (`two`) are words and stay;
    - the BBC's archive notes (`- 1979 (3C6, reprocessed)`) are left out;
    - single letters are no words; a possessive `'s` goes; hyphens and slashes separate;
    - a text that would lose every word keeps them all, in lower case: the prompt `Down` still says something.
    Returns an empty string only for a text without any letter or digit.
    """
    words = _words(_ARCHIVE_NOTE.sub("", text)) or _words(text)
    lemmas = [
        lemmatize(word, following) for word, following in zip(words, [*words, ""][1:], strict=True) if _is_content(word)
    ]
    return " ".join(lemmas or words)


def process_tags(tags: Iterable[str]) -> str:
    """Join a clip's tags to a pseudo sentence: `Male_speech`, `Dog, barking` → `male speech dog bark`.

    As in the paper, stop words and numbers stay; `_`, commas and other marks inside a tag separate words.
    # ours: lower case and lemmatized as captions are, where the paper lemmatizes captions only: a prompt loses its
    endings, too, so the model must read `bird chirp` for the tag `birds chirping` as for the prompt.
    """
    words = _words(" ".join(tags))
    return " ".join(lemmatize(word, following) for word, following in zip(words, [*words, ""][1:], strict=True))


def published_texts(clip: Clip) -> tuple[str, ...]:
    """List a clip's captions as published, then its tags joined to a pseudo sentence, no word of them processed.

    What evaluation hands to a model, and what a model with `text_processing: none` trains on. A clip that has neither
    gives its processed texts.
    """
    tags = " ".join(clip.tags).replace("_", " ")
    return (*clip.captions, *([tags] if tags else [])) or clip.texts


def only_tags(clip: Clip) -> tuple[str, ...]:
    """Return the tags of a clip, as published, unless it has captions."""
    return () if clip.captions else tuple(clip.tags)


def mask_tags(tags: Sequence[str], generator: np.random.Generator, published: bool = False) -> str:
    """Join tags, in any order, with [MASK] words around and between them: `[MASK] dog [MASK] [MASK] rain [MASK]`.

    DiffSound's mask-based text generation, for clips that have no caption. published: leave the tags unprocessed.
    """
    gaps = [" ".join([MASK_WORD] * n) for n in generator.integers(1, MOST_MASKS + 1, len(tags) + 1)]
    mixed = [tags[n] if published else process_tags([tags[n]]) for n in generator.permutation(len(tags))]
    return " ".join([gaps[0], *(word for pair in zip(mixed, gaps[1:], strict=True) for word in pair)])


def split_caption(text: str, most: int) -> list[str]:
    """Split a text into its sounds, in its own words: `a dog barks while it rains` → `a dog barks`, `it rains`.

    # ours. Commas, conjunctions and the weather separate, but not
    - a clause that names no thing and no action (`loud and clear bells`);
    - a second action of the same thing (`a dog growls and barks`).
    Of more than `most` sounds neighbors stay together. Returns the text itself if it is one sound, or most is 1.
    """
    if most == 1:
        return [text]
    joints = [(joint.start(), joint.end()) for joint in _JOINT.finditer(text)]
    begins, ends = [0, *(end for _, end in joints)], [*(begin for begin, _ in joints), len(text)]
    spans: list[tuple[int, int]] = []
    pending: int | None = None  # where a clause begins that is no sound without the next
    for begin, end in zip(begins, ends, strict=True):
        if spans and _goes_on(text[slice(*spans[-1])], text[begin:end]):
            spans[-1] = spans[-1][0], end
        elif _names_something(text[begin:end]):
            spans.append((begin if pending is None else pending, end))
            pending = None
        elif pending is None and any(map(_is_content, _words(text[begin:end]))):
            pending = begin
    if spans and pending is not None:
        spans[-1] = spans[-1][0], len(text)
    n = min(most, len(spans))
    groups = [spans[len(spans) * i // n : len(spans) * (i + 1) // n] for i in range(n)]
    return [text[group[0][0] : group[-1][1]].strip() for group in groups] if n > 1 else [text]


def read_prompt(text: str, most: int, process: bool) -> list[str]:
    """Turn a prompt into the texts that the model reads, one for each of up to `most` sounds; see `split_caption`.

    process: as `process_caption` does.
    """
    parts = split_caption(text, most)
    return [process_caption(part) for part in parts] if process else parts


def only_describes(clause: str) -> bool:
    """Return whether a clause only says how a thing is (`big`, `a very loud`), and names none."""
    return not _names_something(clause) and all(_is("adj", word) for word in _words(clause) if _is_content(word))


def mentions_speech(text: str) -> bool:
    """Return whether a raw caption or tag contains the word `speech`, in any case, with `_` taken as a space.

    # ours: the plural counts, because the model would read it as `speech`; `speechless` does not.
    """
    return not {"speech", "speeches"}.isdisjoint(_words(text))


@lru_cache(maxsize=1 << 16)
def lemmatize(word: str, following: str = "") -> str:
    """Return the WordNet lemma of a lower-case word in a sound caption; the word itself if WordNet knows none.

    WordNet's lemma depends on the part of speech, and there is no tagger here.
    # ours: the form of the word decides.
    - `-ing` and `-ed` forms and irregular pasts are verbs (`barking` → `bark`, `blew` → `blow`), but not what is
      itself a verb's base form (`ring`, `feed`), nor the few things in `_THINGS` (`building`, `saw`);
    - everything else is a noun if WordNet has that noun (`leaves` → `leaf`, `children` → `child`), else a verb
      (`speaks` → `speak`); `-ss` and `-us` are no plurals (`pass`, `chorus`), nor is any word of up to three letters;
    - a determiner right after it makes a verb of a thing (`a train leaves the station` → `leave`).
    Of several lemmas the first in WordNet's order wins: NLTK's lemmatizer takes the shortest, which turns `uses` into
    `us`, `dies` into `dy` and `scraping` into `scrap`.
    """
    verb = _verb_lemma(word)
    is_thing = word in _THINGS or word in wordnet("noun").exceptions
    if verb and (following in _DETERMINERS if is_thing else _looks_like_verb(word)):
        return verb
    if word in _THINGS or (word.endswith("s") and not _may_be_plural(word)):
        return word
    return next(iter(wordnet("noun").lemmas(word)), None) or verb or word


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("_", " ")
    return [word.removesuffix("'s") for word in _WORD.findall(folded)]


def _is_content(word: str) -> bool:
    return word not in stop_words() and len(word) > 1 and not any(character.isdigit() for character in word)


def _is(part_of_speech: PartOfSpeech, word: str) -> bool:
    known = wordnet(part_of_speech)
    return word in known.words or bool(known.lemmas(word))


def _names_something(clause: str) -> bool:
    """Return whether any word of a clause is a noun or a verb."""
    words = [word for word in _words(clause) if _is_content(word) and word not in _DESCRIPTIONS]
    return any(_is("noun", word) or _is("verb", word) for word in words)


def _goes_on(before: str, clause: str) -> bool:
    """Return whether a clause is only a verb in the third person, whose subject is in the clause before."""
    first, *others = _words(clause) or [""]
    is_verb = first.endswith("s") and _is_content(first) and bool(wordnet("verb").lemmas(first))
    has_object = any(_is_content(word) and _is("noun", word) for word in others)
    return is_verb and not has_object and sum(map(_is_content, _words(before))) > 1


def _looks_like_verb(word: str) -> bool:
    return word.endswith(("ing", "ed")) or word in wordnet("verb").exceptions


def _may_be_plural(word: str) -> bool:
    return len(word) > 3 and not word.endswith(("ss", "us"))


def _verb_lemma(word: str) -> str | None:
    """Return the verb lemma of an inflected form; `ring` and `feed` are verbs, not forms of one.

    Where a stem with and without -e are both verbs, spelling tells them apart: a final single consonant after a single
    vowel would have been doubled, so `taping` is tape (`tapping` would be tap), but `swinging` is swing, not swinge.
    """
    if word.endswith(("ing", "ed")) and word in wordnet("verb").words:
        return None
    first, second, *_ = [*wordnet("verb").lemmas(word), None, None]
    if second and first == second + "e" and not _WOULD_DOUBLE.search(second):
        return second
    return first


@dataclass(frozen=True)
class WordNet:
    """The words of one part of speech. exceptions: irregular form → lemmas."""

    words: frozenset[str]
    exceptions: dict[str, list[str]]
    detachments: tuple[tuple[str, str], ...]

    def lemmas(self, word: str) -> list[str]:
        """List the lemmas of `word` (lower case) in WordNet's order, without `word` itself."""
        if word in self.exceptions:
            candidates = self.exceptions[word]
        else:
            candidates = [word.removesuffix(old) + new for old, new in self.detachments if word.endswith(old)]
        return [lemma for lemma in dict.fromkeys(candidates) if lemma in self.words and lemma != word]


@lru_cache(maxsize=2)
def wordnet(part_of_speech: PartOfSpeech) -> WordNet:
    """Read WordNet 3.0's words and exceptions of one part of speech."""
    with zipfile.ZipFile(CORPORA / "wordnet.zip") as archive:
        index = archive.read(f"wordnet/index.{part_of_speech}").decode()
        exceptions = archive.read(f"wordnet/{part_of_speech}.exc").decode().splitlines()
    return WordNet(
        # A line begins with its word; the license at the top of the file begins with spaces.
        words=frozenset(re.findall("^[^ \n]+", index, re.MULTILINE)),
        exceptions={form: lemmas for form, *lemmas in map(str.split, exceptions)},
        detachments=DETACHMENTS[part_of_speech],
    )


@lru_cache(maxsize=1)
def stop_words() -> frozenset[str]:
    """Read NLTK's 179 English stop words."""
    return frozenset((CORPORA / "stopwords" / "english").read_text("utf-8").split())
