"""What the changes of the recipes add, and which targets are reached, in sentences."""

import math

import numpy as np
import pandas as pd

from cnnlab.findings.finding import (
    BETTER,
    EQUIVALENCE_MARGIN,
    WIDE,
    WORSE,
    Finding,
    differences_verdict,
    equivalent,
    estimate,
    gap,
    runs,
    undetectable,
)
from cnnlab.findings.probes import renewed_statistics
from cnnlab.measures import (
    AUGMENTED,
    METRIC,
    SIDE_BY_SIDE,
    VALIDATION,
    effects,
    frontier,
    measured,
    paired_differences,
    side_by_side,
    t_interval,
    time_column,
    walked_together,
    with_yardsticks,
)
from cnnlab.studies import (
    AIRBENCH94,
    ASSIGNMENT,
    FLOAT32,
    INSTEAD,
    NAMES,
    NARROW,
    PARTS,
    PUBLISHED,
    RECIPES,
    SCORED_BEFORE,
    STUDY_SEEDS,
    TARGET_SEEDS,
    TARGETS,
    WALK,
    YARDSTICK,
    of_kind,
)
from cnnlab.wording import duration, from_to, listing, p_value, percent, plural, points, signed_points

PLACES = {
    "training": "with the assignment's CNN",
    "walk": "on top of the steps before it",
    "alone": "alone, on the assignment's CNN",
    "left out": "in the narrow recipe, against leaving it out",
    "instead": "in the narrow recipe",
}

ALTERNATIVES = tuple(label for label, _, _ in INSTEAD)
# The end of the walk.
BEST = WALK[-1].label


def recipe_findings(frame, seconds=None, normalisation=None):
    """What `frame`, rows of `recipe_studies.read`, allows one to say: a list of Findings.

    `seconds` as for `best_frontier`; `normalisation`: rows of the probe that looks into the
    walk's running statistics (None or empty: it was not run). The changes one by one, which are
    many, are in `change_table`.
    """
    labels, training = set(frame["label"]), measured(frame, of_kind("training"))
    found = [coverage(frame)]
    found += [target(frame, label) for label in TARGETS if label in labels]
    found += [against_airbench(frame)] if BEST in labels else []
    found += [walk(frame), parts_of_walk(frame)] if measured(frame, of_kind("walk")) else []
    found += [] if normalisation is None or normalisation.empty else [renewed_statistics(normalisation)]
    found += each_change(effects(frame, contrasts=training)) if training else []
    found += [precision(frame)] if {ASSIGNMENT.label, FLOAT32.label} <= labels else []
    found += [test_time_augmentation(frame, label) for label in (NARROW, BEST) if label in labels]
    found += [choice(frame)] if measured(frame, of_kind("instead")) else []
    return [*found, best_frontier(frame, seconds)]


def coverage(frame):
    """How many of the study's recipes have a row, and how many of them all the seeds that it asks for."""
    seeds = frame.groupby("label")["seed"].nunique().reindex(list(RECIPES), fill_value=0)
    begun, whole = int((seeds > 0).sum()), int((seeds >= STUDY_SEEDS).sum())
    return Finding(
        f"Of the study's {len(seeds)} recipes, {begun} are recorded, {whole} of them with {STUDY_SEEDS} seeds or more.",
        None,
        {"recipes": len(seeds), "recorded": begun, "whole": whole},
    )


def change_table(table, seconds=None):
    """The rows of `effects.effects` as texts, a row a change: what it is worth, how sure that is, and its time.

    `seconds`: {label: seconds of a training, one for each round}, measured side by side, for
    ratios of times, median and range over the rounds; where not all of them are there, the
    processor times of the trainings themselves serve, which whatever else the machine did disturbs.
    """
    found = table[table["kind"] != "training"]
    heading, times = "Times the processor time", found["times"].map("{:.2f}".format)
    if seconds and {*found["first"], *found["second"]} <= seconds.keys():
        heading = "Times the training time, side by side (range over rounds)"
        times = [_ratio(seconds[row.first], seconds[row.second]) for row in found.itertuples()]
    sure = found["n"] > 1
    spans = [from_to(row.low, row.high, signed_points) or "one run" for row in found.itertuples()]
    verdicts = np.select([~sure, ~found["differs"], found["mean"] > 0], ["", "not detectable", "gain"], "loss")
    return pd.DataFrame(
        {
            "Change": found["change"],
            "Where": found["kind"].map(PLACES),
            "Seeds": found["n"].astype(str),
            "Test accuracy, percentage points": found["mean"].map(signed_points),
            "95% interval": spans,
            "p, after Holm": [
                p_value(p)[2:].removeprefix("= ") if s else "" for p, s in zip(found["p_holm"], sure, strict=True)
            ],
            "Difference": verdicts,
            heading: times,
        }
    )


def _ratio(first, second):
    """Median and range of the ratios of two recipes' seconds, round by round."""
    ratios = np.divide(first, second)
    return f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


def each_change(table):
    """A Finding for each row of `effects.effects`: what the change is worth, in accuracy and in time."""
    return [_change(row) for row in table.itertuples()]


def walk(frame):
    """Where the walk begins and ends, which step is worth most, and which show no difference.

    `frame`: rows of `recipe_studies.read` with at least one step; of the walk only seeds that all
    of its recorded steps have count. The verdict is the end against the beginning.
    """
    steps = effects(frame, contrasts=of_kind("walk"))
    last = steps["first"].iloc[-1]
    rows = walked_together(frame)
    (start, _), (end, _) = (estimate(rows.loc[rows["label"] == label, METRIC]) for label in (ASSIGNMENT.label, last))
    gained = paired_differences(rows, last, ASSIGNMENT.label, METRIC)
    ((verdict, numbers),) = differences_verdict([gained])
    largest = steps.loc[steps["mean"].idxmax()]
    sentence = (
        f"The walk goes from {start} to {end} test accuracy in {plural(len(steps), 'step')}: "
        f"{_change_of(gained)}, {runs(len(gained))}. The largest step is {largest['change']} "
        f"({signed_points(largest['mean'])})."
    )
    silent = list(steps.loc[~steps["differs"], "change"])
    if silent and len(gained) > 1:
        every = len(silent) == len(steps)
        sentence += f" No difference is detectable for {'any single step' if every else listing(silent)}."
    sentence += _swinging(rows, [ASSIGNMENT.label, *steps["first"]])
    return Finding(sentence, verdict, {**numbers, "steps": len(steps), "largest": largest["first"]})


def _swinging(rows, labels):
    """Which of the walk's `labels` have seeds too far apart for their means, and what the way over them is worth."""
    ends = rows[rows["label"].isin(labels)].groupby("label", sort=False)[METRIC].agg(["min", "max"])
    wide = ends[ends["max"] - ends["min"] > WIDE]
    if wide.empty:
        return ""
    spans = [f"{_called(row.Index)} ({from_to(row.min, row.max, percent)})" for row in wide.itertuples()]
    text = (
        f" Seeds lie more than {points(WIDE)} apart in {listing(spans)}: the means of these steps and of the "
        "steps after them say little by themselves"
    )
    places = [labels.index(label) for label in wide.index]
    if min(places) == 0 or max(places) + 1 == len(labels):
        return f"{text}."
    before, after = labels[min(places) - 1], labels[max(places) + 1]
    over = _change_of(paired_differences(rows, after, before, METRIC))
    return f"{text}; over all of them, from {_called(before)} to {_called(after)}, it is {over}."


def parts_of_walk(frame):
    """What each of `catalogue.PARTS`, and all the rest, add on the walk, each the sum of its steps.

    `frame` as for `walk`; `numbers` has the mean of each part.
    """
    steps, rest = effects(frame, contrasts=of_kind("walk")), "all the rest"
    parts = steps["first"].map({label: part for part, labels in PARTS.items() for label in labels}).fillna(rest)
    seeds = steps["n"].iloc[0]
    added = {part: sum(steps.loc[parts == part, "differences"], np.zeros(seeds)) for part in (*PARTS, rest)}
    written = listing([f"{part} by {_change_of(differences)}" for part, differences in added.items()])
    means = {part: float(differences.mean()) for part, differences in added.items()}
    return Finding(
        f"On the walk these change test accuracy: {written} ({runs(seeds)}). {_most(added)}",
        None,
        means,
    )


def _most(added):
    """Which of `added`, {part: differences}, adds most, where the intervals show it."""
    intervals = {part: t_interval(differences) for part, differences in added.items()}
    most = max(intervals, key=lambda part: intervals[part].mean)
    if all(intervals[most].low > other.high for part, other in intervals.items() if part != most):
        return f"Most is {most}."
    return "Their intervals do not show which adds most."


def precision(frame, margin=EQUIVALENCE_MARGIN):
    """Whether the assignment's CNN is as accurate in this machine's fast precision as in float32, within `margin`.

    `frame`: rows of `recipe_studies.read` with both; shown where the 90% interval of the paired
    difference lies within +-`margin` (see `estimates.equivalent`). `numbers` has mean, low, high, alike.
    """
    changes = paired_differences(frame, ASSIGNMENT.label, FLOAT32.label, METRIC)
    alike, interval = equivalent(changes, margin)
    ends = from_to(interval.low, interval.high, signed_points)
    shown = "shows that it stays" if alike else "does not show that it stays"
    not_excluded = f"; a loss of up to {points(-interval.low)} is not excluded" if interval.low < 0 else ""
    sentence = (
        f"In {_precision(frame)} instead of float32 the assignment's CNN changes by {signed_points(interval.mean)} "
        f"percentage points of test accuracy ({f'90% interval {ends}, ' if ends else ''}{runs(len(changes))}), which "
        f"{shown} within the margin of {points(margin)}{not_excluded}."
    )
    return Finding(sentence, None, {"mean": interval.mean, "low": interval.low, "high": interval.high, "alike": alike})


def choice(frame):
    """What could stand in the place of a part of the narrow recipe, compared on validation, where the choice is made.

    `frame`: rows of `recipe_studies.read` with a seed of the narrow recipe and an alternative.
    `numbers` has chosen (the label of the highest mean) and the mean changes by label.
    """
    table = effects(frame, VALIDATION, of_kind("instead"))
    parts = [f"{row.change} {_change_of(row.differences)} ({runs(row.n)})" for row in table.itertuples()]
    best = table.loc[table["mean"].idxmax()]
    chosen = best["first"] if best["mean"] > 0 else NARROW
    missing = [NAMES[label] for label in ALTERNATIVES if label not in set(table["first"])]
    sentence = (
        f"On the validation images the narrow recipe changes with what could replace a part: "
        f"{listing(parts)}. The highest mean is that of {_called(chosen)}"
    )
    if missing:
        sentence += f"; not recorded yet: {listing(missing)}"
    return Finding(f"{sentence}.", None, {"chosen": chosen, **dict(zip(table["first"], table["mean"], strict=True))})


def test_time_augmentation(frame, label=NARROW):
    """What answering from several views of each image adds to the recipe called `label`."""
    rows = frame[frame["label"] == label]
    if rows.empty:
        raise ValueError(f"the frame has no recipe {label!r}; run the study first")
    added = (rows[AUGMENTED] - rows[METRIC]).to_numpy()
    ((verdict, numbers),) = differences_verdict([added])
    direction = {BETTER: "adds", WORSE: "costs"}.get(verdict, "makes no detectable difference:")
    sentence = (
        f"Test-time augmentation {direction} {gap(added)[0]} of test accuracy in {_called(label)} "
        f"({runs(len(rows))}), and all answers together take "
        f"{percent((rows['seconds_tta'] / rows['seconds']).median())} of its time."
    )
    return Finding(sentence, verdict, numbers)


def target(frame, label):
    """Whether the recipe `label`, a key of `catalogue.TARGETS`, reaches its accuracy in its time.

    The mean over seeds counts, of accuracy with the recipe's test-time augmentation and of the
    time from raw data to the last answer, in yardsticks of the published code's with the same seeds.
    Seeds of `catalogue.SCORED_BEFORE` are told apart, where others are recorded; with fewer than
    `catalogue.TARGET_SEEDS` others the answer is for now.
    `numbers` has accuracy, yardsticks, n, reached (bool, of enough seeds).
    """
    wanted, limit = TARGETS[label]
    every = with_yardsticks(frame)
    every = every[every["label"] == label]
    if every.empty:
        raise ValueError(f"the frame has no recipe {label!r}; run the study first")
    rows = _judged(every)
    rows = rows[rows["yardsticks"].notna()] if rows["yardsticks"].any() else rows
    score, interval = estimate(rows[AUGMENTED])
    time, ratio = estimate(rows["yardsticks"], "{:.2f}".format) if rows["yardsticks"].any() else (None, None)
    augmented = " with test-time augmentation" if RECIPES[label].tta else ""
    reaches = f"{NAMES[label].capitalize()} reaches {score} test accuracy{augmented}"
    numbers = {"accuracy": interval.mean, "yardsticks": ratio.mean if ratio else math.nan, "n": interval.n}
    goal = f"{_exact(wanted)} in at most {_count(limit)} of {YARDSTICK}"
    if ratio is None:
        sentence = (
            f"{reaches}; its time has no yardstick, because the published "
            f"code did not run with the same seeds, so that the target ({goal}) is open."
        )
        return Finding(sentence, None, {**numbers, "reached": False})
    accurate, quick = interval.mean >= wanted, ratio.mean <= limit
    of_seeds = frame["seed"].isin(rows["seed"])
    yardstick = frame.loc[of_seeds & (frame["label"] == PUBLISHED.label), "seconds"].mean()
    verdict = {
        (True, True): "is reached",
        (True, False): "is not reached: it takes too long",
        (False, True): "is not reached: accuracy is too low",
        (False, False): "is not reached, neither in accuracy nor in time",
    }[accurate, quick]
    enough = len(rows) >= TARGET_SEEDS and not rows["seed"].isin(SCORED_BEFORE).any()
    if not enough:
        verdict += f", for now: it asks for the mean of {TARGET_SEEDS} seeds"
    sentence = (
        f"{reaches} in {time} yardsticks ({runs(interval.n)}{_scored_before(every, rows)}; "
        f"{rows['cpu_yardsticks'].mean():.2f} yardsticks of processor time; a yardstick, {YARDSTICK}, is "
        f"{duration(yardstick)} here): the target, {goal}, {verdict}."
    )
    return Finding(sentence, None, {**numbers, "reached": bool(accurate and quick and enough)})


def against_airbench(frame, label=BEST):
    """The recipe `label` beside what airbench94 is published with: accuracy with its augmentation, and operations.

    Of the seeds that `target` counts.
    """
    rows = _judged(frame[frame["label"] == label])
    score, interval = estimate(rows[AUGMENTED])
    flops = rows["training_flops"].mean()
    sentence = (
        f"airbench94 is published with {_exact(AIRBENCH94['accuracy'])} at {_petaflop(AIRBENCH94['flops'])}; "
        f"{NAMES[label]} has {score} ({runs(interval.n)}) at {_petaflop(flops)} by this lab's count of its training."
    )
    return Finding(sentence, None, {"accuracy": interval.mean, "flops": flops})


def best_frontier(frame, seconds=None):
    """The recipes that no other beats in accuracy without taking longer, each with both means and n seeds of them.

    `seconds` as `change_table` takes them; where not all are there, the trainings' own times serve.
    """
    rows = side_by_side(with_yardsticks(frame), seconds)
    labels, time = frontier(rows), time_column(rows)
    write = "{:.2f} yardsticks".format if time == "yardsticks" else duration
    parts = []
    for label in labels:
        mine = rows[rows["label"] == label]
        score, took = percent(mine[AUGMENTED].mean()), write(mine[time].mean())
        parts.append(f"{_called(label)} ({score}, {took}, n = {mine['seed'].nunique()})")
    sentence = (
        f"The frontier of accuracy with test-time augmentation, fastest first: {listing(parts)}. Every other "
        "recorded recipe takes longer than one of these without being more accurate."
    )
    if time == SIDE_BY_SIDE:
        sentence += (
            f" These times are measured side by side on one machine, where {YARDSTICK} take "
            f"{duration(rows.loc[rows['label'] == PUBLISHED.label, time].mean())}, without its answers to the "
            "validation images after each of them."
        )
    return Finding(sentence, None, {"labels": labels})


def _judged(rows):
    """`rows` of one recipe without the seeds that earlier forms were scored with, unless there are no others."""
    before = rows["seed"].isin(SCORED_BEFORE)
    return rows if before.all() else rows[~before]


def _scored_before(every, judged):
    """Of the seeds with which earlier forms were scored on the test images, as the end of a list in brackets."""
    seeds = sorted({*every["seed"]} & {*SCORED_BEFORE})
    if not seeds:
        return ""
    left_out = not {*seeds} & {*judged["seed"]}
    rest = f"is left out: with it {percent(every[AUGMENTED].mean())}" if left_out else "is all there is"
    return f"; seed {listing(seeds)}, with which earlier forms were scored, {rest}"


def _called(label):
    """The recipe called `label` in the middle of a sentence."""
    name = NAMES.get(label, label)
    if label == NARROW:
        return "the narrow recipe"
    if label in ALTERNATIVES:
        return f"the narrow recipe with {name}"
    for beginning, words in (("+ ", "the walk up to "), ("only ", "the assignment's CNN with ")):
        if name.startswith(beginning):
            return words + name.removeprefix(beginning)
    return f"the narrow recipe {name}" if name.startswith("without ") else name


def _change(row):
    what = f"from {row.change}, {PLACES[row.kind]},"
    numbers = {"mean": row.mean, "n": row.n, "detectable": row.detectable, "times": row.times}
    time = f"at {row.times:.2f} times the processor time"
    if row.n < 2:
        sentence = (
            f"One run has no interval: the change of test accuracy {what} is {signed_points(row.mean)} percentage "
            f"points {time}, and no conclusion is drawn."
        )
        return Finding(sentence, undetectable(1), numbers)
    corrected = f" after Holm for {row.family} changes" if row.family > 1 else ""
    evidence = (
        f"95% interval {from_to(row.low, row.high, signed_points)}, n = {row.n} paired seeds, "
        f"{p_value(row.p_holm)}{corrected}"
    )
    numbers |= {"low": row.low, "high": row.high, "p_holm": row.p_holm}
    if row.differs:
        name, verdict = ("gain", BETTER) if row.mean > 0 else ("loss", WORSE)
        sentence = f"The {name} {what} is {points(row.mean)} of test accuracy ({evidence}), {time}."
        return Finding(sentence, verdict, numbers)
    sentence = (
        f"No difference {what} is detectable at n = {row.n}: {signed_points(row.mean)} percentage points of test "
        f"accuracy ({evidence}), {time}; the smallest that could have been seen in four of five such studies is "
        f"{points(row.detectable)}."
    )
    return Finding(sentence, undetectable(row.n), numbers)


def _change_of(differences):
    """'+19.71 percentage points (95% interval +19.56 to +19.86)'."""
    return estimate(differences, lambda mean: f"{signed_points(mean)} percentage points", signed_points)[0]


def _exact(share):
    """0.94 -> '94%', 0.7444 -> '74.44%'."""
    return f"{round(100 * share, 6):g}%"


def _petaflop(count):
    return f"{count / 1e15:.2f} PFLOP"


def _precision(frame):
    (found,) = frame.loc[frame["label"] == ASSIGNMENT.label, "precision"].unique()
    return found


def _count(limit):
    return {0.25: "a quarter"}.get(limit, f"{limit:g} times the time")
