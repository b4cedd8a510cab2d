"""Is one variant better than another? Tidy frames of several seeds in, Findings and tables out."""

import dataclasses
from itertools import pairwise

import numpy as np
import pandas as pd

from cnnlab.findings.finding import (
    BETTER,
    CANNOT_TELL,
    HEADLINE,
    SAME,
    SELECTION,
    WORSE,
    Finding,
    Metric,
    judge,
    judge_contrasts,
    verdicts_table,
)
from cnnlab.measures import ALPHA, check_frame, mcnemar, paired_differences, t_interval
from cnnlab.wording import capital, duration, family, from_to, percent, points, readable, short, whole_points


def compare(frame, first, second, metric=HEADLINE):
    """Is variant `first` better than `second`? Paired by seed.

    `frame`: rows of a study; `first`, `second`: labels in it; `metric`: a column of accuracies
    (higher is better), losses or seconds (lower is better).
    Raises ValueError where a label or the metric is missing, or no seed has both.
    """
    return _compare_pairs(frame, [(first, second)], metric)[0]


def adjacent(frame, metric=HEADLINE, labels=None):
    """Each variant of a sweep against the one before it, with Holm's correction: a list of Findings.

    `labels`: the variants in the order of the varied quantity (default: the frame's order).
    """
    return _compare_pairs(frame, _steps(frame, labels), metric)


def against_each(frame, base, metric=HEADLINE):
    """Each variant of a study against `base`, with Holm's correction: a list of Findings, in the frame's order."""
    return _compare_pairs(frame, _against(frame, base), metric)


def sweep(frame, metric=HEADLINE, labels=None):
    """Up to which variant does more of the varied quantity help? The one sentence of a sweep.

    `labels` as in `adjacent`. The verdict is that of the first step that does not help, or "better" where
    all do; `numbers` has stops_at (the last variant whose step helps), verdicts (a step each) and
    mean, low, high, n of the gain up to there.
    """
    steps, measure = _steps(frame, labels), Metric.of(metric)
    if len({family(label) for pair in steps for label in pair}) > 1:
        raise ValueError("the variants are of several kinds; a sweep varies one quantity, so compare them instead")
    judged = _judge_pairs(frame, steps, metric)
    verdicts = [verdict for verdict, _ in judged]
    helped = next((place for place, verdict in enumerate(verdicts) if verdict != BETTER), len(steps))
    stops_at, first = [later for later, _ in steps][helped - 1] if helped else steps[0][1], steps[0][1]
    gain = _judge_pairs(frame, [(stops_at, first)], metric)[0][1] if helped else {"mean": 0.0, "n": judged[0][1]["n"]}
    what = "larger kernels" if "_k" in first else "more units" if first.startswith("dense") else "more filters"
    verdict = verdicts[helped] if helped < len(steps) else BETTER
    least = f"less than {whole_points(measure.margin)}"
    if helped:
        then = {SAME: f"they change {least}", WORSE: "they hurt", CANNOT_TELL: "cannot tell"}
        beyond = f"; beyond it, {then[verdict]}" if verdict in then else ""
        every = "help at every step, up to" if verdict == BETTER else "help up to"
        sentence = f"{what} {every} {short(stops_at)}, by {measure.size(gain['mean'])}{beyond}."
    elif judged[0][1]["n"] < 2:
        sentence = f"One seed cannot tell where {what} stop helping."
    else:
        size = measure.size(judged[0][1]["mean"])
        sentence = {
            SAME: f"{what} add {least} at the first step: {short(first)} is enough.",
            WORSE: f"{what} hurt from the start: the first step costs {size}.",
            CANNOT_TELL: f"Cannot tell whether {what} help: the first step's {size} may be noise.",
        }[verdict]
    return Finding(capital(sentence), verdict, {**gain, "stops_at": stops_at, "verdicts": verdicts})


def choose(frame, metric=HEADLINE, selection=SELECTION):
    """Which variant of a sweep to take, by mean validation accuracy, and whether it lies on the edge.

    The verdict is the choice against the runner-up on `metric`, the test set having had no
    part in either. `numbers` has chosen, runner_up, edge (bool), parameters {label: count}.
    """
    check_frame(frame, [], [metric, selection, "parameters"])
    labels = _labels(frame)
    means = frame.groupby("label")[selection].mean()
    best, runner_up = means.sort_values(ascending=False, kind="stable").index[:2]
    edge = best in (labels[0], labels[-1])
    ((verdict, numbers),) = _judge_pairs(frame, [(best, runner_up)], metric)
    size = points(numbers["mean"])
    how = {
        BETTER: f"on the test images it beats the runner-up by {size}",
        WORSE: f"on the test images the runner-up is {size} better",
        SAME: f"the runner-up is as good, within {whole_points(Metric.of(metric).margin)}",
        CANNOT_TELL: "the test images cannot tell it from the runner-up",
    }[verdict]
    sentence = f"Validation chooses {short(best)}, {'at the edge of' if edge else 'inside'} the sweep; {how}."
    parameters = frame.groupby("label", sort=False)["parameters"].first().astype(int).to_dict()
    chosen = {"chosen": best, "runner_up": runner_up, "edge": edge, "parameters": parameters}
    return Finding(sentence, verdict, {**numbers, **chosen})


def against_baseline(frame, model="cnn_32_64_128", baseline="dense_128_64", metric=HEADLINE):
    """The CNN against the dense baseline, in accuracy and parameters; `numbers` has both of each label."""
    check_frame(frame, [model, baseline], [metric, "parameters"])
    ((verdict, numbers),) = _judge_pairs(frame, [(model, baseline)], metric)
    for label in (model, baseline):
        rows = frame[frame["label"] == label]
        parameters = int(rows["parameters"].iloc[0])
        numbers[label] = {**dataclasses.asdict(t_interval(rows[metric])), "parameters": parameters}
    ratio = numbers[model]["parameters"] / numbers[baseline]["parameters"]
    alike = family(model) == family(baseline)
    names = [short(label) if alike else family(label) for label in (model, baseline)]
    cost = "" if alike else f", with {ratio:.1f} times the parameters"
    sentence = contrast_sentence(*names, verdict, numbers, Metric.of(metric), cost)
    return Finding(sentence, verdict, numbers)


def epochs_confound(frame, longer="cnn_32_64_128_15_epochs", shorter="cnn_32_64_128"):
    """What it is worth to train one variant longer than those it is compared with.

    At the last epoch, as published: a sweep that does so credits its varied quantity with this.
    """
    ((verdict, numbers),) = _judge_pairs(frame, [(longer, shorter)], "test_accuracy_last")
    size = points(numbers["mean"])
    sentence = {
        BETTER: f"Longer training alone adds {size}: the published sweep credits its filters with them.",
        WORSE: f"Longer training alone costs {size}: the published sweep holds them against its filters.",
        SAME: f"Longer training alone changes less than {whole_points(0.01)}: the published confound did no harm.",
        CANNOT_TELL: f"Cannot tell what longer training alone is worth: it changes accuracy by {size} here.",
    }[verdict]
    return Finding(sentence, verdict, numbers)


def compare_predictions(labels, first, second, names=("the first network", "the second")):
    """Two trained networks on the same images, by McNemar's test; `n` is the number of images.

    It speaks of these two networks, not of others trained alike with another seed.
    """
    labels, first, second = (np.asarray(values) for values in (labels, first, second))
    test = mcnemar(labels, first, second)
    by_image = (first == labels).astype("float64") - (second == labels)
    verdict = judge(by_image, differs=test.p_value < ALPHA)
    meaning = {
        SAME: f"as trained, they are the same within {whole_points(0.01)}",
        CANNOT_TELL: "cannot tell which of them is better",
    }.get(verdict, f"as trained, {names[0]} is {verdict}")
    sentence = (
        f"{capital(names[0])} alone is right on {test.only_first:,} images, {names[1]} alone on {test.only_second:,}: "
        f"{meaning}."
    )
    return Finding(sentence, verdict, {**dataclasses.asdict(test), "mean": test.difference})


def contrast_sentence(first, second, verdict, numbers, metric, more=""):
    """A comparison in words: the names, its verdict, `numbers` with mean and n, a Metric, and `more` at the end."""
    size = metric.size(numbers["mean"])
    if verdict == CANNOT_TELL and numbers["n"] < 2:
        return f"One seed cannot tell {first} from {second}, {size} apart{more}."
    return {
        BETTER: f"{capital(first)} beats {second} by {size}{more}.",
        WORSE: f"{capital(first)} is worse than {second} by {size}{more}.",
        SAME: f"{capital(first)} is as good as {second}, within {whole_points(metric.margin)} of {metric.name}{more}.",
        CANNOT_TELL: f"Cannot tell {first} from {second}: {size} may be noise{more}.",
    }[verdict]


def contrast_table(frame, metric=HEADLINE, base=None, pairs=None):
    """The differences of a study, ready for Markdown, with 95% intervals, n, p after Holm and verdict.

    Each variant against the one before it; against `base`, a label; or `pairs` of labels.
    """
    pairs = pairs or (_against(frame, base) if base else _steps(frame))
    measure = Metric.of(metric)
    names = [{"First": readable(first), "Second": readable(second)} for first, second in pairs]
    heading = f"Difference in {measure.name}{', points' * measure.is_share}"
    return verdicts_table(names, _judge_pairs(frame, pairs, metric), heading, measure.signed)


def study_table(frame, metric=HEADLINE):
    """A row a variant of a tidy frame, in its order.

    Columns: label, parameters, n (seeds), accuracy (mean of `metric`) with the 95% t-interval
    low and high (NaN for one seed), loss (mean of the same epoch), seconds of processor time
    (median; all cores together, which other programs disturb less than the time on the clock).
    """
    check_frame(frame, [], [metric])
    rows = []
    for label, runs in frame.groupby("label", sort=False):
        interval = t_interval(runs[metric])
        rows.append(
            {
                "label": label,
                "parameters": int(runs["parameters"].iloc[0]),
                "n": interval.n,
                "accuracy": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "loss": runs[metric.replace("accuracy", "loss")].mean(),
                "seconds": runs["cpu_seconds"].median(),
            }
        )
    return pd.DataFrame(rows)


def presentable(table):
    """`study_table` as text, with the headings that people read."""
    # Few seeds far apart have an interval that reaches beyond where shares end.
    ends = table[["low", "high"]].clip(0, 1)
    return pd.DataFrame(
        {
            "Variant": table["label"].map(readable),
            "Parameters": table["parameters"].map("{:,}".format),
            "Seeds": table["n"].astype(str),
            "Test accuracy": table["accuracy"].map(percent),
            "95% interval": [from_to(row.low, row.high, percent) or "one run" for row in ends.itertuples()],
            "Test loss": table["loss"].map("{:.3f}".format),
            "Processor time": table["seconds"].map(duration),
        }
    )


def to_markdown(table):
    """Any DataFrame as a Markdown table, without its index."""
    # A bar or a line break would end the cell.
    text = table.astype(str).replace({r"\|": r"\\|", "\n": " "}, regex=True)
    return text.to_markdown(index=False, disable_numparse=True)


def _compare_pairs(frame, pairs, metric):
    measure, judged = Metric.of(metric), _judge_pairs(frame, pairs, metric)
    return [
        Finding(contrast_sentence(short(first), short(second), verdict, numbers, measure), verdict, numbers)
        for (first, second), (verdict, numbers) in zip(pairs, judged, strict=True)
    ]


def _judge_pairs(frame, pairs, metric):
    """[(verdict, numbers)] of each pair of labels; the numbers are of `metric` itself, whichever way is better."""
    measure = Metric.of(metric)
    contrasts = [paired_differences(frame, first, second, metric) for first, second in pairs]
    judged = judge_contrasts(contrasts, measure.margin)
    other = {BETTER: WORSE, WORSE: BETTER}
    return judged if measure.higher_is_better else [(other.get(verdict, verdict), found) for verdict, found in judged]


def _steps(frame, labels=None):
    """[(variant, the one before it)] of a sweep."""
    return [(later, earlier) for earlier, later in pairwise(labels or _labels(frame))]


def _against(frame, base):
    check_frame(frame, [base], [])
    return [(label, base) for label in _labels(frame) if label != base]


def _labels(frame):
    check_frame(frame, [], [])
    labels = list(frame["label"].unique())
    if len(labels) < 2:
        raise ValueError(f"the frame has only {labels[0]}; a comparison needs at least two variants")
    return labels
