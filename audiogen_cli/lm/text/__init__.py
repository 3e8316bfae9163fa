"""Text encoders F(c) = u (sec. 3.2): frozen, behind one interface.

encoders  T5, CLIP, static word vectors and a table of words; texts as vectors, repeated ones cached in memory
hub       encoders on the hub: from the local cache, or a quick answer without a network
"""
