"""Sound libraries, which publish no list of their files.

sound_library    items from a file's name, its folders and the text in it
bbc, freetousesounds, paramount, sonniss, wesoundeffects
"""
