"""Headers that do not say how long a sound is: corrected while the file is read.

mp3      MP3 without a Xing frame: its frames are counted
wav      WAV whose `data` chunk says 0 bytes, as a stream leaves it; WAV and AIFF that were cut short
spliced  a file read with another header
"""
