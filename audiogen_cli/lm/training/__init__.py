"""Training of the language model (sec. 4.1).

preflight             checks of data and codec before torch is loaded
train, step, state    the loop; one step and validation (eq. 3); what a step changes, its saving and resuming
datasets, on_the_fly  examples from token shards, or from recordings while the model trains
batches               micro-batches with their texts, made ahead, of few shapes on a GPU
codebook_init         # ours: code embeddings tied to the codec's own vectors
lora                  adapters in training, through peft
cpu_kernels           attention and dropout that are fast on CPUs
previews              sounds generated during a training
probe                 # ours: training of the probe that ranks candidates
"""
