"""Decoding: from text vectors, seeds and prompt codes to codes, step by step (sec. 3.2 eq. 4, sec. 4.1).

requests          a sequence to decode, the layout of its steps, windows beyond the trained length
engine            picks number format and backend, groups requests into batches
continuous_batch  sequences side by side; where one ends, the next begins
backend           how rows are computed: `prepare`, `prefill`, `step`; the reference in plain torch
cpu_backend       the same on a CPU: a step is a call of ONNX Runtime, each row independent of the others
cpu_model         the model's blocks as its sessions, in float32, int8 or int4
onnx_graph        the graphs of a step and of a text
rounding          weights in int8 and int4
packed_files      these kept on the disk for the next start
cuda_backend      the same on a CUDA GPU: few kernels a step, recorded as a CUDA graph
cuda_kernels      these kernels, in triton
"""
