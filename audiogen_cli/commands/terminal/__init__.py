"""Options, progress and tables that commands share.

options     options of several commands; a flag for each setting of `Sampling`
progress    progress on stderr: a bar, or lines in logs
rendering   generate and continue: results on stdout, notes and a summary on stderr
tables      tables and lists
"""
