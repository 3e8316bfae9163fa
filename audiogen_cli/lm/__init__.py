"""The language model: text to codes (sec. 3.2), its training (sec. 4.1) and generation.

config           settings of a model and of its training
sampling_config  sampling settings: flags, prompt columns and a model's defaults in one place
model            the model p(codes | text): streams of codes in and out, delays, the forward pass for training
decoder          the two decoders, autoregressive and diffusion, and the choice between them
transformer      its blocks: causal self-attention, cross-attention, feed-forward
sampling         guidance (eq. 4), temperature, top-k, top-p, the draw
adapters         LoRA adapters: found, read, added to a model's weights
probe            # ours: a linear map that judges how well a sound fits a text
flops            arithmetic of a training step
diffusion/       the second decoder: all codes at once, in several passes
text/            text encoders
decoding/        step by step: requests, continuous batch, backends
generation/      prompts to sound files
training/        data, loop, checkpoints, previews
"""
