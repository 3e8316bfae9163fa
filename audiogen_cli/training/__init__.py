"""Shared by the trainings of codec and language model.

recipe, old_settings        YAML to a checked config; settings of older versions
sampler, prefetch           the order of examples and each process's share; reading ahead
schedule                    learning rates
checkpoint, sharding        folders to resume from; parameters spread over processes (FSDP)
launch, torchrun            processes of a launch, signals that stop them
log, throughput             progress and metrics.jsonl; speed and memory
"""
