"""Intervals and tests for scores by task: how large a difference is, and whether it is noise.

In: plain numbers, one a task. Out: intervals, corrected p-values, numbers of tasks. Tasks are the independent units:
several episodes of a task are averaged first, so intervals are clustered by task. The estimators are scipy's and
statsmodels', but for pairs that mostly tie, which neither has. Left out: where the numbers come from.
"""

from ajet.evaluate.statistics.attempts import best_at_k, holm, pass_at_k
from ajet.evaluate.statistics.crossed import CrossedMean, crossed_level, crossed_mean, tasks_needed
from ajet.evaluate.statistics.intervals import Interval, mean_interval, ratio_interval, score_interval, share_interval
from ajet.evaluate.statistics.pairs import (
    POWER,
    difference_interval,
    paired_difference,
    paired_p_value,
    paired_values,
    pairs_needed,
    score_scale,
)
from ajet.evaluate.statistics.text import estimate_text, interval_text, number_text, p_value_text

__all__ = [
    "POWER",
    "CrossedMean",
    "Interval",
    "best_at_k",
    "crossed_level",
    "crossed_mean",
    "difference_interval",
    "estimate_text",
    "holm",
    "interval_text",
    "mean_interval",
    "number_text",
    "p_value_text",
    "paired_difference",
    "paired_p_value",
    "paired_values",
    "pairs_needed",
    "pass_at_k",
    "ratio_interval",
    "score_interval",
    "score_scale",
    "share_interval",
    "tasks_needed",
]
