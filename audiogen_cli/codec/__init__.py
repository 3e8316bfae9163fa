"""The neural codec (sec. 3.1): audio to streams of codes and back; its training; token shards.

config                             settings of a codec and of its training
model                              encoder E, quantizer Q, decoder G: whole signals, or block by block
seanet, quantizer                  the paper's networks on the waveform; vector and residual quantization
streaming                          layers that take a signal block by block
losses, discriminators             l_t, l_f, l_g, l_feat; the multi-scale STFT discriminators
train, train_step, dataset         the training loop, one step, random crops of clips
tokenize, batch_encoder            manifests to token shards; batches whose codes are each row's own
light/                             # ours: networks on STFT frames, for models that run on a laptop
"""
