"""Text encoders F(c) = u (sec. 3.2): frozen, or numbers of words for a table that the model learns; texts are cached.

The only module that touches transformers and tokenizers. A text's vectors never depend on the texts beside it.
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audiogen_cli.devices import to_device
from audiogen_cli.errors import AudiogenWarning, InputError, first_line
from audiogen_cli.files import RESOURCES, hash_file
from audiogen_cli.lm.config import LOOKUP_ROWS, TextConfig
from audiogen_cli.model_folder import fingerprint

WORD_VECTORS = RESOURCES / "word_vectors"
CACHE_BYTES = 1 << 30
ENTRY_BYTES = 1_500  # about, of a text in it besides its numbers
BATCH, AT_ONCE = 64, {"cpu": 1}  # texts that T5 reads at once, on other devices and by kind of device


class TextEncoder(ABC):
    """Turns texts into vectors [L, D]; L counts tokens and is 0 where a text has none (that is: no text)."""

    width: int  # D
    fingerprint: str | None = None  # SHA-256 of the weights, where they are a file that may change unnoticed

    def __init__(self) -> None:
        self._cache: OrderedDict[str, Tensor] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()  # a training reads ahead in a thread and validates in another

    @abstractmethod
    def compute(self, texts: Sequence[str]) -> list[Tensor]:
        """Encode distinct texts, none of them blank: a float32 CPU tensor [L, D] each."""

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Return a float32 CPU tensor [L, D] for each text; [0, D] for a blank one.

        Raises TypeError for a single str, whose letters would be the texts.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts must be a sequence of str: ['{texts}']")
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._cache]
            found = {text: torch.zeros(0, self.width) for text in missing if not text.strip()}
            wanted = [text for text in missing if text not in found]
            found |= zip(wanted, self.compute(wanted) if wanted else [], strict=True)
            result = [found[text] if text in found else self._cache[text] for text in texts]
            self._remember(found)
            return result

    def find_words(self, text: str) -> dict[str, bool]:
        """Return the words of a text → whether the encoder knows each; {} if it reads whatever can be spelled."""
        return {}

    def batch(self, texts: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        """Encode texts (None: no text) as one batch: text [B, L, D] float32 and text_mask [B, L] bool, on the CPU.

        Padded on the right to the longest; a row without text has no True.
        """
        return pad(self.encode([text or "" for text in texts]))

    def _remember(self, found: dict[str, Tensor]) -> None:
        for text, vectors in found.items():
            self._cache[text] = vectors
            self._cached_bytes += vectors.nbytes + ENTRY_BYTES
        while self._cached_bytes > CACHE_BYTES:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= oldest.nbytes + ENTRY_BYTES


class WordPieces(TextEncoder):
    """An encoder of the word pieces of a `tokenizer.json`; those that its vocabulary does not know are left out."""

    def _read_tokenizer(self, file: Path) -> None:
        """Read a tokenizer, without padding and truncation, and the number of its unknown token."""
        from tokenizers import Tokenizer

        text = file.read_text("utf-8")
        self._tokenizer, model = Tokenizer.from_str(text), json.loads(text)["model"]
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        named = self._tokenizer.token_to_id(model.get("unk_token") or "")
        self._unknown: int | None = model.get("unk_id", named)

    def _number(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the numbers of each text's known pieces."""
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [[id for id in each.ids if id != self._unknown] for each in found]

    def find_words(self, text: str) -> dict[str, bool]:
        """Return the words of a text that hold a letter or digit → whether each is a piece as a whole."""
        found = self._tokenizer.encode(text, add_special_tokens=False)
        ids, spans = defaultdict(list), defaultdict(list)
        for word, id, span in zip(found.word_ids, found.ids, found.offsets, strict=True):
            ids[word].append(id)
            spans[word].append(span)
        names = {word: text[spans[word][0][0] : spans[word][-1][1]] for word in ids}
        return {
            name: len(ids[word]) == 1 and ids[word] != [self._unknown]
            for word, name in names.items()
            if any(map(str.isalnum, name))
        }


class StaticVectors(WordPieces):
    """Frozen distilled word-piece vectors (model2vec), one a token: no download, no network to run."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from safetensors.numpy import load_file  # not model2vec, whose hub client takes longer to import than to read

        if not (folder / "model.safetensors").is_file():
            raise InputError(f"no word vectors in '{folder}': give a model2vec folder, or name: null for the package's")
        try:
            self._read_tokenizer(folder / "tokenizer.json")
            tensors, n_tokens = load_file(folder / "model.safetensors"), self._tokenizer.get_vocab_size()
            self._table, self._weights = tensors["embeddings"], tensors.get("weights", np.ones(n_tokens, np.float32))
            self._rows = tensors.get("mapping", np.arange(len(self._table)))  # of tokens, which may share them
            if len(self._rows) < n_tokens or self._table.ndim != 2:
                raise ValueError(f"{n_tokens} tokens, but vectors of shape {list(self._table.shape)}")
        except Exception as error:  # whatever safetensors or tokenizers object to
            raise InputError(f"the word vectors in '{folder}' cannot be read: {first_line(error)}") from None
        self.width = self._table.shape[1]
        self.fingerprint = fingerprint(folder)

    def compute(self, texts: Sequence[str]) -> list[Tensor]:
        """Look the pieces up.

        # ours: each row is set to variance 1. The table is int8, whose common scale the file does not keep.
        """
        ids = [np.array(each, np.int64) for each in self._number(texts)]
        rows = [torch.tensor(self._table[self._rows[each]] * self._weights[each][:, None]).float() for each in ids]
        return [torch.nn.functional.normalize(each, dim=1) * self.width**0.5 for each in rows]


class WordNumbers(WordPieces):
    """Numbers of word pieces, [L, 1], by which the model looks up vectors that it learns itself (sec. 3.2: a LUT).

    # ours: the words are those of a word-vector folder's tokenizer, so that no vocabulary need be made of the texts. A
    word that no training text holds keeps its random first vector: as in the paper, the model is blind to it.
    """

    width = 1

    def __init__(self, folder: Path) -> None:
        super().__init__()
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise InputError(f"no tokenizer.json in '{folder}': give a model2vec folder, or name: null for ours")
        self._read_tokenizer(file)
        if self._tokenizer.get_vocab_size() > LOOKUP_ROWS:
            raise InputError(f"{file} knows more than {LOOKUP_ROWS} words, the most that text.kind: lookup can learn")
        self.fingerprint = hash_file(file)

    def compute(self, texts: Sequence[str]) -> list[Tensor]:
        """Number the word pieces."""
        return [torch.tensor(each).float().reshape(-1, 1) for each in self._number(texts)]


class Transformer(TextEncoder):
    """A text encoder of transformers, by hub name or local path."""

    def __init__(self, kind: str, name: str, device: str | torch.device = "cpu") -> None:
        """kind: the name of its class in transformers."""
        super().__init__()
        import transformers

        from audiogen_cli.lm.text.hub import find_on_hub

        transformers.logging.set_verbosity_error()
        if here := find_on_hub(name):  # else a download has a bar to show
            transformers.logging.disable_progress_bar()
        name = str(Path(name).expanduser()) if Path(name).expanduser().exists() else name
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(name, local_files_only=here)
            model = getattr(transformers, kind).from_pretrained(name, local_files_only=here)
        except Exception as error:  # transformers raises many kinds: no network, no such name, a broken file
            raise InputError(
                f"the text encoder '{name}' cannot be loaded: {first_line(error)}; "
                "give a hub name that this machine can reach, or a local folder"
            ) from None
        self._model = model.float().to(device).eval().requires_grad_(False)

    @torch.inference_mode()
    def compute(self, texts: Sequence[str]) -> list[Tensor]:
        """Compute the last hidden states.

        On a CPU every text is read alone: the bits of a matrix product may depend on its number of rows. On a GPU many
        are padded to one batch, in float32 as everywhere: that takes a hundredth of a training step.
        """
        device = self._model.device
        limit = AT_ONCE.get(device.type, BATCH)
        tokens, result = [torch.tensor(ids) for ids in self._tokenize(list(texts))], list[Tensor]()
        for begin in range(0, len(tokens), limit):
            batch = tokens[begin : begin + limit]
            ids = to_device(pad_sequence(batch, batch_first=True), device)
            mask = to_device(pad_sequence([torch.ones_like(each) for each in batch], batch_first=True), device)
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float().cpu()
            result += [row[: len(each)].clone() for row, each in zip(hidden, batch, strict=True)]
        return result

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(texts, verbose=False)["input_ids"]
        return ids


class T5(Transformer):
    """T5's encoder (sec. 3.2)."""

    def __init__(self, name: str, device: str | torch.device = "cpu") -> None:
        super().__init__("T5EncoderModel", name, device)
        self.width = self._model.config.d_model


class CLIP(Transformer):
    """CLIP's text transformer (DiffSound): all its positions, those after the text too."""

    def __init__(self, name: str, device: str | torch.device = "cpu") -> None:
        super().__init__("CLIPTextModel", name, device)
        config = self._model.config
        self.width, self._n_positions = config.hidden_size, config.max_position_embeddings
        self._told_of_cuts = False

    def compute(self, texts: Sequence[str]) -> list[Tensor]:
        """Compute the last hidden states [77, D], each set to variance 1 (published: to length 1)."""
        scale = self.width**0.5
        return [torch.nn.functional.normalize(each, dim=1) * scale for each in super().compute(texts)]

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        n = self._n_positions
        found: list[list[int]] = self._tokenizer(texts, verbose=False, padding="max_length", max_length=n)["input_ids"]
        long = next((text for text, ids in zip(texts, found, strict=True) if len(ids) > n), None)
        if long is not None and not self._told_of_cuts:
            self._told_of_cuts = True
            warnings.warn(
                f"CLIP reads {n} tokens: longer texts are cut, such as '{long[:80]}'", AudiogenWarning, stacklevel=3
            )
        return [ids if len(ids) == n else [*ids[: n - 1], ids[-1]] for ids in found]  # the last one ends a text


def load_text_encoder(config: TextConfig, device: str | torch.device = "cpu") -> TextEncoder:
    """Build the text encoder that a configuration names. Raises InputError if it cannot be loaded."""
    if config.kind == "static":
        return StaticVectors(Path(config.name).expanduser() if config.name else WORD_VECTORS)
    if config.kind == "lookup":
        return WordNumbers(Path(config.name).expanduser() if config.name else WORD_VECTORS)
    from audiogen_cli.lm.text.hub import HUB_NAMES

    kind = CLIP if config.kind == "clip" else T5
    return kind(config.name or HUB_NAMES[config.kind], device)


def pad(vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad vectors [L_b, D] to text [B, L, D], zeros on the right, and text_mask [B, L] bool; L is at least 1."""
    longest = max(1, *(len(each) for each in vectors))
    text = torch.zeros(len(vectors), longest, vectors[0].shape[1])
    mask = torch.zeros(len(vectors), longest, dtype=torch.bool)
    for row, each in enumerate(vectors):
        text[row, : len(each)] = each
        mask[row, : len(each)] = True
    return text, mask
