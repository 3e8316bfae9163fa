"""WordNet's morphology and NLTK's stop words, read from the files in resources/nltk_data (paper sec. 4.1).

The files, the detachment rules and the exception lists are those of NLTK's WordNetLemmatizer, and the tests hold the
results against NLTK's. NLTK itself is not imported: its import takes 1.3 s, its WordNetCorpusReader 1.3 s more, and
this 0.2 s. Loaded in a thread beside torch it made `audiogen generate` as a whole process 10% slower (14.3 s →
15.8 s, mean of five pairs of runs on two cores; same bytes).
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from audiogen_cli.files import RESOURCES

CORPORA = RESOURCES / "nltk_data" / "corpora"

PartOfSpeech = Literal["noun", "verb"]

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
}


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
        index = archive.read(f"wordnet/index.{part_of_speech}").decode().splitlines()
        exceptions = archive.read(f"wordnet/{part_of_speech}.exc").decode().splitlines()
    return WordNet(
        # A line begins with its word; the license at the top of the file begins with spaces.
        words=frozenset(line[: line.index(" ")] for line in index if not line.startswith(" ")),
        exceptions={form: lemmas for form, *lemmas in map(str.split, exceptions)},
        detachments=DETACHMENTS[part_of_speech],
    )


@lru_cache(maxsize=1)
def stop_words() -> frozenset[str]:
    """Read NLTK's 179 English stop words."""
    return frozenset((CORPORA / "stopwords" / "english").read_text("utf-8").split())
