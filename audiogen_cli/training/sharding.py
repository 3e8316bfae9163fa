"""Parameters in one piece or sharded over processes (FSDP): the same checkpoint fits both, on any number of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed import new_subgroups_by_enumeration
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from audiogen_cli.devices import WAIT, count_local_processes


def shard(model: nn.Module, units: Iterable[nn.Module], device: torch.device, processes: int, bf16: bool) -> None:
    """Spread the parameters of `model` over processes, in place; each of `units` is gathered when it is used.

    Over those of a machine: machines hold the same, so that between them only gradients pass (HSDP). With one process
    a machine, over all.

    ours: torch's own `fully_shard`, which accelerate's plugin calls on GPUs only; here it is tested on CPUs.
    bf16: gather weights as bfloat16 (on a GPU); gradients are summed in float32 anyway.
    """
    from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

    on_machine = count_local_processes()
    mesh = init_device_mesh(device.type, (processes,))
    if 1 < on_machine < processes and processes % on_machine == 0:
        ranks = torch.arange(processes).view(-1, on_machine)
        # In torch's own groups the others would wait for 10 minutes while one process writes a checkpoint.
        groups: list[Any] = [new_subgroups_by_enumeration(each.tolist(), WAIT)[0] for each in (ranks.T, ranks)]
        mesh = DeviceMesh.from_group(groups, device.type, ranks, mesh_dim_names=("machines", "gpus"))
    half = torch.bfloat16 if bf16 and device.type == "cuda" else None
    for unit in units:
        fully_shard(unit, mesh=mesh, mp_policy=precision_policy(half))
    # Embeddings, positions and the last norm in float32: the residual stream has their type.
    fully_shard(model, mesh=mesh, mp_policy=precision_policy(None))


def precision_policy(dtype: torch.dtype | None) -> MixedPrecisionPolicy:
    """Gather weights as `dtype` (None: as they are) and sum gradients in float32; autocast decides about inputs."""
    return MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)


@contextmanager
def sharing_gradients(network: nn.Module, share: bool) -> Iterator[None]:
    """Let backward passes share gradients between processes, or leave that to a later one of the step.

    network: sharded, or DDP around a model, or a model alone.
    """
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(share)
        yield
    else:
        with nullcontext() if share else getattr(network, "no_sync", nullcontext)():
            yield


def is_sharded(model: nn.Module) -> bool:
    """Return whether `shard` has spread the model's parameters."""
    return isinstance(model, FSDPModule)


def reshard(model: nn.Module) -> None:
    """Free what a forward pass gathered, if no backward pass follows."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def local_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor in this process: of its own part where it is sharded."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes


def gather_full(value: Any, keep: bool = True) -> Any:
    """Bring to the CPU all tensors inside `value` (lists, dicts), in one piece; those that are so are not copied.

    Every process must call it alike; with keep=False a process takes part but keeps nothing (None for a tensor).
    """
    if isinstance(value, dict):
        return {key: gather_full(each, keep) for key, each in value.items()}
    if isinstance(value, list):
        return [gather_full(each, keep) for each in value]
    if not isinstance(value, Tensor):
        return value
    tensor = in_one_piece(value.detach())
    return tensor.cpu() if keep else None


def in_one_piece(tensor: Tensor) -> Tensor:
    """Gather a tensor where it is sharded; every process must call it."""
    if not isinstance(tensor, DTensor):
        return tensor
    if tensor.device.type == "cpu" and tensor.placements[-1] == Shard(0):
        return _gather_rows(tensor)
    return tensor.full_tensor()


def _gather_rows(tensor: DTensor) -> Tensor:
    """Gather rows cut by `fully_shard`, on a CPU.

    Not with `full_tensor`: of the operation that it takes, gloo's threads copy the name outside their lock, and a name
    too long for a string to hold in place (ALLGATHER_COALESCED) may be freed twice (seen in torch 2.14).
    """
    group, part = tensor.device_mesh.get_group(-1), tensor.to_local()
    processes = distributed.get_world_size(group)
    rows = -(-len(tensor) // processes)  # of the first; the last ones may have fewer, or none
    padded = torch.cat([part, part.new_zeros(rows - len(part), *part.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(processes)]
    distributed.all_gather(parts, padded, group)
    return torch.cat(parts)[: len(tensor)]


def shard_like(tensor: Tensor, reference: Tensor) -> Tensor:
    """Copy a whole tensor, placed (and cut) as `reference` of the same shape is. No process talks to another."""
    moved = tensor.to(reference.device, copy=True)
    if not isinstance(reference, DTensor):
        return moved
    return distribute_tensor(moved, reference.device_mesh, reference.placements, src_data_rank=None)


@torch.no_grad()
def copy_into(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy sources, if there are any, into targets; each source is placed as its target is, or whole."""
    for target, source in zip(targets if sources else [], sources, strict=True):
        placed = isinstance(source, DTensor) or not isinstance(target, DTensor)
        target.copy_(source if placed else shard_like(source, target))
