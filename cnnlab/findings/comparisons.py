"""Is one variant better than another? Tidy frames of several seeds in, Findings and tables out."""

import dataclasses
from itertools import pairwise

import numpy as np

from cnnlab import measures
from cnnlab.findings.finding import (
    BETTER,
    CANNOT_TELL,
    HEADLINE,
    SAME,
    SELECTION,
    WITHIN,
    WORSE,
    Finding,
    judge,
    judge_contrasts,
    metric_name,
)
from cnnlab.findings.tables import verdicts_table
from cnnlab.wording import capital, family, points, readable, short


def contrast_sentence(first, second, verdict, numbers, metric, more=""):
    """A comparison in words: two names, its verdict, `numbers` with mean and n, what is measured, and `more`."""
    size = f"{points(numbers['mean'])} of {metric}"
    if verdict == CANNOT_TELL and numbers["n"] < 2:
        return f"One seed cannot tell {first} from {second}, {size} apart{more}."
    return {
        BETTER: f"{capital(first)} beats {second} by {size}{more}.",
        WORSE: f"{capital(first)} is worse than {second} by {size}{more}.",
        SAME: f"{capital(first)} is as good as {second}, within {WITHIN} of {metric}{more}.",
        CANNOT_TELL: f"Cannot tell {first} from {second}: {size} may be noise{more}.",
    }[verdict]


def compare(frame, first, second, metric=HEADLINE):
    """Is variant `first` better than `second` in `metric`, a column of accuracies of the study `frame`? Paired by seed.

    Raises ValueError where a label or the metric is missing, or no seed has both.
    """
    return _compare_pairs(frame, [(first, second)], metric)[0]


def adjacent(frame, metric=HEADLINE):
    """Each variant of a sweep against the one before it, with Holm's correction: a list of Findings."""
    return _compare_pairs(frame, _steps(frame), metric)


def against_each(frame, base, metric=HEADLINE):
    """Each variant of a study against `base`, with Holm's correction: a list of Findings, in the frame's order."""
    return _compare_pairs(frame, _against(frame, base), metric)


def sweep(frame, metric=HEADLINE):
    """Up to which variant does more of the varied quantity help? The one sentence of a sweep.

    The verdict is that of the first step that does not help, or "better" where all do; `numbers` has stops_at
    (the last variant whose step helps), verdicts (a step each) and mean, low, high, n of the gain up to there.
    """
    steps, name = _steps(frame), metric_name(metric)
    if len({family(label) for pair in steps for label in pair}) > 1:
        raise ValueError("the variants are of several kinds; a sweep varies one quantity, so compare them instead")
    judged = _judge_pairs(frame, steps, metric)
    verdicts, start = [verdict for verdict, _ in judged], steps[0][1]
    helped = next((place for place, verdict in enumerate(verdicts) if verdict != BETTER), len(steps))
    verdict = [*verdicts, BETTER][helped]
    what = "larger kernels" if "_k" in start else "more units" if start.startswith("dense") else "more filters"
    first_step, n = judged[0][1]["mean"], judged[0][1]["n"]
    if helped:
        stops_at = steps[helped - 1][0]
        ((_, gain),) = _judge_pairs(frame, [(stops_at, start)], metric)
        then = {
            BETTER: "", SAME: f"; beyond it, they change less than {WITHIN}", WORSE: "; beyond it, they hurt",
            CANNOT_TELL: "; beyond it, cannot tell",
        }[verdict]  # fmt: skip
        every = "help at every step, up to" if verdict == BETTER else "help up to"
        sentence = f"{what} {every} {short(stops_at)}, by {points(gain['mean'])} of {name}{then}."
    else:
        stops_at, gain, size = start, {"mean": 0.0, "n": n}, f"{points(first_step)} of {name}"
        sentence = {
            SAME: f"{what} add less than {WITHIN} at the first step: {short(start)} is enough.",
            WORSE: f"{what} hurt from the start: the first step costs {size}.",
            CANNOT_TELL: f"Cannot tell whether {what} help: the first step's {size} may be noise."
            if n > 1
            else f"One seed cannot tell where {what} stop helping.",
        }[verdict]
    return Finding(capital(sentence), verdict, {**gain, "stops_at": stops_at, "verdicts": verdicts})


def choose(frame, metric=HEADLINE):
    """Which variant of a sweep to take, by mean validation accuracy, and whether it lies on the edge.

    The verdict is the choice against the runner-up on `metric`, in which the test set had no part.
    """
    measures.check_frame(frame, [], [metric, SELECTION, "parameters"])
    labels = _labels(frame)
    means = frame.groupby("label")[SELECTION].mean()
    best, runner_up = means.sort_values(ascending=False, kind="stable").index[:2]
    edge = best in (labels[0], labels[-1])
    ((verdict, numbers),) = _judge_pairs(frame, [(best, runner_up)], metric)
    size = points(numbers["mean"])
    how = {
        BETTER: f"on the test images it beats the runner-up by {size}",
        WORSE: f"on the test images the runner-up is {size} better",
        SAME: f"the runner-up is as good, within {WITHIN}",
        CANNOT_TELL: "the test images cannot tell it from the runner-up",
    }[verdict]
    sentence = f"Validation chooses {short(best)}, {'at the edge of' if edge else 'inside'} the sweep; {how}."
    parameters = frame.groupby("label", sort=False)["parameters"].first().astype(int).to_dict()
    chosen = {"chosen": best, "runner_up": runner_up, "edge": edge, "parameters": parameters}
    return Finding(sentence, verdict, {**numbers, **chosen})


def against_constant(frame, shares, metric=HEADLINE):
    """Each variant of `frame` against the one answer that is right most often: a list of Findings.

    `shares`: {seed: share of the test images that have the class which most training images are of}.
    """
    measures.check_frame(frame, [], [metric])
    runs = list(frame.groupby("label", sort=False))
    differences = [mine[metric].to_numpy() - mine["seed"].map(shares).to_numpy() for _, mine in runs]
    rival, name = "the same answer always", metric_name(metric)
    return [
        Finding(contrast_sentence(short(label), rival, verdict, numbers, name), verdict, numbers)
        for (label, _), (verdict, numbers) in zip(runs, judge_contrasts(differences), strict=True)
    ]


def against_baseline(frame, model, baseline, metric=HEADLINE):
    """The CNN against the dense baseline, in accuracy and parameters; `numbers` has both of each label."""
    measures.check_frame(frame, [model, baseline], [metric, "parameters"])
    ((verdict, numbers),) = _judge_pairs(frame, [(model, baseline)], metric)
    for label in (model, baseline):
        rows = frame[frame["label"] == label]
        parameters = int(rows["parameters"].iloc[0])
        numbers[label] = {**dataclasses.asdict(measures.t_interval(rows[metric])), "parameters": parameters}
    names, cost = (short(model), short(baseline)), ""
    if family(model) != family(baseline):
        ratio = numbers[model]["parameters"] / numbers[baseline]["parameters"]
        names, cost = (family(model), family(baseline)), f", with {ratio:.1f} times the parameters"
    return Finding(contrast_sentence(*names, verdict, numbers, metric_name(metric), cost), verdict, numbers)


def epochs_confound(frame, longer="cnn_32_64_128_15_epochs", shorter="cnn_32_64_128"):
    """What it is worth, at the last epoch, to train one variant longer than those it is compared with."""
    ((verdict, numbers),) = _judge_pairs(frame, [(longer, shorter)], "test_accuracy_last")
    size = points(numbers["mean"])
    sentence = {
        BETTER: f"Longer training alone adds {size}: the published sweep credits its filters with them.",
        WORSE: f"Longer training alone costs {size}: the published sweep holds them against its filters.",
        SAME: f"Longer training alone changes less than {WITHIN}: the published confound did no harm.",
        CANNOT_TELL: f"Cannot tell what longer training alone is worth: it changes accuracy by {size} here.",
    }[verdict]
    return Finding(sentence, verdict, numbers)


def compare_predictions(labels, first, second, names):
    """Two trained networks, called `names`, on the same images, by McNemar's test; classes (n,) each.

    It speaks of these networks, not of others trained alike with another seed.
    """
    labels, first, second = (np.asarray(values) for values in (labels, first, second))
    test = measures.mcnemar(labels, first, second)
    by_image = (first == labels).astype("float64") - (second == labels)
    verdict = judge(by_image, differs=test.p_value < measures.ALPHA)
    meaning = {
        SAME: f"as trained, they are the same within {WITHIN}",
        CANNOT_TELL: "cannot tell which of them is better",
    }.get(verdict, f"as trained, {names[0]} is {verdict}")
    alone = f"is right on {test.only_first:,} images, {names[1]} alone on {test.only_second:,}"
    numbers = {**dataclasses.asdict(test), "mean": test.difference}
    return Finding(f"{capital(names[0])} alone {alone}: {meaning}.", verdict, numbers)


def contrast_table(frame, metric=HEADLINE, base=None):
    """The differences of a study as a table: each variant against the one before it, or against `base`, a label."""
    pairs = _against(frame, base) if base else _steps(frame)
    names = [tuple(map(readable, pair)) for pair in pairs]
    return verdicts_table(names, _judge_pairs(frame, pairs, metric), f"Difference in {metric_name(metric)}, points")


def _compare_pairs(frame, pairs, metric):
    name, judged = metric_name(metric), _judge_pairs(frame, pairs, metric)
    return [
        Finding(contrast_sentence(short(first), short(second), verdict, numbers, name), verdict, numbers)
        for (first, second), (verdict, numbers) in zip(pairs, judged, strict=True)
    ]


def _judge_pairs(frame, pairs, metric):
    """[(verdict, numbers)] of each pair of labels, with Holm's correction."""
    return judge_contrasts([measures.paired_differences(frame, *pair, metric) for pair in pairs])


def _steps(frame):
    """[(variant, the one before it)] of a sweep."""
    return [(later, earlier) for earlier, later in pairwise(_labels(frame))]


def _against(frame, base):
    measures.check_frame(frame, [base], [])
    return [(label, base) for label in _labels(frame) if label != base]


def _labels(frame):
    measures.check_frame(frame, [], [])
    labels = list(frame["label"].unique())
    if len(labels) < 2:
        raise ValueError(f"the frame has only {labels[0]}; a comparison needs at least two variants")
    return labels
