"""The diffusion decoder: the baseline of the paper's Table 1 (DiffSound, arXiv 2207.09983), over the same codes.

A clip's codes are masked and changed step by step until nothing of them is left; a network learns to restore them all
at once, so that a sound takes a fixed number of passes, and any of its codes may be given.

schedule   what each step does to a code, and its exact posterior
network    p(original codes | codes after t steps, text): blocks without causal mask, norms that know t
objective  the loss, and which steps a training draws
engine     from texts, seeds and known codes to codes
"""
