"""The light codec, # ours: an encoder and a decoder on STFT frames (`codec.network.kind: spectral`).

spectral    log-mel spectrograms, their principal components as latents, and sound from them
flow        a flow that draws the detail which a few codes leave out
train_step  one training step, and the start from principal components

It gives `codec.model` what SEANet gives: an encoder, a decoder, and both as streaming layers.
"""
