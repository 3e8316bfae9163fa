"""The inputs of one evaluation, looked for together, so that one message names all that is missing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from audiogen_cli.devices import first_of_machine
from audiogen_cli.errors import InputError, Problems
from audiogen_cli.evaluation.config import EvalConfig
from audiogen_cli.evaluation.networks.registry import Networks, load_networks
from audiogen_cli.evaluation.references import Reference, load_references
from audiogen_cli.evaluation.results import Skipped, read_results
from audiogen_cli.evaluation.tasks.generate_clips import find_scored


@dataclass(frozen=True)
class Inputs:
    """The real clips, those that cannot be used, and the networks."""

    references: list[Reference]
    unfit: list[Skipped]
    networks: Networks


def load_inputs(config: EvalConfig, roles: Collection[str] = ()) -> Inputs:
    """List the clips, find the model, load the networks of the given roles.

    Raises InputError that names everything that is not there.
    """
    problems = Problems()
    nothing: tuple[list[Reference], list[Skipped]] = [], []
    clips = (config.split, config.manifests, config.reference)
    references, unfit = problems.attempt(lambda: load_references(*clips), nothing)
    if config.generated is None:
        problems.attempt(lambda: find_scored(config), None)
    networks = Networks()
    if not (problems.found and config.download):  # nothing is fetched for a run that cannot be
        choice = (config.classifier, config.embedding, config.weight_source)
        with first_of_machine():
            networks = problems.attempt(lambda: load_networks(roles, *choice), networks)
    problems.check()
    return Inputs(references, unfit, networks)


def refuse_another(config: EvalConfig) -> None:
    """Raise InputError if the folder has the results of another system or other clips, which would be replaced."""
    path = config.out / "results.json"
    if not path.is_file():
        return
    try:
        earlier = read_results(path)
    except InputError:
        return
    own: dict[str, object] = {
        "task": config.task,
        "split": config.split,
        "reference": str(config.reference) if config.reference else None,
        "generated": str(config.generated) if config.generated else None,
    }
    if config.generated is None:
        own |= {name: value for name, value in find_scored(config)[1].items() if name in ("model", "model_name")}
    if other := [name for name, value in own.items() if earlier.get(name) != value]:
        name = other[-1]
        raise InputError(f"{path} has the results of another {name}, {earlier.get(name)}: choose another --out")
