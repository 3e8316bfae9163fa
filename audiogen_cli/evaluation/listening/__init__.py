"""Listening tests with human raters (paper sec. 4.1: MUSHRA, OVL and REL).

stimuli        clips and systems to blind, loudness-matched sounds with anchors
page           the page that raters open, and webMUSHRA's configuration
ratings        reads what raters send back, with the plan that maps blind names to systems
rater_filters  drops pages and raters by the paper's rules and CrowdMOS's
statistics     means, intervals, differences between systems
scores         rating files to results.json
"""
