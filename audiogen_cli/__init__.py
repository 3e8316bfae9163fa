"""AudioGen: text-guided audio generation (Kreuk et al. 2023) as a command-line tool and a package.

app            entry point: registers the commands, reports errors
commands/      one module per subcommand
evaluation/    metrics, listening tests, reports
lm/, codec/    the paper's two networks, their training and use
data/          recordings, manifests, token shards
training/      what both trainings share
interop/       import of public checkpoints; description of any file or folder
bench/         speed on this machine
resources/     embedded model, word vectors, WordNet, page templates
model_folder   reads and writes model folders
hub            fetches them by name
model_card     the README.md of those that a training writes
files, devices, errors, processes, lock, onnx_session: small helpers
"""
