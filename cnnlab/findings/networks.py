"""Sentences about one trained network, about the seeds of one variant, or about the data: no variants are compared.

Each function returns a `Finding`; its verdict is None unless the sentence compares two things. `n` counts test images,
epochs of one run, or seeds.
"""

import dataclasses

import numpy as np
import pandas as pd
from scipy import stats

from cnnlab import measures
from cnnlab.findings.finding import BETTER, CANNOT_TELL, SAME, WITHIN, WORSE, Finding, judge
from cnnlab.findings.tables import in_table
from cnnlab.studies import NAMES
from cnnlab.wording import capital, family, from_to, listing, percent, points, signed_points, spelled

# How far validation accuracy may lie below training accuracy before the sentence speaks of memorising.
MEMORISED = 0.05
# Two thumbnails whose correlation is above this are near twins.
TWINS = 0.95
# A spread over seeds that may be this many times that of test noise is not called test noise.
NOISE_RATIO = 2.0


def worst_class(labels, predicted, class_names):
    """The class with the lowest accuracy, against all the others together; `labels`, `predicted`: classes (n,).

    Fisher's exact test, with Bonferroni's correction because the worst class was picked from all of them.
    """
    table = measures.per_class(labels, predicted, class_names)
    table = table[table["images"] > 0]
    if len(table) < 2:
        raise ValueError(f"{len(table)} class has images; the worst of several needs at least 2")
    name = table["accuracy"].idxmin()
    worst, others = table.loc[name], table.drop(index=name)[["images", "correct"]].sum()
    accuracy, rest = worst["accuracy"], int(others["correct"]) / int(others["images"])
    counts = [[each["correct"], each["images"] - each["correct"]] for each in (worst, others)]
    p = min(1.0, float(stats.fisher_exact(counts).pvalue) * len(table))
    scores = f"{percent(accuracy)} of its images are answered correctly, {percent(rest)} of the others'"
    taken = f", most often taken for {worst['taken_for']}" if worst["taken_for"] else ""
    verdict, sentence = CANNOT_TELL, f"Cannot tell the lowest class, {name}, from the others: {scores}."
    if p < measures.ALPHA:
        verdict, sentence = WORSE, f"The worst class is {name}{taken}: {scores}."
    numbers = {"class": name, "accuracy": accuracy, "others": rest, "mean": accuracy - rest, "p_value": p}
    return Finding(sentence, verdict, numbers, tuple(class_names))


def rightly_answered(correct, groups):
    """The share of images that are answered correctly, `correct` (n,) bools, with its interval over `groups` (n,)."""
    share, low, high = measures.share_by_group(correct, groups)
    others = from_to(low, high, percent)
    sentence = f"{percent(share)} of the test pictures are answered correctly; of others like them, {others}."
    return Finding(sentence, None, {"accuracy": share, "low": low, "high": high, "n": len(correct)})


def calibration_error(confidence, correct):
    """How far confidence, the highest probabilities (n,), lies from correctness, bool (n,), over images.

    The verdict is "worse" where mean confidence is above or below accuracy by more than the margin.
    """
    error = measures.expected_calibration_error(confidence, correct)
    differences = np.asarray(confidence, "float64") - np.asarray(correct, "float64")
    gap, verdict = measures.t_interval(differences), judge(differences)
    verdict = verdict if verdict in (SAME, CANNOT_TELL) else WORSE
    lean = {
        SAME: f"as confident as it is accurate, within {WITHIN}",
        CANNOT_TELL: f"{points(gap.mean)} off in its confidence, which may be noise",
        WORSE: f"{'over' if gap.mean > 0 else 'under'}confident by {points(gap.mean)} on average",
    }[verdict]
    sentence = f"The network is {lean}; its expected calibration error is {percent(error)}."
    return Finding(sentence, verdict, {"ece": error, **dataclasses.asdict(gap)})


def temperature_scaling(validation, validation_labels, test, test_labels, groups=None):
    """What a temperature fitted on the probabilities `validation` (n, classes) does to those of `test`.

    `groups`: the group of images that each test image was taken with (None: all are independent). The verdict is on the
    negative log-likelihood of the test images, paired by image.
    """
    temperature = measures.fit_temperature(validation, validation_labels)
    test_labels, rows = np.asarray(test_labels), np.arange(len(test_labels))
    losses, errors = [], []
    for probabilities in (np.asarray(test, "float64"), measures.apply_temperature(test, temperature)):
        correct = probabilities.argmax(axis=1) == test_labels
        errors.append(measures.expected_calibration_error(probabilities.max(axis=1), correct))
        losses.append(-np.log(np.maximum(probabilities[rows, test_labels], np.finfo("float32").tiny)))
    gains = losses[0] - losses[1]
    mean, low, high = measures.mean_by_group(gains, groups)
    verdict = judge((low, high), margin=0)
    meaning = {
        BETTER: "it helps, and changes no answer"
        if errors[1] <= errors[0]
        else "confident errors cost less, but confidence fits less well",
        WORSE: "it lowers the likelihood of the test images",
        CANNOT_TELL: "cannot tell whether it helps",
    }[verdict]
    change = f"takes the expected calibration error from {percent(errors[0])} to {percent(errors[1])}"
    numbers = {"temperature": temperature, "ece_before": errors[0], "ece_after": errors[1]}
    numbers |= {"mean": -mean, "low": -high, "high": -low, "n": len(gains if groups is None else set(groups))}
    return Finding(f"A temperature of {temperature:.2f} {change}: {meaning}.", verdict, numbers)


def confidence_split(confidence, correct):
    """The shares of right and of wrong answers whose confidence exceeds SURE; the verdict is on which is larger."""
    confidence, correct = np.asarray(confidence), np.asarray(correct, bool)
    numbers, intervals = {}, {}
    for name, chosen in (("correct", correct), ("wrong", ~correct)):
        n, sure = int(chosen.sum()), int((confidence[chosen] > measures.SURE).sum())
        if not n:
            return Finding(f"There are no {name} answers to compare confidence on.", None, numbers)
        numbers[name], intervals[name] = sure / n, measures.share_interval(sure, n)
    apart = intervals["correct"][0] > intervals["wrong"][1]
    right, wrong = percent(numbers["correct"]), percent(numbers["wrong"])
    sentence = (
        f"Confidence {'tells' if apart else 'hardly tells'} right from wrong: {right} of right answers exceed "
        f"{measures.SURE:g}, against {wrong} of wrong ones."
    )
    return Finding(sentence, BETTER if apart else CANNOT_TELL, numbers)


def correlation_by_distance(table):
    """How the correlation of two pixels falls with distance: the table of `measures.spatial_correlation`."""
    series = table.groupby("distance")["correlation"].mean()
    near, far, last = series.iloc[0], series.iloc[-1], series.index[-1]
    so_what = ": they say little about each other"
    if near > max(0.5, far):
        so_what = f", pixels {last} apart at {far:.2f}: what belongs to a pixel lies near it"
    numbers = {"near": float(near), "far": float(far)}
    return Finding(f"Neighbouring pixels correlate at {near:.2f}{so_what}.", None, numbers)


def overfitting(history):
    """The best validation epoch of one run against its last, and the gap to training.

    `history`: {"accuracy", "val_accuracy": one value per epoch}, as Keras reports it: training accuracy is the mean
    over an epoch's batches, with dropout active.
    """
    training, validation = np.asarray(history["accuracy"]), np.asarray(history["val_accuracy"])
    best, epochs, gap = int(validation.argmax()) + 1, len(validation), training[-1] - validation[-1]
    ends = f"training ends {points(gap)} {'above' if gap >= 0 else 'below'} it"
    meaning = "the network memorises" if gap > MEMORISED else "little is memorised"
    sentence = f"Validation accuracy peaks in epoch {best} of {epochs}; {ends}: {meaning}."
    return Finding(sentence, None, {"best_epoch": best, "epochs": epochs, "gap": float(gap)})


def overtaking(history, rival, names, cost):
    """In which epoch, if any, the first of two runs called `names` passes the best validation accuracy of the second.

    `history` and `rival` as for `overfitting`; `cost`: the processor time of an epoch of the first, in epochs of the
    rival. `numbers`: epoch and rival_epoch, counted from one (epoch None: it never does), and time, as a multiple of
    what the rival took to its best epoch.
    """
    validation, target = np.asarray(history["val_accuracy"]), np.asarray(rival["val_accuracy"])
    rival_epoch, passed = int(target.argmax()) + 1, np.flatnonzero(validation > target.max())
    what = f"{names[1]}'s best validation accuracy"
    if not len(passed):
        numbers = {"epoch": None, "rival_epoch": rival_epoch, "time": None}
        return Finding(f"{capital(names[0])} never passes {what}.", None, numbers)
    epoch = int(passed[0]) + 1
    time = epoch * cost / rival_epoch
    meaning = ["not faster", "faster in time, not in epochs", "faster in epochs, not in time", "faster"]
    faster = meaning[2 * (epoch < rival_epoch) + (time < 1)]
    found = f"{capital(names[0])} passes {what} in epoch {epoch}, after {time:.1f} times its processor time"
    return Finding(f"{found}: {faster}.", None, {"epoch": epoch, "rival_epoch": rival_epoch, "time": float(time)})


def near_duplicates(table, labels):
    """How many images have a near twin in training: `table` of `measures.nearest_training_image`, own `labels` (n,)."""
    twins = (table["correlation"] > TWINS).to_numpy()
    alike = (table["nearest_label"].to_numpy() == labels)[twins]
    sentence = f"{twins.sum():,} of {len(twins):,} test images have a near twin in training"
    numbers = {"twins": int(twins.sum()), "same_label": int(alike.sum()), "n": len(twins), "threshold": TWINS}
    if not twins.any():
        return Finding("No test image has a near twin in training.", None, numbers)
    return Finding(
        f"{sentence}, {alike.sum():,} with the same label: the test is a little easier than it looks.", None, numbers
    )


def errors_within(labels, predicted, class_names, groups):
    """How many wrong answers name a class of the same group; "better" where all groups exceed blind guessing.

    `groups`: {name in the plural: class names}, at most three, with no class in common.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    numbers = {}
    for name, members in groups.items():
        inside = [class_names.index(member) for member in members]
        wrong = (labels != predicted) & np.isin(labels, inside)
        n, near = int(wrong.sum()), int(np.isin(predicted[wrong], inside).sum())
        if n:
            low, high = measures.share_interval(near, n)
            blind = (len(inside) - 1) / (len(class_names) - 1)
            numbers[name] = {"share": near / n, "low": low, "high": high, "blind": blind, "n": n}
    if not numbers:
        return Finding("No image is answered wrongly.", None, numbers)
    shares = listing(f"{percent(found['share'])} on {name}" for name, found in numbers.items())
    if all(found["low"] > found["blind"] for found in numbers.values()):
        return Finding(f"Errors stay in the family more often than guesses would: {shares}.", BETTER, numbers)
    return Finding(f"Cannot tell whether errors stay in the family: {shares} do.", CANNOT_TELL, numbers)


# `answers` below: {label: (predicted, confidence)}, each (seeds, images), as for `measures.ensemble_gain`.


def named(label):
    """A variant's name in a sentence: a recipe, or one of the assignment's networks."""
    return NAMES.get(label, family(label))


def spread(answers, labels):
    """Which variants' accuracies differ between seeds by more than test noise explains.

    `numbers`: for each label its `measures.seed_spread` and a verdict: "worse" where they do, "same" where the interval
    of their standard deviation ends below NOISE_RATIO times that of test noise. The Finding's is the worst of them.
    """
    numbers = {}
    for label, (predicted, _) in answers.items():
        found = measures.seed_spread(predicted == labels)
        verdict = SAME if found["high"] < NOISE_RATIO * found["test_noise"] else CANNOT_TELL
        verdict = WORSE if found["low"] > found["test_noise"] else verdict
        numbers[label] = {**found, "verdict": verdict}
    verdicts = [found["verdict"] for found in numbers.values()]
    varied = [named(label) for label, found in numbers.items() if found["verdict"] == WORSE]
    rest = f"; for {spelled(verdicts.count(CANNOT_TELL))} more, cannot tell" if CANNOT_TELL in verdicts else ""
    sentence = f"{capital(listing(varied or ['no network']))} varied more between seeds than test noise explains{rest}."
    verdict = max(verdicts, key=(SAME, CANNOT_TELL, WORSE).index)
    return Finding(sentence, verdict, numbers, tuple(varied))


def ensemble(answers, labels):
    """What a vote of the seeds gains over a single seed, where it gains least and where most.

    `numbers`: for each label accuracy, gain, low and high; the verdict is "better" where no gain may be noise.
    """
    numbers = {}
    for label, each in answers.items():
        accuracy, gain = measures.ensemble_gain(*each, labels)
        numbers[label] = {"accuracy": accuracy, "gain": gain.mean, "low": gain.low, "high": gain.high}
    told = all(judge((found["low"], found["high"]), 0.0) == BETTER for found in numbers.values())
    ranked = sorted(numbers, key=lambda label: numbers[label]["gain"])
    ends = list(dict.fromkeys([ranked[0], ranked[-1]]))
    gains = listing(f"{points(numbers[label]['gain'])} to {named(label)}" for label in ends)
    meaning = "seeds err on different images" if told else "cannot tell whether it always helps"
    sentence = f"A vote of the seeds adds {gains}: {meaning}."
    return Finding(sentence, BETTER if told else CANNOT_TELL, numbers, tuple(map(named, ends)))


def suspect_labels(label, predicted, confidence, labels):
    """How many labels all seeds of `label` contradict with the same answer, and its accuracy without these images."""
    rows = measures.contradicted(predicted, confidence, labels)
    right = (predicted == labels).mean(axis=0)
    kept = pd.Series(right).drop(rows).mean()
    sentence = (
        f"All {spelled(len(predicted))} seeds of {named(label)} contradict {len(rows):,} labels with the same answer; "
        f"without these images, accuracy is {percent(kept)}."
    )
    numbers = {"images": len(rows), "accuracy": float(right.mean()), "without": float(kept), "n": len(predicted)}
    return Finding(sentence, None, numbers)


def seeds_table(answers, labels):
    """One row per variant in `answers`: its spread over seeds, and its vote."""
    spreads, votes = spread(answers, labels).numbers, ensemble(answers, labels).numbers
    return pd.DataFrame(
        {
            "Network": in_table(label),
            "Seeds": found["n"],
            "Mean accuracy": percent((answers[label][0] == labels).mean()),
            "SD over seeds, points": f"{100 * found['observed']:.2f}",
            "95% interval": from_to(100 * found["low"], 100 * found["high"], "{:.2f}".format),
            "SD of test noise": f"{100 * found['test_noise']:.2f}",
            "Accuracy of the vote": percent(votes[label]["accuracy"]),
            "Gain": signed_points(votes[label]["gain"]),
            "95% interval of the gain": from_to(votes[label]["low"], votes[label]["high"], signed_points),
        }
        for label, found in spreads.items()
    )
