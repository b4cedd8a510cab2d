"""Is one variant better than another? Tidy frames of several seeds in, Findings out."""

import dataclasses

from cnnlab.findings.finding import BETTER, HEADLINE, SELECTION, WORSE, Finding, Metric, undetectable
from cnnlab.measures import ALPHA, check_frame, mcnemar, paired_tests, paired_values, t_interval
from cnnlab.wording import from_to, listing, many, p_value, percent, plural, points, readable


def compare(frame, first, second, metric=HEADLINE):
    """Is variant `first` better than `second`? Paired by seed, two-sided t-test at 5%.

    `frame` is a tidy frame of `studies.read`; `first` and `second` are labels in it; `metric`
    is a column of accuracies (higher is better), losses or seconds (lower is better).
    One paired seed gives a finding that declines to conclude.
    Raises ValueError where a label or the metric is missing, or no seed has both.
    """
    return _findings([paired_values(frame, first, second, metric)], metric)[0]


def adjacent(frame, metric=HEADLINE, labels=None):
    """Each variant of a sweep against the one before it, with Holm's correction: a list of Findings.

    `labels`: the variants in the order of the varied quantity (default: the frame's order).
    """
    labels = list(labels or _labels(frame))
    if len(labels) < 2:
        raise ValueError(f"the frame has only {', '.join(labels)}; a sweep needs at least two variants")
    steps = zip(labels[1:], labels, strict=False)
    return _findings([paired_values(frame, later, earlier, metric) for later, earlier in steps], metric)


def against_each(frame, base, metric=HEADLINE):
    """Each variant of a study against `base`, with Holm's correction: a list of Findings, in the frame's order."""
    check_frame(frame, [base], [metric])
    others = [label for label in _labels(frame) if label != base]
    return _findings([paired_values(frame, label, base, metric) for label in others], metric)


def choose(frame, metric=HEADLINE, selection=SELECTION):
    """Which variant of a sweep to take, by mean validation accuracy, and whether it lies on the edge.

    The verdict is the choice against the runner-up on `metric`, the test set having had no
    part in either. `numbers` has chosen, runner_up, edge (bool), parameters {label: count}.
    """
    check_frame(frame, [], [metric, selection, "parameters"])
    labels = _labels(frame)
    if len(labels) < 2:
        raise ValueError(f"the frame has only {', '.join(labels)}; a choice needs at least two variants")
    means = frame.groupby("label")[selection].mean()
    best, runner_up = means.sort_values(ascending=False, kind="stable").index[:2]
    edge = best in (labels[0], labels[-1])
    parameters = {label: int(frame.loc[frame["label"] == label, "parameters"].iloc[0]) for label in labels}
    contest = compare(frame, best, runner_up, metric)
    place = (
        "It lies on the edge of the sweep, so that the best value may lie beyond it"
        if edge
        else "It lies inside the sweep"
    )
    costs = listing(f"{readable(label)} {many(count)}" for label, count in parameters.items())
    sentence = (
        f"The highest mean validation accuracy, {percent(means[best])}, is that of {readable(best)}, with "
        f"{many(parameters[best])} parameters. {place}. Against the runner-up, taken alone: {contest} "
        f"Parameters of the sweep: {costs}."
    )
    numbers = {"chosen": best, "runner_up": runner_up, "edge": edge, "parameters": parameters, **contest.numbers}
    return Finding(sentence, contest.verdict, numbers)


def against_baseline(frame, model="cnn_32_64_128", baseline="dense_128_64", metric=HEADLINE):
    """The CNN against the dense baseline: both scores, the difference, and the parameters of each."""
    check_frame(frame, [model, baseline], [metric, "parameters"])
    measure = Metric.of(metric)
    scores, numbers = [], {}
    for label in (model, baseline):
        rows = frame[frame["label"] == label]
        interval = t_interval(rows[metric])
        parameters = int(rows["parameters"].iloc[0])
        span = from_to(interval.low, interval.high, measure.write)
        extent = f"95% interval {span}, {plural(interval.n, 'seed')}" if span else "one run"
        name = f"{readable(label)} ({many(parameters)} parameters)"
        scores.append(f"{name} has {measure.write(interval.mean)} ({extent})")
        numbers[label] = {**dataclasses.asdict(interval), "parameters": parameters}
    contest = compare(frame, model, baseline, metric)
    sentence = f"In {measure.name}, {scores[0]}, and {scores[1]}. {contest}"
    return Finding(sentence, contest.verdict, {**contest.numbers, **numbers})


def epochs_confound(frame, longer="cnn_32_64_128_15_epochs", shorter="cnn_32_64_128"):
    """What it is worth to train one variant longer than those it is compared with.

    At the last epoch, as published: a sweep that does so credits its varied quantity with this.
    """
    contest = compare(frame, longer, shorter, "test_accuracy_last")
    sentence = f"The published sweep trained one variant for 15 epochs and the others for 10. {contest}"
    return Finding(sentence, contest.verdict, contest.numbers)


def compare_predictions(labels, first, second, names=("the first network", "the second")):
    """Two trained networks on the same images, by McNemar's test; `n` is the number of images.

    It speaks of these two networks, not of others trained alike with another seed.
    """
    test = mcnemar(labels, first, second)
    counts = (
        f"{names[0]} alone answers {test.only_first:,} of {test.n:,} images correctly, {names[1]} alone "
        f"{test.only_second:,} (McNemar, {p_value(test.p_value)})"
    )
    numbers = {**dataclasses.asdict(test), "mean": test.difference}
    if test.p_value < ALPHA:
        verdict = BETTER if test.difference > 0 else WORSE
        sentence = f"{_capital(counts)}: as trained, {names[0]} is {verdict} by {points(test.difference)}."
        return Finding(sentence, verdict, numbers)
    numbers["detectable"] = test.detectable
    sentence = (
        f"{_capital(counts)}: no difference detectable between these two networks at n = {test.n:,} images; the "
        f"smallest that could have been seen is about {points(test.detectable)}."
    )
    return Finding(sentence, undetectable(test.n), numbers)


def _findings(contrasts, metric):
    """A Finding for each frame of `paired_values`, corrected for their number."""
    differences = [_differences(pairs) for pairs in contrasts]
    enough = [place for place, values in enumerate(differences) if len(values) > 1]
    tests = paired_tests([differences[place] for place in enough]) if enough else None
    found = [_one_run(pairs, metric) for pairs in contrasts]
    for row, place in enumerate(enough):
        found[place] = _verdict(contrasts[place], tests.iloc[row], metric, len(enough))
    return found


def _one_run(pairs, metric):
    measure, (first, second) = Metric.of(metric), pairs.columns
    a, b = pairs.iloc[0]
    sentence = (
        f"One run has no interval: with seed {pairs.index[0]}, {readable(first)} has {measure.name} "
        f"{measure.write(a)} and {readable(second)} {measure.write(b)}; how much another seed would move them is "
        "unknown, and no conclusion is drawn."
    )
    return Finding(sentence, undetectable(1), {"mean": float(a - b), "n": 1, "detectable": float("inf")})


def _verdict(pairs, test, metric, contrasts):
    measure, (first, second) = Metric.of(metric), (readable(label) for label in pairs.columns)
    p = f"{p_value(test.p_holm)}{f' after Holm for {contrasts} contrasts' if contrasts > 1 else ''}"
    span = from_to(test.low, test.high, measure.write_signed)
    evidence = f"95% interval {span}, n = {plural(test.n, 'paired seed')}, {p}"
    numbers = test.to_dict()
    if test.differs:
        way = "higher" if test["mean"] > 0 else "lower"
        sentence = f"{first} is {measure.write_size(test['mean'])} {way} in {measure.name} than {second} ({evidence})."
        return Finding(sentence, BETTER if (test["mean"] > 0) == measure.higher_is_better else WORSE, numbers)
    sentence = (
        f"No difference in {measure.name} between {first} and {second} is detectable at n = {test.n}: the mean "
        f"difference is {measure.write_change(test['mean'])} ({evidence}), and the smallest that could have been seen "
        f"in four of five such studies is {measure.write_size(test.detectable)}."
    )
    return Finding(sentence, undetectable(test.n), numbers)


def _capital(text):
    return text[:1].upper() + text[1:]


def _labels(frame):
    check_frame(frame, [], [])
    return list(frame["label"].unique())


def _differences(pairs):
    return (pairs.iloc[:, 0] - pairs.iloc[:, 1]).to_numpy()
