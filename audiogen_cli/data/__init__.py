"""Recordings, their texts, and the files between the stages; no module but mixing imports torch.

audio, wav_stream         audio files: probe, read, write; sound written while it is generated
loudness                  levels, LUFS, thresholds of silence
captions                  the paper's text rules, with WordNet's lemmas
manifest, shards, totals  clips of a dataset; codes of clips; totals of both
windows, augment, mixing  parts of clips of at most 10 s; speed, loop-filling, mixing
tables, mapped_parquet    CSV published by others; Parquet mapped into memory
datasets/                 one module per dataset
headers/                  audio files whose headers are wrong, corrected while they are read
preparation/              `audiogen prep`: from raw folders to manifests
"""
