"""The state that a training step of the language model changes: built, saved and resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from audiogen_cli import model_folder
from audiogen_cli.lm.adapters import AdapterBase
from audiogen_cli.lm.config import LMConfig, TrainConfig
from audiogen_cli.lm.decoder import Objective, find_decoder
from audiogen_cli.lm.model import CodeModel
from audiogen_cli.lm.training.lora import load_lora, lora_weights, write_lora
from audiogen_cli.model_card import write_card
from audiogen_cli.training.checkpoint import check_optimizer, load_state, save_checkpoint
from audiogen_cli.training.sharding import copy_into, gather_full, in_one_piece, is_sharded, reshard, shard, shard_like


@dataclass
class State:
    """Everything that a step changes, in one process or shared among several (DDP or FSDP)."""

    model: CodeModel  # its parameters; under FSDP each process holds a part of each
    network: nn.Module  # what a training step calls: the model itself, or DDP around it
    optimizer: torch.optim.Optimizer
    objective: Objective
    average: dict[str, Tensor] | None  # running mean of `weights`, if wanted
    step: int = 0
    base: AdapterBase | None = None  # the model that an adapter is trained for; None: the model itself is trained

    @property
    def parameters(self) -> list[Tensor]:
        """Return the parameters that are trained, in a fixed order."""
        return list(trained_parameters(self.model, self.base).values())

    @property
    def weights(self) -> dict[str, Tensor]:
        """Return what a folder of the result holds: the model's `state_dict()`, or an adapter's matrices."""
        return lora_weights(self.model) if self.base else self.model.state_dict()

    @contextmanager
    def best(self) -> Iterator[CodeModel]:
        """Load the weights to validate and to save into the model for a while: the running mean, else the latest."""
        latest = [parameter.detach().clone() for parameter in self.parameters] if self.average else []
        if self.average:
            self.load(self.average)
        try:
            yield self.model
        finally:
            reshard(self.model)
            copy_into(self.parameters, latest)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Put other `weights` into the model."""
        if self.base:
            _write(weights, self.weights)
        else:
            self.model.load_state_dict(weights)


def trained_parameters(model: CodeModel, base: AdapterBase | None) -> dict[str, Tensor]:
    """Return the parameters that are trained, by the names of `State.weights`; base: given if an adapter is trained."""
    named = lora_weights(model) if base else dict(model.named_parameters())
    return {name: parameter for name, parameter in named.items() if parameter.requires_grad}


def build_state(
    model: CodeModel, config: TrainConfig, accelerator: Accelerator, base: AdapterBase | None = None
) -> State:
    """Prepare a model, the same in every process, for training. Weight decay, if wanted, is on matrices only.

    base: given if an adapter is trained.
    """
    optim, device = config.optim, accelerator.device
    model.checkpointing = config.checkpoint_activations
    if config.compile:  # block by block: they are all alike, so one compilation serves them all
        torch._dynamo.config.optimize_ddp = False  # it would cut each block where DDP's buckets end
        for block in model.blocks:
            block.compile(dynamic=True)  # steps differ in length: one compilation for all
    if config.distributed == "fsdp" and accelerator.num_processes > 1:
        shard(model, model.blocks, device, accelerator.num_processes, accelerator.mixed_precision == "bf16")
        network: nn.Module = model
    else:
        network = accelerator.prepare_model(model)
    trained = trained_parameters(model, base).values()
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    fused = device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(groups, optim.lr, optim.betas, weight_decay=optim.weight_decay, fused=fused)
    objective = find_decoder(model.config).build_objective(model.config, config, device)
    state = State(model, network, optimizer, objective, None, base=base)
    if config.ema_decay:
        state.average = {name: weight.detach().clone() for name, weight in state.weights.items()}
    return state


def clip_gradients(state: State, limit: float) -> Tensor:
    """Clip the gradients' norm to `limit` for the optimizer's next step; return the norm before.

    A fused optimizer scales gradients itself as it reads them, which saves a pass over all of them.
    """
    norm = nn.utils.get_total_norm([parameter.grad for parameter in state.parameters if parameter.grad is not None])
    if state.optimizer.defaults["fused"] and not is_sharded(state.model):
        # What torch's GradScaler sets, too; 1e-6 as in clip_grad_norm_.
        state.optimizer.grad_scale = ((norm + 1e-6) / limit).clamp(min=1)  # type: ignore[attr-defined]
    else:
        nn.utils.clip_grads_with_norm_(state.parameters, limit, norm)
    return in_one_piece(norm)


@torch.no_grad()
def update_average(state: State, decay: float) -> None:
    """Move the running mean of the weights, if there is one, toward the weights; faster in the first steps."""
    if state.average is not None:
        weight = 1 - min(decay, (1 + state.step) / (10 + state.step))
        torch._foreach_lerp_(list(state.average.values()), list(state.weights.values()), weight)


def save(state: State, config: TrainConfig, codec: Path, out: Path, accelerator: Accelerator) -> None:
    """Write a checkpoint: a complete model folder and what resuming needs. Every process must call it."""
    keep = accelerator.is_main_process
    best = best_weights(state, keep)
    document: dict[str, Any] = {"optimizer": gather_full(state.optimizer.state_dict(), keep)}
    trained = trained_parameters(state.model, state.base)
    if state.average is not None or not trained.keys() <= best.keys():  # the model folder does not hold them
        document["model"] = gather_full(trained, keep)
    if objective := state.objective.state_dict():
        document["objective"] = objective

    def write(folder: Path) -> None:
        write_result(state, best, config, codec, folder)
        write_card(folder, out)

    try:
        if keep:
            save_checkpoint(out, state.step, write, document, config.save_every)
    finally:
        accelerator.wait_for_everyone()  # a launcher ends all when one has ended


def resume(state: State, checkpoint: Path) -> None:
    """Put a checkpoint's weights, their running mean, the optimizer and the step into `state`.

    Raises one of many errors if the checkpoint is damaged or of another model; see `resume_newest`.
    """
    sharded = is_sharded(state.model)
    # Mapped rather than read where each process needs its part only.
    document = load_state(checkpoint, "cpu" if sharded else state.model.null_text.device, mapped=sharded)
    check_optimizer(state.optimizer, document["optimizer"])
    read = load_lora if state.base else model_folder.load_fitting
    weights = read(state.model, checkpoint)
    if state.average is not None:
        _write(weights, state.average)
    _write(document.get("model", weights), trained_parameters(state.model, state.base))
    _load_optimizer(state.optimizer, document["optimizer"])
    if objective := document.get("objective"):
        state.objective.load_state_dict(objective)
    state.step = document["step"]


def best_weights(state: State, keep: bool = True) -> dict[str, Tensor]:
    """Return the weights to save, gathered on the CPU; see `gather_full` for `keep`."""
    weights = state.average if state.average is not None else state.weights
    return {name: gather_full(weight, keep) for name, weight in weights.items()}


def write_result(
    state: State,
    weights: dict[str, Tensor],
    config: TrainConfig,
    codec: Path,
    folder: Path,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the folder of the model that is trained, or of the adapter."""
    if state.base:
        write_lora(weights, config.lora, state.base, folder, config.license or model_folder.UNLICENSED)
    else:
        write_model(weights, state.model.config, config, codec, folder, dtype)


def write_model(
    weights: dict[str, Tensor],
    lm_config: LMConfig,
    config: TrainConfig,
    codec: Path,
    folder: Path,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a language model's folder, its codec inside."""
    model_folder.copy_model(codec, folder / model_folder.CODEC_FOLDER)
    cast_ = {name: tensor.to(dtype) for name, tensor in weights.items()}
    model_folder.save_model(folder, "lm", lm_config, cast_, config.license or _license_with(codec))


def _license_with(codec: Path) -> str:
    """Return the license of weights that nobody has licensed, on a codec that may be under one."""
    license = model_folder.license_line(model_folder.read_license(codec))
    if license == model_folder.UNLICENSED:
        return license
    return f"{model_folder.UNLICENSED.removesuffix('.')}; the codec in codec/ is under {license}"


def _write(sources: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
    if unlike := next((name for name in targets if sources[name].shape != targets[name].shape), None):
        raise ValueError(f"{unlike} has another shape")
    copy_into(list(targets.values()), [sources[name] for name in targets])


def _load_optimizer(optimizer: torch.optim.Optimizer, document: dict[str, Any]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in cast("list[Tensor]", group["params"])]
    state = {
        number: {
            name: shard_like(value, parameters[number]) if value.shape == parameters[number].shape else value
            for name, value in entry.items()
        }
        for number, entry in document["state"].items()
    }
    optimizer.load_state_dict({**document, "state": state})
