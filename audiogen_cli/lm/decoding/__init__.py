"""Decoding: from text vectors, seeds and prompt codes to codes, step by step (sec. 3.2 eq. 4, sec. 4.1).

requests          a sequence to decode, the layout of its steps, windows beyond the trained length
engine            picks number format and backend, groups requests into batches
continuous_batch  sequences side by side; where one ends, the next begins
backend           how rows are computed: `prepare`, `prefill`, `step`; the reference in plain torch
cpu_backend       the same on a CPU: few calls a step, keys stored in blocks, each row independent of the others
cpu_kernels       linear layers packed for a CPU: float32, bfloat16
grouped_weights   the same in int8 and int4
packed_files      these kept on the disk for the next start
cuda_backend      the same on a CUDA GPU: few kernels a step, recorded as a CUDA graph
cuda_kernels      these kernels, in triton
"""
