"""`report.html`: one page with the tables, plots and sounds of an evaluation or of a sweep.

page      from results.json to the page
sections  what each task shows: Table 1, Table 4, Figures 2 and 4, listening tests
parts     sections, tables, figures, players, and how cells are written
plots     curves, bars, histograms and spectrograms by matplotlib
audition  the page of a folder of sounds, without an evaluation
audio     finds the sounds and embeds them up to a size limit
"""
