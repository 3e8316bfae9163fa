"""The tasks of `audiogen eval`; each returns `Findings`.

generation        FAD, KL and more of generated clips against real ones (Table 1)
continuation      prompts of several lengths with three kinds of text (Table 4, Figure 2)
codec             bitrate and loss of a codec (Table 2)
codec_validation  the same for a codec in training, with causes of what goes wrong
generate_clips    the model's sounds, kept on disk between runs
"""
