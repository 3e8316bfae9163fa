"""Speed on this machine, beside a limit or a peer (`audiogen bench`).

timing      runs several functions in turn and reports their seconds
codec       encoding and decoding, beside transformers' EncodecModel
decode      decoding steps, beside the memory's bandwidth and transformers' MusicGen
passes      whole sounds through the diffusion decoder
start       whole processes, beside `import torch`
train_step  a training step, beside transformers' GPT-2
data        prep and tokenize, beside plain soundfile and soxr

All models have random weights, because speed does not depend on them. Ratios compare runs that
took turns, so a busy machine slows both alike.
"""
