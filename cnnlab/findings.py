"""Results in, sentences and verdicts out: what the seeds that were run allow one to say.

The place to look first. Comparisons of variants stand in `comparisons`; sentences about one
trained network or one data set in `observations`; tables in `tables`; the audit of published
claims in `audit`. Each sentence is a `Finding`.
"""

from cnnlab.sentences.comparisons import (
    adjacent,
    against_baseline,
    against_each,
    choose,
    compare,
    compare_predictions,
    epochs_confound,
    paired_values,
)
from cnnlab.sentences.observations import (
    calibration,
    commonest_confusions,
    confidence_split,
    errors_within,
    overfitting,
    referral,
    spatial_correlation,
    temperature_scaling,
    worst_class,
)
from cnnlab.sentences.tables import presentable, study_table, to_markdown
from cnnlab.sentences.verdicts import BETTER, WORSE, Finding, undetectable

__all__ = [
    "BETTER",
    "WORSE",
    "Finding",
    "adjacent",
    "against_baseline",
    "against_each",
    "calibration",
    "choose",
    "commonest_confusions",
    "compare",
    "compare_predictions",
    "confidence_split",
    "epochs_confound",
    "errors_within",
    "overfitting",
    "paired_values",
    "presentable",
    "referral",
    "spatial_correlation",
    "study_table",
    "temperature_scaling",
    "to_markdown",
    "undetectable",
    "worst_class",
]
