"""A tiny checkpoint in audiocraft's export format, made from the format's description alone, and what it computes.

The language model's reference is written from the equations, in float64 and without a cache; the codec's is
transformers' EnCodec, whose weight normalisation is torch's own.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

DIM, HEADS, LAYERS, N_Q, CARD, TEXT_WIDTH = 16, 2, 2, 4, 32, 8
FILTERS, LATENT, RATIOS = 2, 6, [5, 4, 2]  # decoder's order; hop 40
DELAYS = [0, 1, 2, 3]

CONFIG = """
channels: 1
sample_rate: 16000
user: ${oc.env:USER}
efficient_attention_backend: torch
dataset: {segment_duration: 1, path: '???'}
conditioners:
  args: {merge_text_conditions_p: 0.0}
  description:
    model: t5
    t5: {name: t5-large, finetune: false, word_dropout: 0.2, normalize_text: false}
fuser: {cross_attention_pos_emb: false, cross_attention_pos_emb_scale: 1, sum: [], prepend: [], cross: [description],
  input_interpolate: []}
codebooks_pattern:
  modeling: delay
  delay: {delays: [0, 1, 2, 3], flatten_first: 0, empty_initial: 0}
interleave_stereo_codebooks: {use: false, per_timestep: false}
compression_model_n_q: null
classifier_free_guidance: {training_dropout: 0.1, inference_coef: 3.0}
transformer_lm:
  dim: 16
  num_heads: 2
  num_layers: 2
  hidden_scale: 4
  n_q: 4
  card: 32
  norm_first: true
  norm: layer_norm
  bias_proj: false
  bias_ff: false
  bias_attn: false
  activation: gelu
  positional_embedding: sin
  causal: true
  past_context: null
  memory_efficient: true
  cross_attention: false
  layer_scale: null
  qk_layer_norm: false
  kv_repeat: 1
  xpos: false
  attention_dropout: null
"""
CODEC_CONFIG = """
channels: 1
sample_rate: 16000
dora: {dir: '/checkpoint/${oc.env:USER}/x'}
compression_model: encodec
encodec: {autoencoder: seanet, quantizer: rvq, sample_rate: '${sample_rate}', channels: '${channels}', causal: false,
  renormalize: false, renorm: {strategy: null}}
quantizer: rvq
rvq: {n_q: 4, bins: 32, q_dropout: false}
seanet:
  dimension: 6
  channels: ${channels}
  causal: ${encodec.causal}
  n_filters: 2
  n_residual_layers: 1
  ratios: [5, 4, 2]
  activation: ELU
  activation_params: {alpha: 1.0}
  norm: weight_norm
  norm_params: {}
  kernel_size: 7
  last_kernel_size: 7
  residual_kernel_size: 3
  dilation_base: 2
  pad_mode: constant
  true_skip: true
  compress: 2
  lstm: 2
  disable_norm_outer_blocks: 0
  encoder: {}
  decoder: {trim_right_ratio: 1.0, final_activation: null, final_activation_params: null}
"""


def lm_state(seed: int = 0) -> dict[str, Tensor]:
    """The language model's tensors, float16 as sharded training leaves them, large enough for every part to matter."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 0.4) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).half()

    state = {f"emb.{k}.weight": random(CARD + 1, DIM) for k in range(N_Q)}
    projection = "condition_provider.conditioners.description.output_proj"
    state |= {f"{projection}.weight": random(DIM, TEXT_WIDTH), f"{projection}.bias": random(DIM)}
    for layer in range(LAYERS):
        name = f"transformer.layers.{layer}"
        for norm in ("norm1", "norm_cross", "norm2"):
            state |= {f"{name}.{norm}.weight": 1 + random(DIM), f"{name}.{norm}.bias": random(DIM)}
        for attention in ("self_attn", "cross_attention"):
            state[f"{name}.{attention}.in_proj_weight"] = random(3 * DIM, DIM)
            state[f"{name}.{attention}.out_proj.weight"] = random(DIM, DIM)
        state |= {f"{name}.linear1.weight": random(4 * DIM, DIM), f"{name}.linear2.weight": random(DIM, 4 * DIM)}
    state |= {"out_norm.weight": 1 + random(DIM), "out_norm.bias": random(DIM)}
    return state | {f"linears.{k}.weight": random(CARD, DIM) for k in range(N_Q)}


def make_encodec() -> torch.nn.Module:
    """transformers' EnCodec of the same shape as CODEC_CONFIG, its weights random."""
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(1)
    config = EncodecConfig(
        sampling_rate=16_000,
        num_filters=FILTERS,
        hidden_size=LATENT,
        codebook_dim=LATENT,
        codebook_size=CARD,
        upsampling_ratios=RATIOS,
        num_residual_layers=1,
        use_conv_shortcut=False,
        use_causal_conv=False,
        pad_mode="constant",
        normalize=False,
        target_bandwidths=[N_Q * round(math.log2(CARD)) * 16_000 / math.prod(RATIOS) / 1000],
    )
    model = EncodecModel(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("original0"):  # norms as large as keep a signal's height
            torch.nn.init.uniform_(parameter, 1.0, 2.0)
        else:
            torch.nn.init.normal_(parameter, std=0.05 if "bias" in name else 0.3)
    for name, buffer in model.named_buffers():
        if name.endswith("codebook.embed"):
            torch.nn.init.normal_(buffer, std=0.3)
    return model


def codec_state(encodec: torch.nn.Module) -> dict[str, Tensor]:
    """EnCodec's weights under audiocraft's names."""
    state = {}
    for name, value in encodec.state_dict().items():
        if "quantizer" in name:
            name = name.replace("quantizer.layers", "quantizer.vq.layers").replace(".codebook.", "._codebook.")
        else:
            kind = "convtr" if _is_transposed(name) else "conv"
            name = name.replace(".layers.", ".model.").replace(".conv.", f".{kind}.{kind}.")
            name = name.replace("parametrizations.weight.original0", "weight_g")
            name = name.replace("parametrizations.weight.original1", "weight_v")
        state[name] = value.clone()
    return state


def _is_transposed(name: str) -> bool:
    return name.startswith("decoder.") and int(name.split(".")[2]) in range(3, 3 * len(RATIOS) + 1, 3)


def write_checkpoint(folder: Path, encodec: torch.nn.Module | None = None) -> Path:
    """Write both files, as `audiocraft.utils.export` would."""
    folder.mkdir(parents=True, exist_ok=True)
    common = {"version": "1.4.0a2", "exported": True}
    torch.save({"best_state": lm_state(), "xp.cfg": CONFIG, **common}, folder / "state_dict.bin")
    codec = codec_state(encodec or make_encodec())
    torch.save({"best_state": codec, "xp.cfg": CODEC_CONFIG, **common}, folder / "compression_state_dict.bin")
    return folder


def reference_logits(tokens: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
    """tokens [B, K, S] of the delayed sequence, text [B, L, D] → float64 logits [B, K, S, V] for the next steps."""
    state = {name: value.double() for name, value in lm_state().items()}
    projection = "condition_provider.conditioners.description.output_proj"
    condition = F.linear(text.double(), state[f"{projection}.weight"], state[f"{projection}.bias"])
    condition = condition * text_mask[..., None]
    steps = tokens.shape[-1]
    half = DIM // 2
    angle = torch.arange(steps)[:, None] * 10_000.0 ** (-torch.arange(half).double() / (half - 1))
    x = sum(state[f"emb.{k}.weight"][tokens[:, k]] for k in range(N_Q)) + torch.cat([angle.cos(), angle.sin()], -1)
    for layer in range(LAYERS):
        own = {n.split(".", 3)[3]: v for n, v in state.items() if n.startswith(f"transformer.layers.{layer}.")}
        x = x + _attention(own, "self_attn", y := _norm(own, "norm1", x), y, causal=True)
        x = x + _attention(own, "cross_attention", _norm(own, "norm_cross", x), condition, causal=False)
        x = x + F.gelu(_norm(own, "norm2", x) @ own["linear1.weight"].T) @ own["linear2.weight"].T
    x = _norm(state, "out_norm", x)
    return torch.stack([x @ state[f"linears.{k}.weight"].T for k in range(N_Q)], 1)


def _norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, (DIM,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def _attention(state: dict[str, Tensor], name: str, x: Tensor, source: Tensor, causal: bool) -> Tensor:
    query, key, value = (
        (y @ part.T).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for y, part in zip((x, source, source), state[f"{name}.in_proj_weight"].split(DIM), strict=True)
    )
    scores = query @ key.transpose(-1, -2) / math.sqrt(DIM // HEADS)
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
    y = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    return y @ state[f"{name}.out_proj.weight"].T


def delayed(codes: Tensor) -> Tensor:
    """codes [B, K, T] → the sequence [B, K, 1 + T + 3], by the pattern's rule, element by element."""
    batch, n_q, frames = codes.shape
    steps = torch.full((batch, n_q, 1 + frames + max(DELAYS)), CARD)
    for k in range(n_q):
        for i in range(steps.shape[-1]):
            if 0 <= i - 1 - DELAYS[k] < frames:
                steps[:, k, i] = codes[:, k, i - 1 - DELAYS[k]]
    return steps


def reference_greedy(text: Tensor, n_frames: int, guidance: float) -> Tensor:
    """The likeliest codes [K, T] for text [L, D], step by step, without any cache."""
    codes = torch.full((1, N_Q, n_frames), CARD)
    both = torch.stack([text, torch.zeros_like(text)])
    mask = torch.tensor([[True], [False]]).expand(2, len(text))
    for step in range(n_frames + max(DELAYS)):
        sequence = delayed(codes)[..., : step + 1].expand(2, -1, -1)
        with_text, without = reference_logits(sequence, both, mask)[:, :, -1]
        logits = without + guidance * (with_text - without)
        for k, late in enumerate(DELAYS):
            if 0 <= step - late < n_frames:
                codes[0, k, step - late] = logits[k].argmax()
    return codes[0]
