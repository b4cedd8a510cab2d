"""Is one variant better than another? Tidy frames of several seeds in, Findings and tables out.

All raise ValueError where a frame lacks a label or the metric, or no seed has both variants of a pair.
"""

from itertools import pairwise, takewhile

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
    contrast,
    effect,
    judge,
    judge_contrasts,
    judge_pair,
    judge_pairs,
    metric_name,
)
from cnnlab.findings.tables import in_table, verdicts_table
from cnnlab.studies import CNN, DENSE, DENSE_BEST
from cnnlab.wording import capital, family, points, share_spelled, short, spelled


def adjacent(frame, metric=HEADLINE):
    """Each variant of a sweep against the one before it, with Holm's correction: a list of Findings."""
    steps, name = _steps(frame), metric_name(metric)
    judged = judge_pairs(frame, steps, metric)
    return [contrast(*map(short, pair), *found, name) for pair, found in zip(steps, judged, strict=True)]


def sweep(frame, metric=HEADLINE):
    """Up to which variant does more of the varied quantity help? The one sentence of a sweep.

    The verdict is that of the first step that does not help, or "better" where all do; `numbers` has stops_at
    (the last variant whose step helps), verdicts (a step each) and mean, low, high, n of the gain up to there, or of
    the first step where that does not help.
    """
    steps, name = _steps(frame), metric_name(metric)
    if len({family(label) for pair in steps for label in pair}) > 1:
        raise ValueError("the variants are of several kinds; a sweep varies one quantity, so compare them in pairs")
    judged, start = judge_pairs(frame, steps, metric), steps[0][1]
    verdicts = [verdict for verdict, _ in judged]
    helped = len(list(takewhile(lambda verdict: verdict == BETTER, verdicts)))
    verdict = [*verdicts, BETTER][helped]
    what = "larger kernels" if "_k" in start else "more units" if start.startswith("dense") else "more filters"
    if helped:
        stops_at = steps[helped - 1][0]
        _, gain = judge_pair(frame, stops_at, start, metric)
        then = {
            BETTER: "no end is in sight", SAME: f"the next step changes less than {WITHIN}",
            WORSE: "the next step hurts", CANNOT_TELL: "cannot tell about the next step",
        }[verdict]  # fmt: skip
        sentence = f"{what} help up to {short(stops_at)}, by {points(gain['mean'])} of {name}; {then}."
    else:
        stops_at, gain = start, judged[0][1]
        then = {SAME: f": {short(start)} is enough", CANNOT_TELL: ": cannot tell whether more would help"}
        sentence = f"The first step to {what} {effect(verdict, gain, name)}{then.get(verdict, '')}."
    return Finding(capital(sentence), verdict, {**gain, "stops_at": stops_at, "verdicts": verdicts})


def choose(frame, metric=HEADLINE):
    """Which variant of a sweep to take, by mean validation accuracy, and whether it lies on the sweep's edge.

    The verdict compares the choice, in which the test set had no part, with the runner-up on `metric`.
    """
    measures.check_frame(frame, [], [metric, SELECTION])
    labels = _labels(frame)
    means = frame.groupby("label")[SELECTION].mean()
    best, runner_up = means.sort_values(ascending=False, kind="stable").index[:2]
    edge = best in (labels[0], labels[-1])
    verdict, numbers = judge_pair(frame, best, runner_up, metric)
    rival = {SAME: f"is as good, within {WITHIN}", CANNOT_TELL: "cannot be told apart from it"}.get(
        verdict, f"is {points(numbers['mean'])} {'worse' if verdict == BETTER else 'better'}"
    )
    place = "at the sweep's edge" if edge else "inside the sweep"
    sentence = f"Validation chooses {short(best)}, {place}; on the test images the runner-up {rival}."
    return Finding(sentence, verdict, {**numbers, "chosen": best, "edge": edge})


def against_constant(frame, shares):
    """Each variant of `frame` against always giving the commonest answer: a list of Findings.

    `shares`: {seed: share of the test images whose class is the commonest in training}.
    """
    measures.check_frame(frame, [], [HEADLINE])
    runs = dict(list(frame.groupby("label", sort=False)))
    judged = judge_contrasts([(mine[HEADLINE] - mine["seed"].map(shares)).to_numpy() for mine in runs.values()])
    return [
        contrast(short(label), "a constant answer", *found, metric_name(HEADLINE))
        for label, found in zip(runs, judged, strict=True)
    ]


def against_baseline(frame, model, baseline, metric=HEADLINE):
    """Variant `model` against `baseline`, paired by seed; across families, also the ratio of parameters."""
    name = metric_name(metric)
    measures.check_frame(frame, [model, baseline], [metric, "parameters"])
    verdict, numbers = judge_pair(frame, model, baseline, metric)
    if family(model) == family(baseline):
        return contrast(short(model), short(baseline), verdict, numbers, name)
    parameters = frame.groupby("label")["parameters"].first()
    numbers["parameters"] = parameters[model] / parameters[baseline]
    cost = f", with {numbers['parameters']:.1f} times the parameters"
    sizes = ("a smaller", "a larger") if numbers["parameters"] < 1 else ("the", "the")
    names = [family(label).replace("the", size, 1) for label, size in zip((model, baseline), sizes, strict=True)]
    return contrast(*names, verdict, numbers, name, cost)


def convolution_buys(frame, cnn=CNN.label, dense=DENSE.label, best=DENSE_BEST.label):
    """What `cnn` gains over `dense`, as published, and over `best`, tuned and trained to the end; three labels.

    The verdict is on the gain over `best`, with Holm's correction for both; `numbers` has both, as from `paired_tests`.
    """
    (_, over_plain), (verdict, over_best) = judge_pairs(frame, [(cnn, dense), (cnn, best)])
    share = over_best["mean"] / over_plain["mean"] if over_plain["mean"] else 0.0
    meaning = {
        BETTER: f"better training explains {'less than half' if share > 0.5 else 'most of it'}",
        SAME: "convolution was not needed", WORSE: "convolution was not needed",
        CANNOT_TELL: "cannot tell whether convolution was needed",
    }[verdict]  # fmt: skip
    plain, at_best = (f"{100 * numbers['mean']:.1f}" for numbers in (over_plain, over_best))
    sentence = f"Convolution buys {plain} points over the published dense network, {at_best} over one at its best"
    return Finding(f"{sentence}: {meaning}.", verdict, {**over_best, "plain": over_plain, "share": share})


def epochs_confound(frame, longer="cnn_32_64_128_15_epochs", shorter="cnn_32_64_128"):
    """What training one variant longer than those it is compared with is worth, at the last epoch."""
    verdict, numbers = judge_pair(frame, longer, shorter, "test_accuracy_last")
    so_what = {
        BETTER: ": the published sweep credits its filters with them",
        WORSE: ": the published sweep blames its filters for them",
        SAME: ": the published confound did no harm",
    }.get(verdict, "")
    return Finding(f"Longer training alone {effect(verdict, numbers, 'accuracy')}{so_what}.", verdict, numbers)


def on_gpu(frame):
    """Whether networks trained on a GPU score like those trained without one: a Finding in a list, or [].

    `frame`: rows of any studies. Each variant with two or more seeds of both kinds counts once, with the difference of
    their mean test accuracies.
    """
    scores = frame.reindex(columns=[HEADLINE, "test_accuracy_last"]).bfill(axis=1)[HEADLINE]
    kinds = scores.groupby([frame["label"], frame["accelerator"] != "none"]).agg(["mean", "count"]).unstack()
    if len(kinds["mean"].columns) < 2 or not (both := (kinds["count"] > 1).all(axis=1)).any():
        return []
    means = kinds["mean"][both]
    verdict, numbers = judge_contrasts([(means[True] - means[False]).to_numpy()])[0]
    so_what = {SAME: ": runs with and without one can be pooled"}.get(verdict, "")
    return [Finding(f"Training on a GPU {effect(verdict, numbers, 'test accuracy')}{so_what}.", verdict, numbers)]


def on_gpu_table(frame):
    """The difference that `on_gpu` reports, over n variants, with its interval; empty where there is none."""
    judged = [(finding.verdict, finding.numbers) for finding in on_gpu(frame)]
    return verdicts_table([("on a GPU", "without")] * len(judged), judged, "Difference, points")


def compare_predictions(labels, first, second, names):
    """Two trained networks, called `names`, on the same images, by McNemar's test; classes (n,) each.

    It judges these networks, not others trained the same way with another seed.
    """
    labels, first, second = (np.asarray(values) for values in (labels, first, second))
    test = measures.mcnemar(labels, first, second)
    by_image = (first == labels).astype("float64") - (second == labels)
    verdict = judge(by_image, differs=test["p_value"] < measures.ALPHA)
    meaning = {SAME: f"as trained, they are the same within {WITHIN}", CANNOT_TELL: "cannot tell which is better"}.get(
        verdict, f"as trained, {names[0]} is {verdict}"
    )
    alone = f"is right on {test['only_first']:,} images, {names[1]} alone on {test['only_second']:,}"
    return Finding(f"{capital(names[0])} alone {alone}: {meaning}.", verdict, test)


def undone(frame):
    """Which decision, undone, costs a study's first variant most, and how many can be shown to matter at all."""
    verdict, numbers = extreme(frame, _labels(frame)[0], HEADLINE, min)
    verdicts = list(numbers["verdicts"].values())
    clear = verdicts.count(BETTER) + verdicts.count(WORSE)
    costs = {WORSE: f"{capital(numbers['label'])} costs most, {points(numbers['mean'])}"}
    start = costs.get(verdict, "Undoing a single decision has no clear cost")
    share = f"all {spelled(clear)}" if clear == len(verdicts) else share_spelled(clear, len(verdicts))
    sentence = f"{start}; {share} decisions can be shown to matter."
    return Finding(sentence, verdict, numbers)


def contrast_table(frame, metric=HEADLINE, base=None):
    """The differences of a study as a table: each variant against the one before it, or against `base`, a label."""
    measures.check_frame(frame, [base] if base else [], [])
    pairs = [(label, base) for label in _labels(frame) if label != base] if base else _steps(frame)
    names = [tuple(map(in_table, pair)) for pair in pairs]
    return verdicts_table(names, judge_pairs(frame, pairs, metric), f"Difference in {metric_name(metric)}, points")


def extreme(frame, base, metric, pick):
    """(verdict, numbers) of the variant whose mean difference from `base`, a label, `pick` chooses: max or min.

    With Holm's correction over all variants of `frame`; numbers has its label, and verdicts, {label: verdict} of all.
    """
    others = [label for label in _labels(frame) if label != base]
    judged = dict(zip(others, judge_pairs(frame, [(label, base) for label in others], metric), strict=True))
    chosen = pick(others, key=lambda label: judged[label][1]["mean"])
    verdict, numbers = judged[chosen]
    return verdict, numbers | {"label": chosen, "verdicts": {label: found for label, (found, _) in judged.items()}}


def _steps(frame):
    """[(variant, the one before it)] of a sweep."""
    return [(later, earlier) for earlier, later in pairwise(_labels(frame))]


def _labels(frame):
    measures.check_frame(frame, [], [])
    labels = list(frame["label"].unique())
    if len(labels) < 2:
        raise ValueError(f"the frame has only {labels[0]}; a comparison needs at least two variants")
    return labels
