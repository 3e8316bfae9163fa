"""Shared by the trainings of codec and language model.

recipe, old_settings        YAML to a checked config, learning rates; settings of older versions
settings                    every key of a recipe with its meaning, for --settings and for suggestions after a typo
sampler, prefetch           the order of examples and each process's share; reading ahead
checkpoint, sharding        folders to resume from; parameters spread over processes (FSDP)
launch, torchrun            processes of a launch, signals that stop them
log, throughput             progress and metrics.jsonl; speed and memory
gradient_guard              steps whose gradient is not finite
"""
