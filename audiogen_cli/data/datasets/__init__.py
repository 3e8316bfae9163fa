"""The paper's ten datasets, ESC-50, and a user's own folder: one module each.

dataset_folder  the interface of a dataset, its folder's files, matching of files and metadata
registry        the datasets by key, in the paper's order
audiocaps, audioset, clotho, esc50, fsd50k, vggsound, libraries/
folder          a user's own sounds
youtube         finds files named after a YouTube id
leakage         evaluation clips that another dataset's training list contains
"""
