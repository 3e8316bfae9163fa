"""All networks by name, and the choice of those that one evaluation needs.

A new network is one file and one line of NETWORKS.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from audiogen_cli.errors import InputError, Problems
from audiogen_cli.evaluation.networks.base import AudioNetwork, MissingWeightsError, WeightSource

if TYPE_CHECKING:
    from audiogen_cli.evaluation.networks.clap import Clap

# Name → "module:class" in this folder. A module is imported only when its network is chosen: each has its own packages.
NETWORKS = {
    "passt": "passt:Passt",
    "pann": "pann:Cnn14At32k",
    "pann-16k": "pann:Cnn14At16k",
    "yamnet": "yamnet:YamNet",
    "vggish-google": "vggish:VggishGoogle",
    "vggish-torch": "vggish:VggishTorch",
    "clap": "clap:Clap",
}
CLASSIFIERS = ("passt", "pann", "pann-16k", "yamnet")  # those with classes, which KL needs
AUTO = "auto"
PREFERRED = ("passt", "pann", "yamnet")  # PaSST is the paper's; YAMNet needs no download
PAPER_EMBEDDING = "vggish-google"
PAPER_NETWORKS = "--classifier passt --embedding vggish-google --download"
CLASSIFIER, EMBEDDING, CLAP = "classifier", "embedding", "clap"  # the roles that a metric asks for


@dataclass(frozen=True)
class Networks:
    """The networks of one evaluation by role; None where no metric needs it. classifier and embedding may be one."""

    classifier: AudioNetwork | None = None
    embedding: AudioNetwork | None = None
    clap: Clap | None = None

    def __getitem__(self, role: str) -> Any:
        network = getattr(self, role)
        assert network is not None, f"no metric asked for a network as {role}"
        return network

    def all(self) -> list[AudioNetwork]:
        """List each network once."""
        return list(dict.fromkeys(network for network in vars(self).values() if network is not None))

    def describe(self) -> dict[str, Any]:
        """Identify every network, as `results.json` records it."""
        return {role: network.describe() if network else None for role, network in vars(self).items()}


def load_network(name: str, source: WeightSource | None = None) -> AudioNetwork:
    """Load a network by name. Raises InputError if there is none of that name, or its file is not here."""
    if name not in NETWORKS:
        raise InputError(f"unknown network '{name}': choose one of {', '.join(NETWORKS)}")
    module, attribute = NETWORKS[name].split(":")
    network: type[AudioNetwork] = getattr(import_module(f"{__package__}.{module}"), attribute)
    return network(source)


def load_networks(
    roles: Collection[str], classifier: str, embedding: str | None, source: Callable[[str], WeightSource]
) -> Networks:
    """Load the networks of the given roles.

    classifier: a name, or AUTO for the best one whose file is here. embedding: a name; None takes the paper's VGGish
    if the classifier is AUTO and the file is here, else the classifier's own embeddings. source: name → its weights.
    Raises InputError that names all that is missing.
    """
    problems = Problems()

    def first_here(names: Sequence[str]) -> AudioNetwork | None:
        for name in names:
            try:
                return load_network(name, replace(source(name), download=False))  # nobody has named it
            except MissingWeightsError:
                continue
        return None

    def named(name: str) -> AudioNetwork | None:
        return problems.attempt(lambda: load_network(name, source(name)), None)

    own: AudioNetwork | None = None
    if EMBEDDING in roles and embedding is not None:
        own = named(embedding)
    elif EMBEDDING in roles and classifier == AUTO:
        own = first_here([PAPER_EMBEDDING])
    chosen: AudioNetwork | None = None
    if CLASSIFIER in roles or (EMBEDDING in roles and own is None):
        chosen = named(classifier) if classifier != AUTO else first_here(PREFERRED)
        if chosen is None and classifier == AUTO:
            problems.found.append(_nothing_here())
    if own is not None and chosen is not None and own.name == chosen.name:
        own = chosen
    clap: Any = named(CLAP) if CLAP in roles else None
    problems.check()
    return Networks(chosen if CLASSIFIER in roles else None, (own or chosen) if EMBEDDING in roles else None, clap)


def _nothing_here() -> InputError:
    try:
        load_network(PREFERRED[-1])
    except MissingWeightsError as error:
        return InputError(f"{error}, or add {PAPER_NETWORKS} (the paper's networks)")
    raise AssertionError  # a network that loads was chosen
