"""The networks of one evaluation: which one hears what, chosen by name or by which files are here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.errors import InputError
from audiogen_cli.evaluation.networks.base import (
    PREFERRED,
    Classifier,
    MissingWeightsError,
    Source,
    load_classifier,
    load_first,
)

if TYPE_CHECKING:
    from audiogen_cli.evaluation.networks.clap import Clap

AUTO = "auto"
# Metric → who it listens to; the rest listen to the classifier.
BY_EMBEDDING, BY_CLAP = ("fad", "fad_infinity"), ("clap",)


@dataclass(frozen=True)
class Networks:
    """None where no chosen metric needs it. classifier and embedding may be one."""

    classifier: Classifier | None
    embedding: Classifier | None
    clap: Clap | None

    def all(self) -> list[Classifier]:
        """Each network once."""
        return list(dict.fromkeys(network for network in vars(self).values() if network is not None))

    def named(self, metric: str) -> str:
        """A metric's full name: no number is worth anything without the network behind it."""
        if metric in BY_CLAP:
            return self.for_clap.name
        if metric in BY_EMBEDDING:
            embedding = self.for_fad
            return f"{metric.replace('fad', embedding.distance)}_{embedding.name}"
        return f"{metric}_{self.for_kl.name}"

    @property
    def for_kl(self) -> Classifier:
        """The classifier, where a metric needs it."""
        assert self.classifier is not None
        return self.classifier

    @property
    def for_fad(self) -> Classifier:
        """The embedding, where a metric needs it."""
        assert self.embedding is not None
        return self.embedding

    @property
    def for_clap(self) -> Clap:
        """CLAP, where a metric needs it."""
        assert self.clap is not None
        return self.clap

    def describe(self) -> dict[str, Any]:
        """What results.json says about them."""
        return {role: describe(network) if network else None for role, network in vars(self).items()}


def load_networks(
    metrics: Iterable[str],
    classifier: str,
    embedding: str | None,
    weights: Mapping[str, Path],
    device: str,
    download: bool,
) -> Networks:
    """Load what the metrics need.

    classifier: a backend, or AUTO for the best one whose file is here. embedding: a backend for FAD; None takes
    VGGish, the paper's, where the classifier is AUTO and the file is here, else the classifier's own embeddings.
    weights: backend → file. Raises InputError if something is missing.
    """
    metrics = set(metrics)
    plain = Source(device=device, download=download)
    sources = {name: Source(path, device, download) for name, path in weights.items()}
    wants_fad, wants_clap = bool(metrics & {*BY_EMBEDDING}), bool(metrics & {*BY_CLAP})
    wants_classes = bool(metrics - {*BY_EMBEDDING, *BY_CLAP})

    ears: Classifier | None = None
    own: Classifier | None = None
    if wants_fad and embedding is None and classifier == AUTO:
        own = load_first(("vggish-google",), sources, Source(device=device))
    elif wants_fad and embedding is not None:
        own = load_classifier(embedding, sources.get(embedding, plain))
    if wants_classes or (wants_fad and own is None):
        ears = _load_ears(classifier, sources, plain)
    if own is not None and ears is not None and own.name == ears.name:
        own = ears
    clap: Any = load_classifier("clap", sources.get("clap", plain)) if wants_clap else None
    return Networks(ears if wants_classes else None, (own or ears) if wants_fad else None, clap)


def describe(network: Classifier) -> dict[str, Any]:
    """A network's identity."""
    return {
        "name": network.name,
        "file": network.path.name,
        "sha256": network.sha256,
        "licence": network.licence,
        "sample_rate": network.sample_rate,
        "embedding_size": network.dim,
    }


def _load_ears(name: str, sources: Mapping[str, Source], plain: Source) -> Classifier:
    if name != AUTO:
        return load_classifier(name, sources.get(name, plain))
    # Nothing is fetched for a choice that nobody made.
    found = load_first(PREFERRED, dict(sources), Source(device=plain.device))
    if found is None:
        try:
            return load_classifier(PREFERRED[-1])
        except MissingWeightsError as error:
            raise InputError(f"{error} (or give --classifier {' or '.join(PREFERRED[:-1])} its file)") from None
    return found
