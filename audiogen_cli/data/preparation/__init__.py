"""`audiogen prep`: from raw dataset folders to manifests.

prep                           manifest and list of dropped clips of each dataset
item_list                      writes the list of published items to disk; validation split
build_clip                     turns an item into a clip, or the reason to drop it; runs in worker processes
file_index                     length, rate and text of files, remembered from run to run
file_metadata, filename_words  text inside sound files; words of their names, UCS categories
caption_file                   captions that a user adds
licenses                       names of licenses, from any spelling
worker_pool                    processes on this machine, or a Ray cluster
"""
