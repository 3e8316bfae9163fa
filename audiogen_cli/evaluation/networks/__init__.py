"""Audio networks that metrics rely on: waveforms in, logits and embeddings out.

base, torch_network  the interface; networks in PyTorch
registry             all networks by name, and the choice for one evaluation
embed, cache         clips through a network; embeddings kept on disk by content
weights              files of published networks: search, download, strict loading
yamnet               classifier that needs no download
passt, pann          the paper's classifier; the classifier of FD and inception score
vggish, clap         the embedding of FAD; embeddings of sounds and texts
"""
