"""Training the audio language model (sec. 4.1): data, model, loop. A single step is in `step.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from audiogen_cli import model_folder
from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.devices import first_of_machine, is_main_process, reuse_memory
from audiogen_cli.errors import InputError, Interrupted
from audiogen_cli.files import note
from audiogen_cli.lm.adapters import AdapterBase
from audiogen_cli.lm.config import LMConfig, TrainConfig
from audiogen_cli.lm.decoder import CodeBatch, find_decoder
from audiogen_cli.lm.flops import training_flops
from audiogen_cli.lm.model import CodeModel
from audiogen_cli.lm.probe import Probe
from audiogen_cli.lm.text.encoders import TextEncoder, load_text_encoder
from audiogen_cli.lm.training.batches import code_batches
from audiogen_cli.lm.training.codebook_init import tie_to_codebooks
from audiogen_cli.lm.training.cpu_kernels import use_cpu_kernels
from audiogen_cli.lm.training.datasets import ExampleSource, LengthBuckets, TrainingData, load_tokens, step_batches
from audiogen_cli.lm.training.lora import add_lora, check_peft
from audiogen_cli.lm.training.on_the_fly import load_recordings
from audiogen_cli.lm.training.preflight import build_config, check_start, codec_of_shards
from audiogen_cli.lm.training.previews import write_previews
from audiogen_cli.lm.training.probe import train_probe
from audiogen_cli.lm.training.state import best_weights, build_state, resume, save, write_result
from audiogen_cli.lm.training.step import train_step, try_step, validate
from audiogen_cli.model_card import write_card
from audiogen_cli.training.checkpoint import resume_newest
from audiogen_cli.training.gradient_guard import GradientGuard
from audiogen_cli.training.launch import StopSignal, start_accelerator
from audiogen_cli.training.log import RunLog, record_run, stopped_after
from audiogen_cli.training.prefetch import prefetch
from audiogen_cli.training.sampler import RankBatchSampler
from audiogen_cli.training.throughput import Throughput


def train(
    config: TrainConfig,
    tokens: str | Path | None,
    codec: str | Path,
    out: str | Path,
    manifests: str | Path | None = None,
    start_from: Path | None = None,
    trackers: Sequence[str] = (),
    encoder: TextEncoder | None = None,
) -> Path:
    """Train a language model on token shards and write its model folder to `out`. Run again, it resumes.

    manifests: a manifest or a folder of them, instead of `tokens`: recordings are then mixed and encoded on the fly.
    codec: the codec's model folder, copied into every model folder written. start_from: folder of a language model
    whose weights to begin with. trackers: names of accelerate's trackers, which get all metrics. encoder: one of your
    own in place of `config.text`; generating with the model then takes it, too (`Generator.load`). The number of
    processes may change between runs. Raises InputError if data, codec, the model to begin with or an earlier run in
    `out` do not fit, AudiogenError if step after step has no finite gradient or the disk is full.
    """
    tokens, manifests = (None if each is None else Path(each) for each in (tokens, manifests))
    out = Path(out)
    codec = model_folder.find_codec(codec) if isinstance(codec, str) else codec
    if tokens is not None:
        codec = codec_of_shards(tokens, codec)
    accelerator = _start(config, out, trackers)
    device, main = accelerator.device, accelerator.is_main_process

    # What to train on, and the model that fits it
    with first_of_machine():  # which may have to fetch it
        encoder = encoder or load_text_encoder(config.text, device)
    with accelerator.main_process_first():  # the first builds the memory-mapped files, the others find them
        data = load_tokens(config, tokens) if tokens else load_recordings(config, _given(manifests), codec, device)
    base = model_folder.load_config(start_from, "lm", LMConfig) if start_from else None
    codec_fingerprint = data.meta.codec_fingerprint
    lm_config = build_config(config, data.meta, encoder.width, encoder.fingerprint, codec_fingerprint, base)
    if start_from:
        check_start(start_from, lm_config)
        # What is made of another's weights is under the license of those.
        config = replace(config, license=config.license or model_folder.read_license(start_from))
    if main:
        record_run(out, config, _inputs(data, encoder, manifests, start_from))

    # The model, new or where the run stopped
    torch.manual_seed(config.seed)
    adapted = _adapter_base(start_from) if config.lora.rank else None
    model = build_model(config, lm_config, codec, start_from, device)
    state = build_state(model, config, accelerator, adapted)
    resume_newest(out, partial(resume, state), note if main else str)

    log = RunLog(out, state.step, config.max_steps, config.log_every, main, _tracker(trackers, accelerator))
    buckets = LengthBuckets(data.train, config.optim.batch_size, config.bucket_steps, config.seed)
    if state.step < config.max_steps:
        trial = try_step(state, encoder, config, accelerator)
        log.say_trial(replace(trial, seconds=trial.seconds * buckets.mean_length(state.step) / lm_config.max_frames))
        config = replace(config, optim=replace(config.optim, micro_batch=trial.micro_batch))

    # The examples of every step, and this process's share
    steps, share = range(state.step, config.max_steps), (accelerator.process_index, accelerator.num_processes)
    sampler = RankBatchSampler(buckets.step, steps, *share, config.optim.micro_batch)
    batches = prefetch(code_batches(step_batches(data.train, sampler, config.workers), encoder, lm_config, device))

    throughput = Throughput(device, accelerator.num_processes)
    guard = GradientGuard(out)
    with log, StopSignal() as stop, closing(batches):
        if data.validation is None:
            log.say("no rows of split val: there will be no validation loss")
        while state.step < config.max_steps:
            with throughput.waiting():
                micro_batches = next(batches)
            lengths = buckets.lengths(state.step)
            n_frames = sum(lengths)
            metrics = train_step(state, micro_batches, n_frames, config, accelerator, stop.asked)
            if metrics is None:
                save(state, config, codec, out, accelerator)
                raise Interrupted(stopped_after(state.step))
            state.step += 1
            finite = math.isfinite(metrics["grad_norm"])
            if skipped := guard.note(state.step, finite, [] if finite else _all_ids(micro_batches)):
                log.say(f"warning: {skipped}")
            throughput.add(n_frames * lm_config.n_q, _flops(accelerator, lm_config, lengths))
            log.advance(state.step)
            log.leave_out({failure: failure for batch in micro_batches for failure in batch.failures})
            if log.due(state.step):
                log.write(state.step, {**metrics, **guard.metrics(), **throughput.read()})
            last = state.step == config.max_steps
            with throughput.paused():
                if data.validation is not None and (state.step % config.validate_every == 0 or last):
                    validate(state, data.validation, encoder, config, accelerator, log)
                if config.previews.every and state.step % config.previews.every == 0:
                    write_previews(state, config.previews, codec, encoder, out, accelerator)
                stopped = stop.agreed(accelerator)
                if state.step % config.save_every == 0 or last or stopped:
                    save(state, config, codec, out, accelerator)
            if stopped and not last:
                raise Interrupted(stopped_after(state.step))

    weights = best_weights(state, main)
    if main:
        write_result(state, weights, config, codec, out, getattr(torch, config.weights_dtype))
    accelerator.wait_for_everyone()
    is_adapter = state.base is not None
    del model, state, weights
    accelerator.free_memory()  # the probe loads the finished model
    if not is_adapter:
        write_probe(config, data.train, encoder, out, device, log.say, start_from)
    if main:
        write_card(out, out)
    accelerator.wait_for_everyone()
    if trackers:
        accelerator.end_training()
    return out


def build_model(
    config: TrainConfig, lm_config: LMConfig, codec: Path, start_from: Path | None, device: torch.device
) -> CodeModel:
    """Return a fresh model, with the weights in `start_from` if given. Raises InputError if they do not fit."""
    model = find_decoder(lm_config).build(lm_config).to(device)
    use_cpu_kernels(model)
    if config.codebooks:
        tie_to_codebooks(model, AudioCodec.load(codec, device))
    if start_from:
        model_folder.load_into(model, start_from)
    freeze(model, config.freeze)
    if lm_config.text_padding == "zeros":
        model.null_text.requires_grad_(False)  # not in use: the processes of a launch would wait for its gradient
    if config.lora.rank:
        add_lora(model, config.lora)
    return model


def freeze(model: CodeModel, parts: Sequence[str]) -> None:
    """Keep parts of a model as they are: those whose names begin so. Raises InputError if there is none of a name."""
    for part in parts:
        found = [weight for name, weight in model.named_parameters() if f"{name}.".startswith(f"{part}.")]
        if not found:
            known = ", ".join(dict(model.named_children()))
            raise InputError(f"freeze: the model has no part '{part}'; it has {known}, and blocks.0 to blocks.N")
        for weight in found:
            weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise InputError("freeze: nothing would be left to train")


def write_probe(
    config: TrainConfig,
    source: ExampleSource,
    encoder: TextEncoder,
    out: Path,
    device: torch.device,
    say: Callable[[str], None],
    start_from: Path | None = None,
) -> None:
    """Make the finished model's probe, in all processes, and write it into its folder.

    If the recipe wants none, that of the model it began with, if any, is kept.
    """
    main = is_main_process()
    if main:
        (out / model_folder.PROBE_FILE).unlink(missing_ok=True)
    if main and start_from and not config.probe_samples and (kept := Probe.load(start_from)):
        kept.save(out)
    if not config.probe_samples or config.text.kind == "lookup":  # a probe predicts vectors, not numbers of words
        return
    say(f"making the probe from {min(config.probe_samples, len(source))} samples")
    model = find_decoder(model_folder.load_config(out, "lm", LMConfig)).model_class().load(out, device)
    probe = train_probe(model, source, encoder, config.probe_samples, config.optim.micro_batch)
    if main and probe:
        probe.save(out)


def _start(config: TrainConfig, out: Path, trackers: Sequence[str]) -> Accelerator:
    """Start accelerate's processes. Raises InputError if they cannot share the recipe's batch."""
    accelerator = start_accelerator(config.precision, log_with=list(trackers) or None, project_dir=out)
    if accelerator.device.type == "cpu":
        reuse_memory()
    size, processes = config.optim.batch_size, accelerator.num_processes
    if size < processes:
        raise InputError(f"optim.batch_size {size} is less than {processes} processes")
    if config.distributed == "fsdp" and size % processes:
        raise InputError(f"optim.batch_size {size} cannot be shared evenly by {processes} processes: fsdp needs that")
    return accelerator


def _adapter_base(start_from: Path | None) -> AdapterBase:
    if start_from is None:
        raise InputError("an adapter (lora.rank) changes a model that is there: give --from MODEL")
    check_peft()
    return AdapterBase(model_folder.fingerprint(start_from), str(start_from))


def _given(manifests: Path | None) -> Path:
    if manifests is None:
        raise InputError("give token shards or manifests to train on")
    return manifests


def _inputs(
    data: TrainingData, encoder: TextEncoder, manifests: Path | None, start_from: Path | None
) -> dict[str, Any]:
    """Return what a run depends on besides its recipe."""
    inputs: dict[str, Any] = {"codec": data.meta.codec_fingerprint, "text": encoder.fingerprint}
    inputs |= {"rows": len(data.train), **({"source": "manifests"} if manifests else {})}
    if data.digest:
        inputs["training_data"] = data.digest
    inputs["datasets"] = list(data.datasets)
    if start_from:
        inputs["start_from"] = model_folder.fingerprint(start_from)
        inputs["base_model"] = model_folder.model_name(start_from)
    return inputs


def _flops(accelerator: Accelerator, lm_config: LMConfig, lengths: Sequence[int]) -> float:
    """Count the operations of a step of examples of so many frames, if it is in bfloat16, whose peak is known."""
    return sum(training_flops(lm_config, n) for n in lengths) if accelerator.mixed_precision == "bf16" else 0.0


def _tracker(trackers: Sequence[str], accelerator: Accelerator) -> Callable[..., None] | None:
    if not trackers:
        return None
    accelerator.init_trackers("audiogen")
    return lambda numbers, step: accelerator.log(dict(numbers), step=step)


def _all_ids(micro_batches: Sequence[CodeBatch]) -> list[str]:
    """Return the ids of a step's examples in all processes. Every process must call it."""
    ids: list[str] = gather_object([id for batch in micro_batches for id in batch.ids])
    return ids
