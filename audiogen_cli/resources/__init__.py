"""Data files of the package.

embedded/             the embedded model with its codec and probe
word_vectors/         frozen word vectors, the embedded model's text encoder
nltk_data/            WordNet 3.0 and English stop words
ucs/                  categories of the Universal Category System
esc50_audioset.json   ESC-50's classes by their AudioSet names
listening/, report/   page templates
"""
