"""Evaluation: the paper's metrics and its listening test (sec. 4), for any system's audio.

config, inputs, run          options; what must be there; the run that writes results.json
references, audio_sources    real clips; audio by key: files, codec reconstructions, noise, silence
score_table                  every set of clips embedded by every network
published, tables            the paper's numbers, shown where they compare; results as tables
results, templates, mel      findings; HTML pages; mel spectrograms in numpy
shuffling                    seeded draws
tasks/, metrics/, networks/  what is scored; the numbers; the networks behind them
listening/, report/          tests for human raters; one HTML page of results
"""
