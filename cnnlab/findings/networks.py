"""Sentences about one trained network, or about the data: no variants are compared here.

Each returns a `Finding`; its verdict is None unless the sentence sets one thing
against another. `n` counts images of the test set, or epochs of one run.
"""

import numpy as np
from scipy import stats

from cnnlab.findings.finding import BETTER, WORSE, Finding, undetectable
from cnnlab.measures import (
    ALPHA,
    POWER,
    accuracy_at_coverage,
    apply_temperature,
    detectable_from,
    expected_calibration_error,
    fit_temperature,
    mean_by_group,
    paired_tests,
    per_class,
    risk_coverage,
    share_interval,
    t_interval,
)
from cnnlab.wording import from_to, listing, percent, points, signed_points

SURE = 0.8


def worst_class(labels, predicted, class_names):
    """The class with the lowest accuracy, against all the others together.

    Fisher's exact test, its p-value multiplied by the number of classes because the worst was
    looked for (Bonferroni). Raises ValueError with fewer than two classes present.
    """
    table = per_class(labels, predicted, class_names)
    table = table[table["images"] > 0]
    if len(table) < 2:
        raise ValueError(f"{len(table)} class has images; the worst of several needs at least 2")
    name = table["accuracy"].idxmin()
    worst, others = table.loc[name], table.drop(index=name)
    images, right = int(others["images"].sum()), int(others["correct"].sum())
    counts = [[worst["correct"], worst["images"] - worst["correct"]], [right, images - right]]
    p = min(1.0, float(stats.fisher_exact(counts).pvalue) * len(table))
    gap = worst["accuracy"] - right / images
    sentence = (
        f"The worst class is {name}: {percent(worst['accuracy'])} of its {worst['images']:,} images are answered "
        f"correctly (95% interval {from_to(worst['low'], worst['high'], percent)}), against "
        f"{percent(right / images)} of the others."
    )
    if worst["taken_for"]:
        sentence += f" It is most often taken for {worst['taken_for']} ({percent(worst['taken_share'])})."
    numbers = {"class": name, "accuracy": worst["accuracy"], "others": right / images, "mean": gap, "p_value": p}
    if p < ALPHA:
        return Finding(sentence, WORSE, numbers)
    overall = table["correct"].sum() / table["images"].sum()
    error = np.sqrt(overall * (1 - overall) * (1 / worst["images"] + 1 / images))
    level = stats.norm.isf(ALPHA / len(table) / 2) + stats.norm.ppf(POWER)
    numbers["detectable"] = float(level * error)
    sentence += (
        f" No difference is detectable at n = {worst['images']:,} images; the smallest that could have been seen is "
        f"{points(numbers['detectable'])}."
    )
    return Finding(sentence, undetectable(int(worst["images"])), numbers)


def commonest_confusions(labels, predicted, class_names, count=3):
    """The `count` classes that are most often taken for one other class, as a share of their images."""
    table = per_class(labels, predicted, class_names)
    table = table[table["times"] > 0].sort_values("taken_share", ascending=False, kind="stable").head(count)
    if table.empty:
        return Finding("No image is answered wrongly.", None, {"confusions": []})
    parts = [
        f"{name} for {row['taken_for']} ({percent(row['taken_share'])} of {row['images']:,} images)"
        for name, row in table.iterrows()
    ]
    confusions = [(name, row["taken_for"], row["taken_share"]) for name, row in table.iterrows()]
    return Finding(f"What is taken most often for something else: {listing(parts)}.", None, {"confusions": confusions})


def calibration_error(confidence, correct, bins=15):
    """How far confidence is from accuracy: (n,) highest probabilities and bool (n,)."""
    error = expected_calibration_error(confidence, correct, bins)
    gap = t_interval(np.asarray(confidence, "float64") - np.asarray(correct, "float64"))
    if 0 in gap:
        lean = "the mean confidence does not differ detectably from the accuracy"
    else:
        lean = f"the network is {'over' if gap.mean > 0 else 'under'}confident by {points(gap.mean)} on average"
    sentence = (
        f"The expected calibration error is {percent(error)} ({bins} bins, n = {gap.n:,} images); {lean} (95% interval "
        f"of mean confidence minus accuracy {from_to(gap.low, gap.high, signed_points)})."
    )
    return Finding(sentence, None, {"ece": error, "gap": gap.mean, "low": gap.low, "high": gap.high, "n": gap.n})


def temperature_scaling(validation, validation_labels, test, test_labels, groups=None):
    """What a temperature fitted on validation does to the test set's probabilities.

    `validation`, `test`: probabilities (n, classes); `groups`: what each test image was taken
    together with (None: each is independent of the others). The verdict is that of the scaled
    probabilities on the negative log-likelihood of the test images, paired by image.
    """
    temperature = fit_temperature(validation, validation_labels)
    test_labels, rows = np.asarray(test_labels), np.arange(len(test_labels))
    losses, errors = [], []
    for probabilities in (np.asarray(test, "float64"), apply_temperature(test, temperature)):
        correct = probabilities.argmax(axis=1) == test_labels
        errors.append(expected_calibration_error(probabilities.max(axis=1), correct))
        losses.append(-np.log(np.maximum(probabilities[rows, test_labels], np.finfo("float32").tiny)))
    result = _mean_change(losses[1] - losses[0], groups)
    sentence = (
        f"A temperature of {temperature:.2f}, fitted on {len(validation_labels):,} validation images, takes the "
        f"expected calibration error on the test set from {percent(errors[0])} to {percent(errors[1])} and changes no "
        f"answer; the mean negative log-likelihood changes by {result['mean']:+.3f} (95% interval {result['low']:+.3f} "
        f"to {result['high']:+.3f}, n = {result['n']:,} {'images' if groups is None else 'groups of images'})."
    )
    numbers = {"temperature": temperature, "ece_before": errors[0], "ece_after": errors[1], **result}
    if result["differs"]:
        return Finding(sentence, BETTER if result["mean"] < 0 else WORSE, numbers)
    sentence += f" The smallest change that could have been seen is {result['detectable']:.3f}."
    return Finding(sentence, undetectable(result["n"]), numbers)


def _mean_change(changes, groups):
    """{mean, low, high, n, differs, detectable} of `changes` (n,): a t-test over images, or a bootstrap over groups."""
    if groups is None:
        return paired_tests([changes]).iloc[0].to_dict()
    mean, low, high = mean_by_group(changes, groups)
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "n": len(set(groups)),
        "differs": not low <= 0 <= high,
        "detectable": detectable_from(low, high),
    }


def confidence_split(confidence, correct, threshold=SURE):
    """The share of right, and of wrong, answers that are given with more than `threshold`."""
    confidence, correct = np.asarray(confidence), np.asarray(correct, bool)
    parts, numbers = [], {"threshold": threshold}
    for name, chosen in (("correct", correct), ("wrong", ~correct)):
        n, sure = int(chosen.sum()), int((confidence[chosen] > threshold).sum())
        if not n:
            parts.append(f"there are no {name} answers")
            continue
        span = from_to(*share_interval(sure, n), percent)
        parts.append(f"{percent(sure / n)} of the {n:,} {name} answers (95% interval {span})")
        numbers[name] = sure / n
    return Finding(f"Above a confidence of {threshold:g}: {listing(parts)}.", None, numbers)


def referral(confidence, correct, coverage=0.8):
    """Accuracy when the least confident images go to a human, who then sees 1 - `coverage` of them."""
    curve = risk_coverage(confidence, correct)
    answered, accuracy = accuracy_at_coverage(curve, coverage)
    everything = float(curve["accuracy"].iloc[-1])
    sentence = (
        f"Answering the most confident {percent(answered)} of {len(correct):,} images and referring the rest, the "
        f"network is right on {percent(accuracy)} of those it answers, against {percent(everything)} of all."
    )
    return Finding(sentence, None, {"coverage": answered, "accuracy": accuracy, "all": everything})


def correlation_by_distance(table):
    """How the correlation of two pixels falls with their distance.

    `table`: a frame with the columns distance (pixels) and correlation (Pearson's r), such as
    `exploration.spatial_correlation` returns; directions are averaged.
    """
    series = table.groupby("distance")["correlation"].mean()
    near, far = series.index[0], series.index[-1]
    below = series.index[series < 0.5]
    where = f"it first falls below 0.5 at {below[0]}" if len(below) else "it stays above 0.5 throughout"
    if series[near] > max(0.5, series[far]):
        meaning = f"{where}: what says most about a pixel lies beside it, where a small kernel looks"
    else:
        meaning = "neighbours say no more about each other than distant pixels do"
    sentence = (
        f"Pixels at a distance of {near} correlate with r = {series[near]:.2f}, those at {far} with "
        f"r = {series[far]:.2f}; {meaning}."
    )
    numbers = {"near": float(series[near]), "far": float(series[far]), "half": int(below[0]) if len(below) else None}
    return Finding(sentence, None, numbers)


def overfitting(history, metric="accuracy"):
    """The best validation epoch of one run against its last, and the gap to training.

    `history`: {"accuracy", "val_accuracy" and perhaps "val_loss": one value an epoch}. Training accuracy is the mean
    over an epoch's batches, with dropout at work, as Keras reports it.
    """
    training, validation = np.asarray(history[metric]), np.asarray(history[f"val_{metric}"])
    best, epochs = int(validation.argmax()), len(validation)
    lost, gap = validation[best] - validation[-1], training[-1] - validation[-1]
    end = (
        "the last of them, so that training on has cost no accuracy so far"
        if best == epochs - 1
        else f"after which {points(lost)} are lost to the last ({percent(validation[-1])})"
    )
    sentence = (
        f"Validation accuracy is highest in epoch {best + 1} of {epochs} ({percent(validation[best])}), {end}. At the "
        f"end training accuracy ({percent(training[-1])}) lies {points(gap)} {'above' if gap >= 0 else 'below'} "
        f"validation.{_lowest_loss(history)} This is one run."
    )
    return Finding(sentence, None, {"best_epoch": best + 1, "epochs": epochs, "lost": float(lost), "gap": float(gap)})


def _lowest_loss(history):
    """What validation loss says of overfitting: it also sees how sure the wrong answers are."""
    if "val_loss" not in history:
        return ""
    losses = np.asarray(history["val_loss"])
    lowest = int(losses.argmin())
    if lowest == len(losses) - 1:
        return f" Validation loss is lowest at the end, too ({losses[-1]:.2f})."
    return (
        f" Validation loss is lowest in epoch {lowest + 1} ({losses[lowest]:.2f}) and {losses[-1]:.2f} at the end: "
        "from there on its wrong answers cost more than its right ones gain."
    )


def errors_within(labels, predicted, class_names, groups):
    """How many wrong answers name another class of the same group, beside blind guessing.

    `groups`: {name in the plural: class names}, which have no class in common.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    parts, numbers = [], {}
    for name, members in groups.items():
        inside = [class_names.index(member) for member in members]
        wrong = (labels != predicted) & np.isin(labels, inside)
        n, near = int(wrong.sum()), int(np.isin(predicted[wrong], inside).sum())
        if not n:
            parts.append(f"there are none on {name}")
            continue
        blind = (len(inside) - 1) / (len(class_names) - 1)
        low, high = share_interval(near, n)
        numbers[name] = {"share": near / n, "low": low, "high": high, "blind": blind, "n": n}
        parts.append(
            f"of the {n:,} on {name}, {percent(near / n)} (95% interval {from_to(low, high, percent)}) name one "
            f"of the other {name}, where blind guessing among the wrong classes would in {percent(blind)}"
        )
    return Finding(f"Wrong answers: {'; '.join(parts)}.", None, numbers)
