from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
import zipfile
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiogen_cli.data.captions import (
    CORPORA,
    lemmatize,
    mask_tags,
    mentions_speech,
    process_caption,
    process_tags,
    split_caption,
    stop_words,
    wordnet,
)

# Captions as AudioCaps, Clotho and BBC publish them.
GOLDEN = [
    ("a dog is barking at the park", "dog bark park"),
    ("A woman talks nearby as water pours", "woman talk nearby water pour"),
    ("Multiple clanging and clanking sounds", "multiple clang clank sound"),
    ("The wind is blowing, insects are singing, and rustling occurs", "wind blow insect sing rustle occur"),
    ("Person is whistling", "person whistle"),
    # the BBC's, with its archive notes
    ("Cash register, with cash conveyor - April 1967 (23D,reprocessed)", "cash register cash conveyor"),
    (
        "Lesson (occasional desk scraped on floor, reprocessed) - 1979 (3C6, reprocessed)",
        "lesson occasional desk scrape floor",
    ),
    (
        "Crowd (indistinguishable music in background) - Nov '1979 (1C20,reprocessed).",
        "crowd indistinguishable music background",
    ),
    ('Whistle: single 1" - 1968 (169A, reprocessed)', "whistle single"),
    ("Steam whistle - two short (distant)", "steam whistle two short distant"),
    ("A motorboat cruises along, and a man talks", "motorboat cruise along man talk"),
    ("The sizzling of food while a dish is clanking", "sizzle food dish clank"),
    ("Someone has a hiccup while typing", "someone hiccup type"),
    ("Aircraft engine hum with man and woman speaking", "aircraft engine hum man woman speak"),
    ("Hissing followed by clanking dishes and speech", "hiss follow clank dish speech"),
    ("Crackling noise precedes a fly buzzing", "crackle noise precede fly buzz"),
    ("A dog whimpers quietly", "dog whimper quietly"),
    ("Engine revving loudly", "engine rev loudly"),
    ("An adult female speaks and a cat meows", "adult female speak cat meow"),
    ("A whoosh sound is heard loudly as a car revs its engines", "whoosh sound hear loudly car rev engine"),
    ("Children screaming in the background", "child scream background"),
    ("Men speaking then sneezing", "man speak sneeze"),
    ("A horse galloping", "horse gallop"),
    ("Honking of a horn of a passing train", "honk horn pass train"),
    ("Crashing waves and a gust of wind", "crash wave gust wind"),
    ("A man speaks then coughs followed by laughter", "man speak cough follow laughter"),
    ("Several sirens are wailing and a horn is honked twice", "several siren wail horn honk twice"),
    ("Birds are squawking, and ducks are quacking", "bird squawk duck quack"),
    ("Birds cackling and young peoples voices", "bird cackle young people voice"),
    ("An aircraft engine is taking off", "aircraft engine take"),
    ("Scraping and speech followed by people laughing", "scrape speech follow people laugh"),
    ("A baby cries and a door closes", "baby cry door close"),
    ("A train passes by slowly", "train pass slowly"),
    ("Dry leaves rustle in the wind", "dry leaf rustle wind"),
    ("A person crunches through dried leaves on the ground.", "person crunch dry leaf ground"),
    ("A train leaves the station", "train leave station"),
    ("A dog barking inside a building", "dog bark inside building"),
    ("Men building a fence", "man build fence"),
    ("Cutting wood with a chain saw", "cut wood chain saw"),
    ("He saw the parade", "see parade"),
    ("Geese honk and wolves howl", "goose honk wolf howl"),
    ("Horses' hooves on cobblestones", "horse hoof cobblestone"),
    ("A bell rings in the evening", "bell ring evening"),
    ("Bells ringing and strings swinging", "bell ring string swing"),
    ("A woman feeding chickens with seeds", "woman feed chicken seed"),
    ("Chickens feed", "chicken feed"),
    ("The wind blew and thunder rang out", "wind blow thunder ring"),
    ("A fly flies while mice squeak", "fly fly mouse squeak"),
    ("Paper being torn and taped", "paper tear tape"),
    ("Tapping two metal sticks together", "tap two metal stick together"),
    ("A cold, icy drink is stirred and then sipped", "cold icy drink stir sip"),
    ("An engine dies", "engine die"),
    ("A glass breaks; gas escapes from the bus", "glass break gas escape bus"),
    ("The cat's purring", "cat purr"),
    ("The dog’s bark", "dog bark"),
    ("A baby lamb baaing while walking through grass", "baby lamb baa walk grass"),
    ("People applauding, cheering and whooping", "people applaud cheer whoop"),
    ("A toilet flushes and water gurgles", "toilet flush water gurgle"),
    ("Footsteps on creaking stairs", "footstep creak stair"),
    ("A siren that isn't moving", "siren move"),
    ("An 8 mm projector running at 24 f.p.s.", "mm projector run"),
    ("Single-cylinder Petter engine, start, run stop. (1 1/2 h.p.)", "single cylinder petter engine start run stop"),
    ('Door slam 1/4" plywood, 1979 (3C6, reprocessed)', "door slam plywood"),
    ("Two false starts", "two false start"),
    ("chirping_birds", "chirp bird"),
    ("DOOR-WOOD/KNOCK", "door wood knock"),
]


@pytest.mark.parametrize("caption, text", GOLDEN, ids=[caption for caption, _ in GOLDEN])
def test_captions(caption: str, text: str) -> None:
    assert process_caption(caption) == text


@pytest.mark.parametrize(
    "word, lemma",
    [
        ("leaves", "leaf"),
        ("passing", "pass"),
        ("pass", "pass"),
        ("us", "us"),
        ("uses", "use"),
        ("speed", "speed"),
        ("scraping", "scrape"),
        ("hopping", "hop"),
        ("hoping", "hope"),
        ("swinging", "swing"),
        ("chorus", "chorus"),
        ("children", "child"),
        ("zzyzx", "zzyzx"),
        ("", ""),
    ],
)
def test_lemmas(word: str, lemma: str) -> None:
    assert lemmatize(word) == lemma


@pytest.mark.parametrize(
    "prompt, text",
    [
        ("Down", "down"),
        ("up and down", "up and down"),
        ("440 440", "440 440"),
        ("A", "a"),
        ("", ""),
        ("?!…", ""),
        ("犬が吠える", "犬が吠える"),
        ("Café", "café"),
    ],
)
def test_a_prompt_never_loses_all_its_words(prompt: str, text: str) -> None:
    assert process_caption(prompt) == text


@given(st.text(max_size=60))
def test_any_text_with_a_letter_or_digit_gives_words(text: str) -> None:
    processed = process_caption(text)
    assert processed == " ".join(processed.split())
    assert bool(processed) == bool(re.search(r"[^\W_]", unicodedata.normalize("NFKC", text).casefold()))


def test_tags_are_joined_and_lemmatized_as_captions_are() -> None:
    assert process_tags(["dog", "bark", "park"]) == "dog bark park"
    assert process_tags(["Male speech, man speaking", "Chirping_birds"]) == "male speech man speak chirp bird"
    assert process_tags(["bird chirping"]) == process_tags(["bird chirp"]) == process_caption("Birds chirping")
    assert process_tags(["can opening", "9mm (pistol)"]) == "can open 9mm pistol"  # nothing is left out
    assert process_tags([]) == ""


def test_masks_stand_around_and_between_tags_in_any_order() -> None:
    tags, seen = ("dog", "church bell", "rain"), Counter()
    for seed in range(200):
        text = mask_tags(tags, np.random.default_rng(seed))
        assert text == mask_tags(tags, np.random.default_rng(seed))
        parts = [part.strip() for part in text.split("[MASK]")]
        assert parts[0] == parts[-1] == "" and sorted(filter(None, parts)) == sorted(tags)
        assert all(1 <= len(gap.split()) <= 3 for gap in re.split("dog|church bell|rain", text))
        seen[tuple(filter(None, parts)), text.count("[MASK]")] += 1
    for published, word in ((False, "dog bark"), (True, "Dogs, barking")):
        text = mask_tags(["Dogs, barking"], np.random.default_rng(0), published)
        assert text.replace("[MASK]", "").strip() == word
    assert len({order for order, _ in seen}) == 6 and {count for _, count in seen} > {5, 8, 11}


@pytest.mark.parametrize(
    "text, verdict",
    [
        ("Male_speech_and_man_speaking", True),
        ("A SPEECH.", True),
        ("two speeches", True),
        ("speech-like", True),
        ("a speechless crowd", False),
        ("man speaking", False),
        ("Conversation", False),
        ("", False),
    ],
)
def test_mentions_speech(text: str, verdict: bool) -> None:
    assert mentions_speech(text) is verdict


def test_morphology_agrees_with_nltk() -> None:
    """Every form we look up has the lemmas that NLTK's WordNet finds in the same files."""
    nltk = pytest.importorskip("nltk")
    nltk.data.path.insert(0, str(CORPORA.parent))
    from nltk.corpus import stopwords
    from nltk.corpus import wordnet as peer

    assert set(stopwords.words("english")) == stop_words()
    captions = " ".join(caption for caption, _ in GOLDEN).casefold()
    words = {*re.findall("[a-z]+", captions), *list(wordnet("verb").exceptions)[::20]}
    words |= {word + ending for word in list(words)[:400] for ending in ("s", "es", "ed", "ing", "ies", "ves", "men")}
    for part_of_speech, letter in (("noun", "n"), ("verb", "v")):
        for word in words:
            expected = [lemma for lemma in peer._morphy(word, letter) if lemma != word]
            assert wordnet(part_of_speech).lemmas(word) == expected, (word, part_of_speech)


def test_the_first_lemma_needs_no_heavy_import() -> None:
    code = "import sys; from audiogen_cli.data.captions import lemmatize; lemmatize('barking'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "audiogen_cli.data.captions" in modules
    assert not {"nltk", "torch", "pandas", "numpy"} & set(modules)


def test_wordnets_licence_is_bundled() -> None:
    with zipfile.ZipFile(CORPORA / "wordnet.zip") as archive:
        assert b"Princeton" in archive.read("wordnet/LICENSE")


@pytest.mark.parametrize(
    ("text", "sounds"),
    [
        ("a dog barks while it rains", ["a dog barks", "it rains"]),
        ("A train passes by as church bells ring", ["A train passes by", "church bells ring"]),
        ("Hissing followed by clanking dishes AND speech", ["Hissing", "clanking dishes", "speech"]),
        ("rain, thunder, and wind;", ["rain", "thunder", "wind"]),
        ("people clap and laugh", ["people clap", "laugh"]),
        ("cats and dogs", ["cats", "dogs"]),
        ("someone brushes their teeth and pours water", ["someone brushes their teeth", "pours water"]),
        ("footsteps in the rain", ["footsteps", "rain"]),
        # one sound, and what it does
        ("a door slams in the hall", ["a door slams in the hall"]),
        ("rain on a roof", ["rain on a roof"]),
        ("a dog growls and barks", ["a dog growls and barks"]),
        ("A man speaks then coughs followed by laughter", ["A man speaks then coughs", "laughter"]),
        ("a car starts and drives away, birds chirp", ["a car starts and drives away", "birds chirp"]),
        # no thing and no action on one side
        ("loud and clear church bells", ["loud and clear church bells"]),
        ("a siren as loud as a jet", ["a siren", "loud as a jet"]),
        ("a dog barks, loudly", ["a dog barks, loudly"]),
        ("a small, quiet dog", ["a small, quiet dog"]),
        ("low and deep humming, heavy rain", ["low and deep humming", "heavy rain"]),
        ("and", ["and"]),
        ("", [""]),
    ],
)
def test_a_caption_falls_into_its_sounds(text: str, sounds: list[str]) -> None:
    assert split_caption(text, 8) == sounds
    assert split_caption(text, 1) == [text]


def test_more_sounds_than_asked_for_stay_with_their_neighbours() -> None:
    text = "rain, thunder, wind, birds and frogs"
    assert split_caption(text, 2) == ["rain, thunder", "wind, birds and frogs"]
    assert split_caption(text, 3) == ["rain", "thunder, wind", "birds and frogs"]


SPLIT_WORDS = ["dog", "barks", "loud", "clear", "rain", "zzyx"]
LITTLE_WORDS = ["a", "the", "it", "then", "and", "while", "as", ",", ";", "followed by"]


@given(words=st.lists(st.sampled_from(SPLIT_WORDS + LITTLE_WORDS)), most=st.integers(1, 5))
def test_splitting_loses_no_word(words: list[str], most: int) -> None:
    text = " ".join(words)
    sounds = split_caption(text, most)
    assert 1 <= len(sounds) <= most and all(sound in text for sound in sounds)

    def content(part: str) -> list[str]:
        return [word for word in part.split() if word in SPLIT_WORDS]

    assert [word for sound in sounds for word in content(sound)] == content(text)
