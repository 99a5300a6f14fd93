"""Evaluation: what a set of decoded programs is worth, with intervals (ReST-RL, section 4).

`restrl.evaluation.statistics` is pure; `restrl.evaluation.evaluate` grades what a decoder produced. The report and the
pipeline import from those two modules directly.
"""
