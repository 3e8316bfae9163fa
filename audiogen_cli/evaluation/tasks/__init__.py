"""The tasks of `audiogen eval` (generation, continuation, codec), and what they share.

generation        FAD, KL and more of generated clips against real ones (Table 1)
continuation      prompts of several lengths with three kinds of text (Table 4, Figure 2)
codec             bitrate and quality of a codec (Table 2)
codec_validation  the same for a codec in training, with hints why a number is bad
generate_clips    the model's sounds, kept on disk between runs
"""
