"""One module per subcommand: flags and help, checks, a call of the library, what is printed.

prep                        recordings to manifests
train_codec, train_lm       manifests or token shards to models
tokenize                    manifests to token shards
generate, continue_,
inpaint                     text and audio to audio; `convert`: delivers existing audio
eval                        scores and reports
info                        describes a file or folder
import_                     a public checkpoint to a model folder
bench                       speed on this machine
terminal/                   options, progress and tables that commands share
"""
