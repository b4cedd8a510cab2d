"""Numbers as tables for readers: means with their 95% intervals, contrasts with their verdicts, ready for Markdown."""

import math

import numpy as np
import pandas as pd

from cnnlab import measures
from cnnlab.findings.finding import HEADLINE
from cnnlab.findings.probes import columns_order, equivariant_layers
from cnnlab.studies import CNN, CORRUPTED_RECIPE, DENSE, NAMES
from cnnlab.wording import capital, duration, from_to, p_value, percent, readable, signed_points


def in_table(label):
    """A variant's name in tables: a recipe in words, others as people say their labels."""
    return NAMES.get(label, readable(label))


def with_interval(value, low, high, write=percent):
    """'35.4% (29.1% to 42.4%)', without the interval where there is none; '' where there is no value."""
    ends = from_to(low, high, write)
    return "" if pd.isna(value) else f"{write(value)} ({ends})" if ends else write(value)


def cell(values, write=percent):
    """A mean over seeds, `values` (n,), for a table: '73.1% (72.7% to 73.5%)', alone where there is one seed."""
    interval = measures.t_interval(values)
    return with_interval(interval.mean, interval.low, interval.high, write)


def verdicts_table(names, judged, heading):
    """A table of contrasts: `names`, pairs or dicts of cells, beside `judged`, as returned by `judge_contrasts`."""
    rows = []
    for name, (verdict, numbers) in zip(names, judged, strict=True):
        several = numbers["n"] > 1
        p = p_value(numbers["p_holm"]).removeprefix("p ").removeprefix("= ") if several else ""
        ends = from_to(numbers["low"], numbers["high"], signed_points) if several else "one run"
        row = name if isinstance(name, dict) else dict(zip(("First", "Second"), name, strict=True))
        row |= {heading: signed_points(numbers["mean"]), "95% interval": ends, "n": numbers["n"], "p, after Holm": p}
        rows.append(row | {"Verdict": verdict})
    return pd.DataFrame(rows)


def study_table(frame, metric=HEADLINE):
    """One row per variant of a tidy frame, in its order, ready for Markdown: accuracy is the seeds' mean of `metric`.

    The loss is from the same epoch; processor time is the seeds' median, over all cores: steadier than wall-clock time.
    """
    measures.check_frame(frame, [], [metric])
    rows = []
    for label, runs in frame.groupby("label", sort=False):
        found = measures.t_interval(runs[metric])
        # With few seeds far apart, the interval can reach below 0 or above 1.
        ends = from_to(*np.clip([found.low, found.high], 0, 1), percent)
        rows.append(
            {
                "Variant": in_table(label),
                "Parameters": f"{int(runs['parameters'].iloc[0]):,}",
                "Seeds": found.n,
                "Test accuracy": percent(found.mean),
                "95% interval": ends or "one run",
                "Test loss": f"{runs[metric.replace('accuracy', 'loss')].mean():.3f}",
                "Processor time": duration(runs["cpu_seconds"].median()),
            }
        )
    return pd.DataFrame(rows)


def confusions_table(labels, predicted, class_names):
    """Each class's images, how many are answered correctly, what the others are taken for; integer classes (n,)."""
    counts = measures.confusion_counts(labels, predicted, class_names)
    rows = []
    for name, answers in counts.iterrows():
        wrong = answers.drop(name).sort_values(ascending=False, kind="stable")
        taken_for = ", ".join(f"{other} {times:,}" for other, times in wrong[wrong > 0].items())
        rows.append({"Class": name, "Images": answers.sum(), "Right": answers[name], "Taken for": taken_for})
    return pd.DataFrame(rows)


def to_markdown(table):
    """Any DataFrame as a Markdown table, without its index."""
    # A bar or a line break would end the cell.
    text = table.astype(str).replace({r"\|": r"\\|", "\n": " "}, regex=True)
    return text.to_markdown(index=False, disable_numparse=True)


_NETWORK, _LAYER, _ACCURACY = {"Network": "label"}, {"Layer": "layer"}, {"Accuracy": ("accuracy", percent)}
_PIXELS, _RATIO = "{:.1f}".format, "{:.2f}".format
# For each probe: {heading: column} that identify a row, and {heading: (column, writer)} for its means. Where some have
# the columns of an interval in between, intervals are over images, and the other means have none.
TABLES = {
    "shift": ({**_NETWORK, "Pixels": "shift", "Images": "treatment"}, _ACCURACY),
    "receptive_field": (
        {**_LAYER, "Receptive field, pixels": "theoretical"},
        {"Half of the sensitivity, pixels": ("effective", _PIXELS)},
    ),
    "activations": ({**_NETWORK, **_LAYER}, {"Zero activations": ("zero_fraction", percent)}),
    "calibration": (
        {**_NETWORK, "Scaling": "stage"},
        {"Expected calibration error": ("ece", percent), "Temperature": ("temperature", _RATIO)},
    ),
    "conformal": (
        {**_NETWORK, "Images": "split"},
        {
            "Sets with the true class": ("coverage", "low", "high", percent), "Classes in a set": ("size", _RATIO),
            "Sets of one class": ("single", percent), "Right among these": ("single_accuracy", percent),
            "Empty sets": ("empty", percent),
        },
    ),
    "attribution": (
        {**_NETWORK, "Map": "map"},
        {
            "Mean probability, map's order": ("deletion", percent), "Random order": ("random", percent),
            "Gain, points": ("gain", "low", "high", signed_points),
            "Rank correlation, weights shuffled": ("randomised", "randomised_low", "randomised_high", _RATIO),
        },
    ),
    "nearest": ({"Answer": "label"}, _ACCURACY),
    "first_layer": (
        _NETWORK,
        {"Correlation with the start": ("with_start", _RATIO), "Change, relative to the start": ("moved", percent)},
    ),
    "corruptions": (
        {"Images": "kind"},
        {
            capital(in_table(label)): (label, percent)
            for label in (DENSE.label, CNN.label, CORRUPTED_RECIPE)
        },
    ),
}  # fmt: skip
# How a probe's rows are reduced for its table, where they are not shown as they are.
SHOWN = {
    "shift": lambda rows: rows[rows["shift"].isin([0, rows["shift"].max()])],
    "receptive_field": measures.effective_diameters,
    "corruptions": measures.mean_over_strengths,
    "first_layer": measures.first_layer_correlations,
    "conformal": lambda rows: rows[rows["first_sol"].isna()].replace({"split": {"validation": "like the fit's"}}),
}


def probe_table(name, rows):
    """The rows of the probe `name` as means over seeds with 95% intervals.

    For `equivariance`, the exact shifts and the error at the others; for `tabular`, the contrasts with their verdicts.
    """
    if rows.empty:
        raise ValueError(f"there are no rows of {name}; run `python -m cnnlab probe {name}`")
    if name == "equivariance":
        return _equivariance_table(equivariant_layers(rows).numbers)
    if name == "tabular":
        return _tabular_table(columns_order(rows))
    by, columns = TABLES[name]
    over_images = any(len(how) > 2 for how in columns.values())
    found = []
    for keys, mine in SHOWN.get(name, lambda rows: rows)(rows).groupby(list(by.values()), sort=False):
        over_seeds = mine.groupby("seed").mean(numeric_only=True)
        names = dict(zip(by, (readable(str(key)) for key in keys), strict=True))
        cells = {
            heading: with_interval(*over_seeds[[column, *ends]].mean(), *[math.nan] * (2 - len(ends)), write)
            if over_images
            else cell(over_seeds[column], write)
            for heading, (column, *ends, write) in columns.items()
        }
        found.append({**names, **cells, "n": mine["seed"].nunique()})
    return pd.DataFrame(found)


def _equivariance_table(found):
    return pd.DataFrame(
        {
            "Network": readable(label),
            "Layer": layer,
            "Shifts followed exactly, pixels": ", ".join(map(str, each["exact"])) or "none",
            "Mean error at the others": f"{each['error']:.2f}",
        }
        for (label, layer), each in found.items()
    )


def _tabular_table(finding):
    rivals = finding.numbers["against"]
    pairs = [("1-D CNN, columns shuffled", "1-D CNN, published order")]
    pairs += [("1-D CNN", f"{readable(rival).replace('_', ' ')}, published order") for rival in rivals]
    judged = [(finding.verdict, finding.numbers), *((found["verdict"], found) for found in rivals.values())]
    return verdicts_table(pairs, judged, "Difference, points")
