"""Generation: from prompts and flags to sound files (sec. 3.2, 4.1).

A prompt passes through `Prompt` → `GenerationRequest` → `Prepared` → codes → `Rendered`.

requests   a sound to generate, and planning: seeds, durations, settings, file names
prompts    prompt files: .txt, .csv, .jsonl
generator  the models of a folder: read a request's text, decode its codes, stream it
inpainting regions of a sound to generate anew: checks, and what a codec sees in their place
estimates  time and memory of long work, before it begins
tracks     # ours: the sounds of one prompt generated apart and mixed, each the best of several candidates
delivery   rate, channels, sample format and level of the files
convert    existing sounds delivered in the same way
writer     audio files and their sidecars, for generate, continue, eval and training previews
resuming   which sounds of a folder are those asked for, and where others go
"""
