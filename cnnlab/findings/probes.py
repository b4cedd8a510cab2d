"""What the probes of trained networks found: their rows in, one sentence or one table each out."""

import numpy as np
import pandas as pd

from cnnlab.findings.biases import columns_order, effective_fields, equivariant_layers, shift_cost
from cnnlab.findings.finding import BETTER, MARGIN, SAME, WORSE, Finding, judge_contrasts, means_table, verdicts_table
from cnnlab.measures import effective_diameters
from cnnlab.studies import NAMES, RECIPES
from cnnlab.wording import family, percent, points, readable, whole_points

# Seeds whose accuracies lie further apart than this, a share, have a mean that says little of any of them.
WIDE = 0.05


def calibration_over_seeds(rows):
    """What temperature scaling does to each network's expected calibration error on the test set.

    The verdict is that of the last label: is its error smaller afterwards? Raises ValueError
    where scaling changed an accuracy, which it cannot.
    """
    whole, gains, numbers = rows.drop_duplicates(["label", "seed", "stage"]), [], {}
    for label, mine in whole.groupby("label", sort=False):
        stages = mine.pivot(index="seed", columns="stage", values=["ece", "temperature", "overall_accuracy"])
        changed = np.abs(stages["overall_accuracy", "after"] - stages["overall_accuracy", "before"]).max()
        if changed > 0:
            raise ValueError(f"temperature scaling changed the accuracy of {label} by {changed}; the rows are wrong")
        gains.append((stages["ece", "before"] - stages["ece", "after"]).to_numpy())
        before, after = (stages["ece", stage].mean() for stage in ("before", "after"))
        numbers[label] = {"before": before, "after": after, "temperature": stages["temperature", "after"].mean()}
    verdict, test = judge_contrasts(gains)[-1]
    last = numbers[label]
    change = f"the calibration error of {family(label)} from {percent(last['before'])} to {percent(last['after'])}"
    sentence = {
        BETTER: f"Temperature scaling cuts {change} and changes no answer.",
        WORSE: f"Temperature scaling raises {change}: it harms.",
        SAME: f"Temperature scaling changes the calibration error of {family(label)} by less than "
        f"{whole_points(MARGIN)}: it needs none.",
    }.get(verdict, f"Cannot tell whether temperature scaling helps: it takes {change}.")
    return Finding(sentence, verdict, {**numbers, **test})


def silent_activations(rows):
    """What share of the ReLU activations is zero, the mean over a network's layers; the sentence on the last label."""
    shares = rows.groupby(["label", "seed"], sort=False)["zero_fraction"].mean().groupby("label", sort=False).mean()
    share, name = shares.iloc[-1], family(shares.index[-1])
    meaning = "for any image most of it is silent" if share > 0.5 else "for any image most of it answers"
    return Finding(f"{percent(share)} of {name}'s ReLU activations are zero: {meaning}.", None, shares.to_dict())


def referral_over_seeds(rows, coverage=0.8):
    """Accuracy when the least confident images go to a human; the sentence on the last label."""
    if not np.isclose(rows["asked"], coverage).any():
        raise ValueError(f"coverage {coverage} is not among the rows; expected one of {sorted(rows['asked'].unique())}")
    numbers = {}
    for label, mine in rows.groupby("label", sort=False):
        answered, everything = (mine.loc[np.isclose(mine["asked"], share), "accuracy"] for share in (coverage, 1))
        numbers[label] = {"answered": answered.mean(), "all": everything.mean()}
    last = numbers[label]
    sentence = (
        f"Answering only the surest {percent(coverage)} of the images takes {family(label)} from "
        f"{percent(last['all'])} to {percent(last['answered'])}."
    )
    return Finding(sentence, None, numbers)


def renewed_statistics(rows):
    """What statistics of the final weights, in place of the running ones, do to accuracy on validation.

    `rows`: with label (of recipes) and seed. Anew, they are of images augmented as in the
    recipe's training. The sentence is on the recipe whose seeds lie furthest apart with the running
    statistics; `numbers` has the mean gain of each, and of that one its interval, spread_running and spread_new.
    """
    accuracies = rows.pivot_table(index=["label", "seed"], columns="statistics", values="accuracy", sort=False)
    gains = {}
    for label in rows["label"].unique():
        augmented = (RECIPES[label].flip, RECIPES[label].translate) != ("none", 0)
        gains[label] = (accuracies["augmented" if augmented else "plain"] - accuracies["running"]).loc[label].to_numpy()
    by_label = accuracies.groupby(level="label", sort=False)
    spreads = by_label.max() - by_label.min()
    widest = spreads["running"].idxmax()
    _, test = judge_contrasts(gains.values())[list(gains).index(widest)]
    running, new = spreads.loc[widest, ["running", "plain"]]
    sentence = (
        f"With normalisation statistics computed anew, seeds lie {points(new)} apart instead of {100 * running:.1f}: "
        f"{'the statistics swing, not the weights' if WIDE < running > 2 * new else 'the statistics do not swing'}."
    )
    means = {label: float(gain.mean()) for label, gain in gains.items()}
    return Finding(sentence, None, {**test, **means, "spread_running": running, "spread_new": new})


# What the rows of each probe of `measures.PROBES` say.
OF_PROBES = {
    "shift": shift_cost,
    "equivariance": equivariant_layers,
    "receptive_field": effective_fields,
    "tabular": columns_order,
    "activations": silent_activations,
    "calibration": calibration_over_seeds,
    "risk_coverage": referral_over_seeds,
    "normalisation": renewed_statistics,
}
_NETWORK, _LAYER, _ACCURACY = {"Network": "label"}, {"Layer": "layer"}, {"Accuracy": ("accuracy", percent)}
_PIXELS = "{:.1f}".format
# Of each probe: {heading: column} of what a row is, and {heading: (column, how it is written)} of its means.
TABLES = {
    "shift": ({**_NETWORK, "Pixels": "shift", "Images": "treatment"}, _ACCURACY),
    "receptive_field": (
        {**_LAYER, "Could see, pixels": "theoretical"},
        {"Noticeably moved by": ("effective", _PIXELS), "Half of the sensitivity": ("core", _PIXELS)},
    ),
    "activations": ({**_NETWORK, **_LAYER}, {"Activations that are zero": ("zero_fraction", percent)}),
    "calibration": (
        {**_NETWORK, "Scaling": "stage"},
        {"Expected calibration error": ("ece", percent), "Temperature": ("temperature", "{:.2f}".format)},
    ),
    "risk_coverage": ({**_NETWORK, "Answered": "asked"}, _ACCURACY),
    "normalisation": ({"Recipe": "label", "Statistics": "statistics"}, {"Validation accuracy": ("accuracy", percent)}),
}  # fmt: skip


def probe_table(name, rows):
    """The rows of the probe `name` as means over seeds with 95% intervals, ready for Markdown.

    Of `shift` the ends, of `risk_coverage` four points; of `equivariance` the exact shifts, of `tabular` the contrasts.
    """
    if rows.empty:
        raise ValueError(f"there are no rows of {name}; run `python -m cnnlab probe {name}`")
    if name == "equivariance":
        found = equivariant_layers(rows).numbers
        return pd.DataFrame(
            {
                "Network": readable(label),
                "Layer": layer,
                "Follows exactly, pixels": ", ".join(map(str, each["exact"])) or "none",
                "Mean error at the others": f"{each['error']:.2f}",
            }
            for (label, layer), each in found.items()
        )
    if name == "tabular":
        finding = columns_order(rows)
        against = finding.numbers["against"]
        names = [
            {"First": "1-D CNN", "Second": f"{readable(rival).replace('_', ' ')}, published order"} for rival in against
        ]
        judged = [(found["verdict"], found) for found in against.values()]
        first = {"First": "1-D CNN, columns shuffled", "Second": "1-D CNN, published order"}
        return verdicts_table([first, *names], [(finding.verdict, finding.numbers), *judged])
    if name == "receptive_field":
        rows = effective_diameters(rows)
    if name == "shift":
        rows = rows[rows["shift"].isin([0, rows["shift"].max()])]
    if name == "risk_coverage":
        rows = rows[rows["asked"].isin([0.5, 0.8, 0.9, 1])]
    if name == "normalisation":
        rows = rows.assign(label=rows["label"].map(NAMES))
    by, columns = TABLES[name]
    return means_table(rows, by, columns)


def reliability_panels(rows):
    """{network: {stage with its error: bins}} for a reliability diagram, the images of all seeds together.

    `rows`: of the probe `calibration`; bins as `measures.reliability_bins` has them.
    """
    panels = {}
    for (label, stage), mine in rows.groupby(["label", "stage"], sort=False):
        summed = mine.assign(confidence=mine["confidence"] * mine["count"], accuracy=mine["accuracy"] * mine["count"])
        bins = summed.groupby(["low", "high"], as_index=False)[["count", "confidence", "accuracy"]].sum()
        filled = bins["count"].where(bins["count"] > 0)
        bins = bins.assign(confidence=bins["confidence"] / filled, accuracy=bins["accuracy"] / filled)
        error = mine.groupby("seed")["ece"].first().mean()
        panels.setdefault(readable(label), {})[f"{stage} scaling (error {percent(error)})"] = bins
    return panels
