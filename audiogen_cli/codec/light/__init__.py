"""The light codec, # ours: an encoder and a decoder on STFT frames (`codec.network.kind: spectral`).

spectral    log-mel spectrograms, their principal components as latents, and sound from them
flow        a flow model that generates the detail which codes omit
phases      first phases where only magnitudes are known: a tone's or noise's
train_step  one training step, and the start from principal components

It offers `codec.model` what SEANet does: an encoder, a decoder, and both as streaming layers.
"""
