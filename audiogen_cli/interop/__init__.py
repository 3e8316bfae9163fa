"""Formats of others, and descriptions of files and folders.

audiocraft         reads public checkpoints in audiocraft's format and renames their tensors
import_audiocraft  builds a model folder from them, or of a model and its adapters (`audiogen import`)
describe           tells what a manifest, shard folder, model, run or audio file is (`audiogen info`)
models             the models that can be used
reproduce          the command that made a sound
"""
