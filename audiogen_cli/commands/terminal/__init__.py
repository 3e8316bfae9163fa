"""Options, progress and tables that commands share.

announce    what a stage says before it works; warnings where it departs from the paper
comparison  two models on the same clips, for eval
estimates   size, memory and time of a stage before it begins
listening   a task of eval, with results of its own
options     options of several commands; a flag for each setting of `Sampling`
progress    progress on stderr: a bar, or lines in logs
rendering   generate and continue: results on stdout, notes and a summary on stderr
tables      tables and lists
"""
