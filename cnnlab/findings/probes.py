"""What the probes of trained networks found: their rows in, one computed sentence each out."""

import math

import numpy as np

from cnnlab.findings.biases import columns_order
from cnnlab.findings.finding import BETTER, WIDE, WORSE, Finding, differences_verdict, estimate, gap, runs
from cnnlab.measures import effective_diameters
from cnnlab.studies import NAMES, RECIPES
from cnnlab.wording import from_to, listing, percent, plural, readable, signed_points

# Rounding of float32 stays below; a map that does not move with the image is at 0.1 and more.
EXACT = 1e-4


def shift_cost(rows):
    """What a shift of the test images costs, and how much of it is position alone.

    `rows`: `shift.shift_accuracy` with label and seed. At the largest shift, the mean of the
    directions of each seed is one value. The verdict is that of the last label (the CNN in the
    record): shifted against held in place with the same strip lost.
    """
    _need(rows, "shift")
    furthest = rows["shift"].max()
    by_seed = rows.pivot_table(index=["label", "seed", "shift"], columns="treatment", values="accuracy", sort=False)
    parts, costs, numbers = [], [], {"shift": int(furthest)}
    for label in rows["label"].unique():
        before, after = (by_seed.loc[label].xs(pixels, level="shift") for pixels in (0, furthest))
        costs.append((after["shifted"] - after["held"]).to_numpy())
        (start, _), (end, fallen) = estimate(before["shifted"], percent), estimate(after["shifted"])
        held, kept = estimate(after["held"])
        position, _ = gap(costs[-1] if costs[-1].mean() > 0 else -costs[-1])
        does = "gains" if costs[-1].mean() > 0 else "costs"
        parts.append(
            f"{readable(label)} goes from {start} to {end}; held in place with the same strip lost it has {held}, "
            f"so that position alone {does} {position}"
        )
        numbers[label] = {"shifted": fallen.mean, "held": kept.mean, "position": -costs[-1].mean()}
    *_, (verdict, test) = differences_verdict(costs)
    last = readable(rows["label"].iloc[-1])
    alone = rows["seed"].nunique() == 1
    meaning = {WORSE: f"{last} is not position-agnostic", BETTER: f"{last} does better on images out of place"}.get(
        verdict,
        "whether other seeds lose as much, one seed cannot say"
        if alone
        else f"that position alone costs {last} anything is not shown ({verdict})",
    )
    sentence = (
        f"On {int(rows['images'].iloc[0]):,} test images shifted by {furthest} pixels, {'; '.join(parts)} "
        f"({runs(rows['seed'].nunique())}): {meaning}."
    )
    return Finding(sentence, verdict, {**numbers, **test})


def equivariant_layers(rows):
    """Which layers' maps move with the image, and for which shifts.

    `rows`: `shift.equivariance` with label and seed; a layer is exact where the relative error
    is below EXACT. Errors are the largest where exact, else the mean over seeds.
    """
    _need(rows, "equivariance")
    moved = rows[(rows["shift"] > 0) & (rows["kind"] == "map") & (rows["positions"] > 0)]
    parts, numbers = [], {}
    for (label, layer), mine in moved.groupby(["label", "layer"], sort=False):
        worst = mine.groupby("shift")["relative_error"].max()
        exact, broken = worst[worst < EXACT], mine[mine["shift"].map(worst) >= EXACT]
        error = broken.groupby("seed")["relative_error"].mean()
        numbers[label, layer] = {"exact": list(exact.index), "error": error.mean() if len(error) else 0.0}
        parts.append(_layer_words(layer, int(mine["stride"].iloc[0]), exact, error))
    for label, mine in rows[rows["kind"] == "vector"].groupby("label", sort=False):
        first = mine[mine["layer"] == mine["layer"].iloc[0]]
        last = first[first["shift"] == first["shift"].max()]
        change, interval = estimate(last.groupby("seed")["relative_error"].mean(), percent)
        numbers[label, "vector"] = interval.mean
        parts.append(
            f"the first dense layer of {readable(label)}, which has no positions, changes by {change} "
            f"at {plural(last['shift'].iloc[0], 'pixel')}"
        )
    sentence = (
        f"Shift in, shift out, away from the borders, for shifts of {rows['shift'][rows['shift'] > 0].min()} to "
        f"{rows['shift'].max()} pixels (difference of the maps as a share of their size; "
        f"{runs(rows['seed'].nunique())}): {'; '.join(parts)}."
    )
    return Finding(sentence, None, numbers)


def _layer_words(layer, stride, exact, error):
    if error.empty:
        return f"{layer} moves exactly with the image (error {f'at most {exact.max():.0e}' if exact.max() else '0'})"
    written, _ = estimate(error, "{:.2f}".format)
    if exact.empty:
        return f"{layer} does not move with the image ({written})"
    return f"{layer} (stride {stride}) only by {listing(exact.index)} pixels, else the error is {written}"


def effective_fields(rows):
    """How much of what each convolution could see matters to it: `receptive_field.effective_field` rows."""
    _need(rows, "receptive_field")
    diameters = effective_diameters(rows)
    parts, numbers = [], {}
    for layer, mine in diameters.groupby("layer", sort=False):
        effective, interval = estimate(mine["effective"], "{:.1f}".format)
        core, half = estimate(mine["core"], "{:.1f}".format)
        size = int(mine["theoretical"].iloc[0])
        parts.append(
            f"{layer} could see {size} pixels, is moved noticeably by {effective}, and has half of its sensitivity in "
            f"a square of {core} (spread evenly it would be {size / math.sqrt(2):.1f})"
        )
        numbers[layer] = {"theoretical": size, "effective": interval.mean, "core": half.mean}
    sentence = (
        f"Side of the square that the centre unit of each convolution of {readable(rows['label'].iloc[0])} "
        f"depends on ({runs(rows['seed'].nunique())}): {'; '.join(parts)}."
    )
    return Finding(sentence, None, numbers)


def calibration_over_seeds(rows):
    """What temperature scaling does to each network's calibration: `confidence.reliability` rows.

    The verdict is that of the last label: is its expected calibration error smaller afterwards?
    """
    _need(rows, "calibration")
    whole = rows.drop_duplicates(["label", "seed", "stage"])
    parts, gains, numbers = [], [], {}
    for label, mine in whole.groupby("label", sort=False):
        stages = mine.pivot(index="seed", columns="stage", values=["ece", "temperature", "overall_accuracy"])
        changed = np.abs(stages["overall_accuracy", "after"] - stages["overall_accuracy", "before"]).max()
        if changed > 0:
            raise ValueError(f"temperature scaling changed the accuracy of {label} by {changed}; the rows are wrong")
        gains.append((stages["ece", "before"] - stages["ece", "after"]).to_numpy())
        (before, first), (after, second) = (estimate(stages["ece", stage]) for stage in ("before", "after"))
        temperature, degree = estimate(stages["temperature", "after"], "{:.2f}".format)
        parts.append(f"{readable(label)}: from {before} to {after} at temperature {temperature}")
        numbers[label] = {"before": first.mean, "after": second.mean, "temperature": degree.mean}
    *_, (verdict, test) = differences_verdict(gains)
    shown = verdict in (BETTER, WORSE)
    outcome = f"{verdict} calibrated than before" if shown else f"not shown to be calibrated differently ({verdict})"
    sentence = (
        f"Expected calibration error on the test set before and after temperature scaling, accuracy unchanged "
        f"({runs(rows['seed'].nunique())}): {'; '.join(parts)}. After "
        f"scaling, {readable(rows['label'].iloc[-1])} is {outcome}."
    )
    return Finding(sentence, verdict, {**numbers, **test})


def silent_activations(rows):
    """What share of the ReLU activations is zero: `inspection.zero_activations` with label and seed."""
    _need(rows, "activations")
    parts, numbers = [], {}
    for label, mine in rows.groupby("label", sort=False):
        share, interval = estimate(mine.groupby("seed")["zero_fraction"].mean())
        layers = [
            f"{layer} {percent(values.mean())}" for layer, values in mine.groupby("layer", sort=False)["zero_fraction"]
        ]
        parts.append(f"in {readable(label)}, {share} of them, averaged over the layers ({listing(layers)})")
        numbers[label] = interval.mean
    sentence = f"ReLU activations that are zero: {'; '.join(parts)} ({runs(rows['seed'].nunique())})."
    return Finding(sentence, None, numbers)


def referral_over_seeds(rows, coverage=0.8):
    """Accuracy when the least confident images go to a human: `confidence.referral_curve` rows."""
    _need(rows, "risk_coverage")
    if not np.isclose(rows["asked"], coverage).any():
        raise ValueError(f"coverage {coverage} is not among the rows; expected one of {sorted(rows['asked'].unique())}")
    parts, numbers = [], {}
    for label, mine in rows.groupby("label", sort=False):
        answered, partial = estimate(mine.loc[np.isclose(mine["asked"], coverage), "accuracy"])
        everything, full = estimate(mine.loc[np.isclose(mine["asked"], 1), "accuracy"])
        parts.append(f"{readable(label)} is right on {answered} of them, against {everything} of all")
        numbers[label] = {"answered": partial.mean, "all": full.mean}
    sentence = (
        f"If only the most confident {percent(coverage)} of the test images are answered, {'; '.join(parts)} "
        f"({runs(rows['seed'].nunique())})."
    )
    return Finding(sentence, None, numbers)


def renewed_statistics(rows):
    """What statistics of the final weights, in place of the running ones, do to accuracy on validation.

    `rows`: `normalisation.normalisation_accuracy` with label (of recipes) and seed. Anew, they are
    of images augmented as in the recipe's training, and then as they are, which is how they are
    answered. The verdict is that of the former in the recipe that gains most.
    """
    _need(rows, "normalisation")
    accuracies = rows.pivot_table(index=["label", "seed"], columns="statistics", values="accuracy", sort=False)
    parts, gains = [], {}
    for label in rows["label"].unique():
        mine = accuracies.loc[label]
        augmented = (RECIPES[label].flip, RECIPES[label].translate) != ("none", 0)
        gains[label] = (mine["augmented" if augmented else "plain"] - mine["running"]).to_numpy()
        further = f", on images as they are {percent(mine['plain'].mean())}" if augmented else ""
        parts.append(
            f"{NAMES[label]} by {estimate(gains[label], signed_points, signed_points)[0]} from "
            f"{percent(mine['running'].mean())}{further}"
        )
    most = max(gains, key=lambda label: gains[label].mean())
    ((verdict, test),) = differences_verdict([gains[most]])
    sentence = (
        "With the normalisations' statistics computed anew under the final weights, on training images augmented as in "
        f"training, validation accuracy changes, in percentage points: {listing(parts)} "
        f"({runs(rows['seed'].nunique())}).{_swing(accuracies)}"
    )
    return Finding(sentence, verdict, {**test, **{label: float(gain.mean()) for label, gain in gains.items()}})


def _swing(accuracies):
    """Whether seeds that lie apart come together with new statistics of the images as they are, said of the widest.

    `accuracies`: a row a label and seed, a column for each of the statistics.
    """
    by_label = accuracies.groupby(level="label", sort=False)[["running", "plain"]]
    lowest, highest = by_label.min(), by_label.max()
    spread = highest - lowest
    label = spread["running"].idxmax()
    before, after = (from_to(lowest.loc[label, column], highest.loc[label, column], percent) for column in spread)
    if spread.loc[label, "running"] <= WIDE or spread.loc[label, "plain"] > WIDE:
        return ""
    return (
        f" Where seeds lie furthest apart, in {NAMES[label]}, they lie at {before} with the running statistics and at "
        f"{after} with new ones: what swings there is the statistics, and not the weights."
    )


# What the rows of each probe of `probes.PROBES` say.
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


def reliability_panels(rows):
    """{network: {stage with its error: bins}} for a reliability diagram, the images of all seeds together.

    `rows` as `confidence.reliability` has them; bins as `calibration.reliability_bins` has them.
    """
    _need(rows, "calibration")
    panels = {}
    for (label, stage), mine in rows.groupby(["label", "stage"], sort=False):
        summed = mine.assign(confidence=mine["confidence"] * mine["count"], accuracy=mine["accuracy"] * mine["count"])
        bins = summed.groupby(["low", "high"], as_index=False)[["count", "confidence", "accuracy"]].sum()
        filled = bins["count"].where(bins["count"] > 0)
        bins = bins.assign(confidence=bins["confidence"] / filled, accuracy=bins["accuracy"] / filled)
        error = mine.groupby("seed")["ece"].first().mean()
        panels.setdefault(readable(label), {})[f"{stage} scaling (error {percent(error)})"] = bins
    return panels


def _need(rows, name):
    if rows.empty:
        raise ValueError(f"there are no rows of {name}; run `python -m cnnlab probe {name}`")
