"""Floating-point operations of training the language model, for utilization and projections."""

from __future__ import annotations

from audiogen_cli.lm.config import LMConfig

BACKWARD = 2  # a backward pass costs two forward passes


def training_flops(config: LMConfig, n_frames: float, n_text: float = 0) -> float:
    """Count the operations of one sample's step, forward and backward, without any that are computed twice.

    n_frames: of the sample; n_text: its text's positions. A multiplication with its addition counts two; causal
    attention counts the half that it looks at, diffusion's all; norms, activations and look-ups count nothing.
    """
    d, layers = config.dim, config.n_layers
    steps = n_frames + max(config.stream_delays)
    prefix = n_text if config.text_prefix else 0
    length = steps + prefix
    linear = (4 + 2 * config.ff_scale) * d * d * length
    attention = length * length * d * (1 + (config.decoder == "diffusion"))  # scores and values: 2 · (S/2) · d a step
    if config.cross_attention:
        linear += 2 * d * d * (length + n_text)  # queries and results; keys and values of the text
        attention += 2 * length * n_text * d
    heads = steps * d * config.n_q * config.codebook_size
    return 2 * (1 + BACKWARD) * (layers * (linear + attention) + heads)
