"""One step of a training and its validation, whatever the decoder; and the language model's objective (sec. 3.2 eq. 3):
cross-entropy on codes, given text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from audiogen_cli.lm.config import TrainConfig
from audiogen_cli.lm.decoder import CodeBatch, Objective
from audiogen_cli.lm.model import LMOutput
from audiogen_cli.lm.text.encoders import TextEncoder
from audiogen_cli.lm.training.batches import encode_texts
from audiogen_cli.lm.training.datasets import Batch, ExampleSource, collate
from audiogen_cli.lm.training.state import State, clip_gradients, update_average
from audiogen_cli.training.log import RunLog
from audiogen_cli.training.recipe import learning_rate
from audiogen_cli.training.sampler import seed_step, spread_evenly
from audiogen_cli.training.sharding import is_sharded, local_bytes, sharing_gradients
from audiogen_cli.training.throughput import Trial, try_micro_batches

TRIED_TEXT = "a dog barks in the rain"
GRAD_CLIP = 1.0  # largest gradient norm; ours: GPT-3's


def lm_loss(output: LMOutput, codes: Tensor) -> Tensor:
    """Return the cross-entropy of codes [B, K, T] (eq. 3) in nats, summed over real frames: [K], one sum per stream."""
    targets = codes.masked_fill(~output.mask, -1)
    losses = F.cross_entropy(output.logits.float().flatten(0, 2), targets.flatten(), ignore_index=-1, reduction="none")
    return losses.unflatten(0, codes.shape).sum((0, 2))


def train_step(
    state: State,
    micro_batches: Sequence[CodeBatch],
    n_frames: int,
    config: TrainConfig,
    accelerator: Accelerator,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Make one optimizer step; return what to log.

    stop: asked before each micro-batch, if this is the only process; if it is true, nothing is changed and None
    returned. n_frames: frames of the whole step in all processes. Divided by it, the gradient is that of one large
    batch, however the examples are distributed.
    """
    optim = config.optim
    rate = learning_rate(state.step, optim.lr, optim.schedule, optim.warmup_steps, config.max_steps)
    seed_step(config.seed, state.step, accelerator.process_index)
    state.model.train()
    sums = torch.zeros(state.model.config.n_q + 1, device=accelerator.device)  # per stream, and the frames
    for number, batch in enumerate(micro_batches):
        if accelerator.num_processes == 1 and stop():  # several share gradients in the last one: none may leave
            state.optimizer.zero_grad(set_to_none=True)
            return None
        with sharing_gradients(state.network, number == len(micro_batches) - 1):
            losses = _losses(state, state.network, batch, accelerator, state.step, config.text_noise)
            # The mean over streams and frames; DDP and FSDP divide by the processes; the factor undoes that.
            accelerator.backward(losses.mean() * (accelerator.num_processes / n_frames))
        sums[:-1] += losses.detach()
        sums[-1] += batch.frames_mask.sum()  # fewer than n_frames where audio could not be read
    norm = clip_gradients(state, GRAD_CLIP)
    *losses_, n_read, grad_norm = torch.cat([accelerator.reduce(sums, "sum"), norm[None]]).tolist()  # waits for the GPU
    if math.isfinite(grad_norm):  # else the step is skipped: the weights stay as they are
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.step()
        update_average(state, config.ema_decay)
    state.objective.end_step(accelerator)
    state.optimizer.zero_grad(set_to_none=True)
    return {**_means([loss / max(1.0, n_read) for loss in losses_]), "grad_norm": grad_norm, "lr": rate}


def try_step(state: State, encoder: TextEncoder, config: TrainConfig, accelerator: Accelerator) -> Trial:
    """Try micro-batches of the longest examples; see `Trial`. Where not one fits, activations are computed twice."""
    shape = state.model.config

    def run(n: int) -> None:
        codes = torch.zeros(n, shape.n_q, shape.max_frames, dtype=torch.int64)
        mask = torch.ones(n, shape.max_frames, dtype=torch.bool)
        state.model.train()
        batch = encode_texts(Batch([""] * n, codes, mask, [TRIED_TEXT] * n), encoder, shape, accelerator.device)
        try:
            # DDP's other processes need not wait; FSDP would keep what it has not shared for the first step.
            with sharing_gradients(state.network, is_sharded(state.model)):
                accelerator.backward(_losses(state, state.network, batch, accelerator).mean())
        finally:
            state.optimizer.zero_grad(set_to_none=True)

    own = -(-config.optim.batch_size // accelerator.num_processes)
    wanted, fresh = min(config.optim.micro_batch, own), not state.optimizer.state
    later = sum(2.0 * local_bytes(parameter) for parameter in state.parameters) * fresh  # Adam's moments
    # Until a step's last micro-batch FSDP keeps whole gradients.
    whole = sum(float(parameter.nbytes) for parameter in state.parameters) * is_sharded(state.model)
    # Compiled code for one example serves no others.
    smallest = 2 if config.compile else 1

    def attempt() -> Trial:
        return try_micro_batches(run, wanted, own, later, accelerator, smallest, accumulated=whole)

    trial = attempt()
    if trial.fits or state.model.checkpointing:
        return trial
    state.model.checkpointing = True
    return replace(attempt(), recomputed=True)


@torch.no_grad()
def validate(
    state: State, data: ExampleSource, encoder: TextEncoder, config: TrainConfig, accelerator: Accelerator, log: RunLog
) -> None:
    """Log the loss on at most `validate_samples` rows, evenly spaced: from the beginning, with the first text.

    Recordings that cannot be read are left out and named; if there are no others, there is nothing to log.
    """
    size, chosen = config.optim.micro_batch, spread_evenly(len(data), config.validate_samples)
    own = chosen[accelerator.process_index :: accelerator.num_processes]
    sums = torch.zeros(state.model.config.n_q + 1, device=accelerator.device)  # per stream, and the frames
    with state.best() as model:
        model.eval()
        # Equally many batches in every process, empty ones if need be: all gather sharded weights together.
        for start in range(0, math.ceil(len(chosen) / accelerator.num_processes), size):
            rows = own[start : start + size]
            batch = collate([data.validation_example(row) for row in rows or chosen[:1]])
            if config.text_dropout == 1:  # no text has been read, and none would be understood
                batch = replace(batch, texts=[None] * len(batch.texts))
            read = encode_texts(batch, encoder, model.config, accelerator.device)
            sums[:-1] += _losses(state, model, read, accelerator) * bool(rows)
            sums[-1] += int(batch.frames_mask.sum()) * bool(rows)
            log.leave_out({failure: failure for failure in batch.failures if rows})
    sums = accelerator.reduce(sums, "sum")
    if not sums[-1]:
        return log.say("warning: no row of split val can be read: there is no validation loss")
    log.write(state.step, _means((sums[:-1] / sums[-1]).tolist()), "val")


def corrupt_codes(codes: Tensor, frames_mask: Tensor, share: float) -> Tensor:
    """Replace a `share` of codes [B, K, T] by the codes of another example of the micro-batch at the same place.

    frames_mask: [B, T] bool, False on padding, which replaces nothing. An only example gets codes of its own, from
    other places.
    # ours: the codes that a model reads while it generates are never quite those it learned from, and they tell it more
    than the text does. So each example has a share of its own, from none to all, with the mean `share`: with most codes
    from another example, the model learns to rely on the text.
    """
    if not share:
        return codes
    own = torch.rand(len(codes), 1, 1, device=codes.device) ** (1 / share - 1)
    replaced = torch.rand(codes.shape, device=codes.device) < own
    if len(codes) > 1:
        return torch.where(replaced & frames_mask.roll(1, 0)[:, None], codes.roll(1, 0), codes)
    order = torch.rand(codes.shape[-1], device=codes.device).masked_fill(~frames_mask[0], torch.inf).argsort()
    return torch.where(replaced, codes[..., order], codes)  # padding last, so that it replaces padding only


def add_text_noise(text: Tensor, most: float) -> Tensor:
    """Add noise of up to `most` times their length to text vectors [B, L, D]; the sum keeps about that length.

    # ours: a word that no training text has is between words that they have. Each example has a strength of its own,
    uniform from 0 to `most`, so that a model learns the neighborhood of a word along with the word.
    """
    if not most:
        return text
    strength = most * torch.rand(len(text), 1, 1, device=text.device)
    noise = torch.randn_like(text) * (text.norm(dim=-1, keepdim=True) / math.sqrt(text.shape[-1]))
    return (text + strength * noise) / (1 + strength**2).sqrt()


class NextCodes(Objective):
    """Predict every code from those before it (eq. 3), some of which are `code_dropout`'s in a training."""

    def __init__(self, code_dropout: float = 0.0) -> None:
        self.code_dropout = code_dropout

    def losses(self, network: Callable[..., LMOutput], batch: CodeBatch, step: int | None) -> Tensor:
        """Return `lm_loss`."""
        read = corrupt_codes(batch.codes, batch.frames_mask, 0.0 if step is None else self.code_dropout)
        return lm_loss(network(read, batch.text, batch.text_mask, batch.frames_mask), batch.codes)


def _losses(
    state: State,
    network: nn.Module,
    batch: CodeBatch,
    accelerator: Accelerator,
    step: int | None = None,
    text_noise: float = 0.0,
) -> Tensor:
    """Return the loss sums [K] of a micro-batch; step: None to validate.

    Nothing waits for a GPU, but for the lengths that diffusion draws by.
    """
    batch = batch.map(lambda tensor: tensor.to(accelerator.device, non_blocking=True))
    batch = replace(batch, text=add_text_noise(batch.text, text_noise))

    def forward(*inputs: Tensor) -> LMOutput:
        with accelerator.autocast():
            output: LMOutput = network(*inputs)
        return output

    return state.objective.losses(forward, batch, step)


def _means(losses: Sequence[float]) -> dict[str, float]:
    each = {f"loss_{k}": loss for k, loss in enumerate(losses)} if len(losses) > 1 else {}
    return {"loss": sum(losses) / len(losses), **each}
