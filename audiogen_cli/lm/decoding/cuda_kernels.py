"""Triton kernels of a decoding step. Importing this needs triton; compiling them, when first run, a C compiler.

A step reads all weights for a handful of rows, and most kernels would take longer to launch than to run. So each
product takes its LayerNorm, bias, GELU and residual with it, and attention writes the new key and value itself. Every
row is rounded alike whatever is beside it: sums run over blocks of a fixed size in a fixed order, attention splits a
row's own positions into parts of a fixed length, and what depends on other rows is no constant, so that one compiled
kernel serves all.
"""

# mypy: ignore-errors
# ruff: noqa: N803 (what the compiler must know beforehand is in capitals, as in triton's own code)
from __future__ import annotations

import triton
import triton.language as tl

# Shapes: n sequences, R rows, K streams, V codes, d width, H heads, E = d / H, C cached positions, S parts of them.


@triton.jit(do_not_specialize=["n_slots"])
def embed(steps, at, start, delays, n_prefix, table, vectors, x, positions, n_slots, n_steps, DIM: tl.constexpr,
          STREAMS: tl.constexpr, SPECIAL: tl.constexpr, MEAN: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Write a row's input x [R, d] and position [R]: one program a row. steps: [n, K, n_steps]; table: [K (V + 1), d].

    Frames before a window are hidden behind the special token; vectors: those of positions, [C, d].
    """
    row = tl.program_id(0)
    slot = row % n_slots
    here = tl.load(at + slot)
    local = here - tl.load(start + slot)
    position = tl.load(n_prefix + row) + local
    tl.store(positions + row, position)
    columns = tl.arange(0, BLOCK)
    total = tl.full((BLOCK,), 0.0, tl.float32)
    for k in range(STREAMS):
        token = tl.load(steps + (slot * STREAMS + k) * n_steps + here)
        token = tl.where(local <= tl.load(delays + k), SPECIAL, token) + k * (SPECIAL + 1)
        total += tl.load(table + token * DIM + columns, mask=columns < DIM)
    if MEAN:
        total /= STREAMS
    total += tl.load(vectors + position * DIM + columns, mask=columns < DIM)
    tl.store(x + row * DIM + columns, total, mask=columns < DIM)


@triton.jit(do_not_specialize=["n_rows"])
def multiply(x, scale, shift, weight, bias, out, n_rows, EPSILON: tl.constexpr, INPUTS: tl.constexpr,
           OUTPUTS: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr, GELU: tl.constexpr, ADD: tl.constexpr,
           ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):  # fmt: skip
    """Compute out [R, outputs] = (x or its LayerNorm) [R, inputs] · weightᵀ + bias, then its GELU or added to out."""
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None]
    is_row, is_column = rows < n_rows, columns < OUTPUTS
    depth = tl.arange(0, DEPTH)
    mean = tl.full((ROWS, 1), 0.0, tl.float32)
    deviation = tl.full((ROWS, 1), 1.0, tl.float32)
    if NORM:
        total = tl.full((ROWS, DEPTH), 0.0, tl.float32)
        for first in range(0, INPUTS, DEPTH):
            inside = first + depth[None] < INPUTS
            total += tl.load(x + rows * INPUTS + first + depth[None], mask=is_row & inside, other=0.0)
        mean = tl.sum(total, 1, keep_dims=True) / INPUTS
        total = tl.full((ROWS, DEPTH), 0.0, tl.float32)
        for first in range(0, INPUTS, DEPTH):
            inside = is_row & (first + depth[None] < INPUTS)
            centered = tl.load(x + rows * INPUTS + first + depth[None], mask=inside, other=0.0) - mean
            total += tl.where(inside, centered * centered, 0.0)
        deviation = tl.sqrt(tl.sum(total, 1, keep_dims=True) / INPUTS + EPSILON)
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for first in range(0, INPUTS, DEPTH):
        inputs = first + depth
        values = tl.load(x + rows * INPUTS + inputs[None], mask=is_row & (inputs[None] < INPUTS), other=0.0)
        if NORM:
            values = (values - mean) / deviation * tl.load(scale + inputs, mask=inputs < INPUTS, other=0.0)[None]
            values += tl.load(shift + inputs, mask=inputs < INPUTS, other=0.0)[None]
        weights = tl.load(
            weight + columns * INPUTS + inputs[:, None], mask=is_column & (inputs[:, None] < INPUTS), other=0.0
        )
        total = tl.dot(values.to(weights.dtype), weights, total, input_precision="ieee")
    if BIAS:
        total += tl.load(bias + columns, mask=is_column, other=0.0)
    if GELU:
        total *= 0.5 * (1 + tl.erf(total * 0.7071067811865476))
    places = out + rows * OUTPUTS + columns
    if ADD:
        total += tl.load(places, mask=is_row & is_column)
    tl.store(places, total, mask=is_row & is_column)


@triton.jit(do_not_specialize=["n_columns"])
def attend(query, stride, key, value, last, parts, sums, out, n_columns, part_length, scale, HEADS: tl.constexpr,
           SIZE: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr, APPEND: tl.constexpr,
           WHOLE: tl.constexpr):  # fmt: skip
    """Attend with one query a row and head to a part of its positions 0 … last[row]: program (row · H + head, part).

    query: [R, H, E], rows `stride` apart; key, value: [R, H, C, E]. APPEND: the key and value of position last[row]
    follow the query and are written here. WHOLE: there is one part; writes out [R, H, E]. Else writes the part's sum of
    values, weighted by exp(score - the largest), to parts [R · H, S, E], and (largest, sum of weights) to sums
    [R · H, S, 2].
    """
    pair, part = tl.program_id(0), tl.program_id(1)
    row, head = pair // HEADS, pair % HEADS
    end = tl.load(last + row) + 1
    first = part * part_length
    if first < end:
        sizes = tl.arange(0, PADDED)
        is_size = sizes < SIZE
        source = query + row.to(tl.int64) * stride + head * SIZE + sizes
        cache = pair.to(tl.int64) * n_columns * SIZE
        asked = tl.load(source, mask=is_size, other=0.0).to(tl.float32) * scale
        n_cached = end
        if APPEND:
            n_cached -= 1
            new_key = tl.load(source + HEADS * SIZE, mask=is_size, other=0.0)
            new_value = tl.load(source + 2 * HEADS * SIZE, mask=is_size, other=0.0)
            if n_cached < first + part_length:
                tl.store(key + cache + n_cached * SIZE + sizes, new_key, mask=is_size)
                tl.store(value + cache + n_cached * SIZE + sizes, new_value, mask=is_size)
        largest = -float("inf")
        weight = 0.0
        total = tl.full((PADDED,), 0.0, tl.float32)
        for begin in range(first, tl.minimum(first + part_length, end), BLOCK):
            columns = begin + tl.arange(0, BLOCK)
            places = cache + columns[:, None] * SIZE + sizes[None]
            cached = (columns < n_cached)[:, None] & is_size[None]
            keys = tl.load(key + places, mask=cached, other=0.0).to(tl.float32)
            values = tl.load(value + places, mask=cached, other=0.0).to(tl.float32)
            if APPEND:
                is_new = (columns == n_cached)[:, None]
                keys = tl.where(is_new, new_key.to(tl.float32)[None], keys)
                values = tl.where(is_new, new_value.to(tl.float32)[None], values)
            scores = tl.where(columns < end, tl.sum(keys * asked[None], 1), -float("inf"))
            higher = tl.maximum(largest, tl.max(scores, 0))
            weights = tl.exp(scores - higher)
            kept = tl.exp(largest - higher)
            weight = weight * kept + tl.sum(weights, 0)
            total = total * kept + tl.sum(weights[:, None] * values, 0)
            largest = higher
        if WHOLE:
            tl.store(out + pair * SIZE + sizes, total / weight, mask=is_size)
        else:
            place = pair * tl.num_programs(1) + part
            tl.store(parts + place * SIZE + sizes, total, mask=is_size)
            tl.store(sums + 2 * place, largest)
            tl.store(sums + 2 * place + 1, weight)


@triton.jit(do_not_specialize=["n_parts"])
def join(parts, sums, last, out, n_parts, HEADS: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr,
         PART: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Join the parts that `attend` left: out [R, H, E]; one program a row and head."""
    pair = tl.program_id(0)
    used = tl.load(last + pair // HEADS) // PART + 1
    sizes = tl.arange(0, PADDED)
    is_size = sizes < SIZE
    largest = -float("inf")
    weight = 0.0
    total = tl.full((PADDED,), 0.0, tl.float32)
    for first in range(0, used, BLOCK):
        number = first + tl.arange(0, BLOCK)
        is_used, places = number < used, pair * n_parts + number
        each = tl.load(sums + 2 * places, mask=is_used, other=-float("inf"))
        higher = tl.maximum(largest, tl.max(each, 0))
        kept, shares = tl.exp(largest - higher), tl.exp(each - higher)
        weight = weight * kept + tl.sum(shares * tl.load(sums + 2 * places + 1, mask=is_used, other=0.0), 0)
        found = tl.load(parts + places[:, None] * SIZE + sizes[None], mask=is_used[:, None] & is_size[None], other=0.0)
        total = total * kept + tl.sum(shares[:, None] * found, 0)
        largest = higher
    tl.store(out + pair * SIZE + sizes, total / weight, mask=is_size)


@triton.jit
def read_text(x, scale, shift, keys, biases, last, scores, n_text, EPSILON: tl.constexpr, DIM: tl.constexpr,
              HEADS: tl.constexpr, OWN: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Write cross-attention's scores [R, H · L] of x [R, d], normalized, with folded keys [R, H · L, d]: program (row,
    OWN of the scores). Those behind position last[row] are left, and all where it is 0: there the weight is 1."""
    row = tl.program_id(0)
    end = tl.load(last + row) + 1
    if end > 1:
        pairs = tl.program_id(1) * OWN + tl.arange(0, OWN)
        columns = tl.arange(0, BLOCK)
        is_column, is_pair = columns < DIM, (pairs < HEADS * n_text) & (pairs % n_text < end)
        values = tl.load(x + row * DIM + columns, mask=is_column, other=0.0)
        values = tl.where(is_column, values - tl.sum(values, 0) / DIM, 0.0)
        values /= tl.sqrt(tl.sum(values * values, 0) / DIM + EPSILON)
        values *= tl.load(scale + columns, mask=is_column, other=0.0)
        values += tl.load(shift + columns, mask=is_column, other=0.0)
        place = row.to(tl.int64) * HEADS * n_text + pairs
        folded = tl.load(
            keys + place[:, None] * DIM + columns[None], mask=is_pair[:, None] & is_column[None], other=0.0
        )
        found = tl.sum(folded.to(tl.float32) * values[None], 1) + tl.load(biases + place, mask=is_pair, other=0.0)
        tl.store(scores + place, found, mask=is_pair)


@triton.jit
def write_text(scores, values, bias, last, x, n_text, DIM: tl.constexpr, HEADS: tl.constexpr, BIAS: tl.constexpr,
               PADDED: tl.constexpr, BLOCK: tl.constexpr, OWN: tl.constexpr):  # fmt: skip
    """Add cross-attention with `read_text`'s scores and folded values [R, H · L, d] to x [R, d]: program (row, OWN of
    its columns). Where last[row] is 0, the first value is the sum of all heads' already."""
    row = tl.program_id(0)
    end = tl.load(last + row) + 1
    columns = tl.program_id(1) * OWN + tl.arange(0, OWN)
    is_column = columns < DIM
    values += row.to(tl.int64) * HEADS * n_text * DIM
    if end > 1:
        heads = tl.arange(0, PADDED)
        largest, weight = tl.full((PADDED,), -1e30, tl.float32), tl.full((PADDED,), 0.0, tl.float32)
        each = tl.full((PADDED, OWN), 0.0, tl.float32)  # sums of the heads
        for first in range(0, end, BLOCK):
            places = first + tl.arange(0, BLOCK)
            pairs = heads[:, None] * n_text + places[None]
            is_pair = (heads < HEADS)[:, None] & (places < end)[None]
            found = tl.load(scores + row * HEADS * n_text + pairs, mask=is_pair, other=-1e30)
            higher = tl.maximum(largest, tl.max(found, 1))
            weights = tl.where(is_pair, tl.exp(found - higher[:, None]), 0.0)
            is_value = is_pair[:, :, None] & is_column[None, None]
            folded = tl.load(values + pairs[:, :, None] * DIM + columns[None, None], mask=is_value, other=0.0)
            kept = tl.exp(largest - higher)
            weight = weight * kept + tl.sum(weights, 1)
            each = each * kept[:, None] + tl.sum(folded.to(tl.float32) * weights[:, :, None], 1)
            largest = higher
        total = tl.sum(each / tl.maximum(weight, 1e-30)[:, None], 0)
    else:
        total = tl.load(values + columns, mask=is_column, other=0.0).to(tl.float32)
    if BIAS:
        total += tl.load(bias + columns, mask=is_column, other=0.0)
    total += tl.load(x + row * DIM + columns, mask=is_column, other=0.0)
    tl.store(x + row * DIM + columns, total, mask=is_column)


@triton.jit
def log_softmax(scores):
    """Return the logarithms of scores' shares."""
    scores -= tl.max(scores, 0)
    return scores - tl.log(tl.sum(tl.exp(scores), 0))


@triton.jit(do_not_specialize=["n_slots"])
def normalize(logits, guidance, divisors, probabilities, n_slots, STREAMS: tl.constexpr, CODES: tl.constexpr,
              COPIES: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Write probabilities [n, K, V] of COPIES · n rows' logits, by `guide_rows`: one program a sequence and stream."""
    place = tl.program_id(0)
    slot = place // STREAMS
    codes = tl.arange(0, BLOCK)
    is_code = codes < CODES
    own = logits + place * CODES + codes
    scores = tl.load(own, mask=is_code, other=-float("inf"))
    if COPIES > 1:
        factor, further = tl.load(guidance + slot), n_slots * STREAMS * CODES
        scores, without = log_softmax(scores), log_softmax(tl.load(own + further, mask=is_code, other=-float("inf")))
        if COPIES == 3:
            scores -= log_softmax(tl.load(own + 2 * further, mask=is_code, other=-float("inf")))
            scores = without + factor * scores
        else:
            scores = factor * scores + (1 - factor) * without
        scores = tl.where(is_code, scores, -float("inf"))
    scores /= tl.load(divisors + slot)
    weights = tl.exp(scores - tl.max(scores, 0))
    tl.store(probabilities + place * CODES + codes, weights / tl.sum(weights, 0), mask=is_code)


@triton.jit
def rank(probabilities, ranks, masses, CODES: tl.constexpr, OWN: tl.constexpr, BLOCK: tl.constexpr):
    """Count, instead of sorting, the codes likelier than each, or as likely and before it; and add up what they hold.

    Program (sequence and stream, block of codes): ranks [n, K, V] int32, masses [n, K, V] float64, each with its own.
    """
    place = tl.program_id(0).to(tl.int64) * CODES
    own = tl.program_id(1) * OWN + tl.arange(0, OWN)
    mine = tl.load(probabilities + place + own, mask=own < CODES, other=0.0)
    count = tl.full((OWN,), 0, tl.int32)
    mass = mine.to(tl.float64)
    for first in range(0, CODES, BLOCK):
        others = first + tl.arange(0, BLOCK)
        theirs = tl.load(probabilities + place + others, mask=others < CODES, other=-1.0)
        equal = (theirs[None] == mine[:, None]) & (others[None] < own[:, None])
        before = (theirs[None] > mine[:, None]) | equal
        count += tl.sum(before.to(tl.int32), 1)
        mass += tl.sum(tl.where(before, theirs[None].to(tl.float64), 0.0), 1)
    tl.store(ranks + place + own, count, mask=own < CODES)
    tl.store(masses + place + own, mass, mask=own < CODES)


@triton.jit
def draw(probabilities, ranks, masses, held, counts, uniforms, steps, at, n_steps, STREAMS: tl.constexpr,
         CODES: tl.constexpr, UNKNOWN: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Draw the next step's code where it is unknown: one program a sequence and stream.

    held, counts: [n], the limits of `lm.sampling`, whose `draw` this is: V where there are NaNs.
    """
    place = tl.program_id(0)
    slot = place // STREAMS
    codes = tl.arange(0, BLOCK)
    is_code = codes < CODES
    own = tl.load(probabilities + place * CODES + codes, mask=is_code, other=0.0)
    order = tl.load(ranks + place * CODES + codes, mask=is_code, other=CODES)
    mass = tl.load(masses + place * CODES + codes, mask=is_code, other=0.0)
    most, limit = tl.load(counts + slot), tl.load(held + slot)
    most = tl.where(most == 0, CODES, most)
    limit = tl.where(limit >= 1.0, float("inf"), limit)
    kept = is_code & (order < most) & ((mass.to(tl.float32) - own < limit) | (order == 0))
    upper = tl.where(kept, mass, 0.0).to(tl.float32)
    target = tl.max(upper, 0)
    step = tl.load(at + slot) + 1
    target *= tl.load(uniforms + place * n_steps + step)
    chosen = tl.sum((kept & (upper <= target)).to(tl.int32), 0)
    code = tl.minimum(tl.sum(tl.where(order == chosen, codes, 0), 0), CODES)
    next_code = steps + place * n_steps + step
    tl.store(next_code, tl.where(tl.load(next_code) == UNKNOWN, code, tl.load(next_code)))
