"""What the changes of the recipes add, and which targets are reached: one sentence each, and tables."""

import math

import numpy as np
import pandas as pd

from cnnlab import measures, studies
from cnnlab.findings.finding import BETTER, CANNOT_TELL, SAME, WITHIN, WORSE, Finding, judge_contrasts, judged_one
from cnnlab.findings.tables import cell
from cnnlab.studies import ASSIGNMENT, FLOAT32, NAMES, NARROW, STUDY_SEEDS, TARGETS, WALK, of_kind
from cnnlab.wording import capital, duration, from_to, percent, points, signed_points, spelled, whole_points

PLACES = {
    "training": "the assignment's CNN",
    "walk": "on top of the steps before it",
    "alone": "alone, on the assignment's CNN",
    "left out": "leave-one-out, in the narrow recipe",
    "instead": "in the narrow recipe",
}
# The end of the cumulative ablation.
BEST = WALK[-1].label
# Within it two recipes are the same, a share: at 94% half a point is a twelfth of the errors.
RECIPE_MARGIN = 0.005


def recipe_findings(frame, seconds=None):
    """What `frame`, rows of the recipe study, allows one to say: a list of Findings.

    `seconds` as for `frontier_table`.
    """
    labels = set(frame["label"])
    found = [coverage(frame)]
    found += [cumulative(frame)] if measures.measured(frame, of_kind("walk")) else []
    found += [precision(frame)] if {ASSIGNMENT.label, FLOAT32.label} <= labels else []
    found += [test_time_augmentation(frame, label) for label in (NARROW, BEST) if label in labels]
    found += [choice(frame)] if measures.measured(frame, of_kind("instead")) else []
    return [*found, best_of_frontier(frame, seconds)]


def coverage(frame):
    """How many of the study's recipes have a row, and how many of them all the seeds that it asks for."""
    seeds = frame.groupby("label")["seed"].nunique().reindex(list(studies.RECIPES), fill_value=0)
    n, begun, whole = len(seeds), int((seeds > 0).sum()), int((seeds >= STUDY_SEEDS).sum())
    said = f"All {n} recipes of the study are recorded, each with"
    if whole < n:
        said = f"{begun} of the study's {n} recipes are recorded, {whole} of them with"
    numbers = {"recipes": n, "recorded": begun, "whole": whole}
    return Finding(f"{said} at least {spelled(STUDY_SEEDS)} seeds.", None, numbers)


def targets(frame, seconds=None):
    """A Finding for each target of which `frame` has rows; arguments as of `target`."""
    return [target(frame, label, seconds) for label in TARGETS if label in set(frame["label"])]


def target(frame, label, seconds=None):
    """Whether the recipe `label`, a key of TARGETS, reaches its accuracy in its time, in the mean over seeds.

    `frame`: rows of it and of the published code; `seconds` as for `measures.baseline_times`. Accuracy is with
    test-time augmentation. Fewer seeds than TARGET_SEEDS, or no time measured side by side, cannot tell.
    """
    (wanted, limit), rows = TARGETS[label], _of(frame, label)
    turns = measures.baseline_times(frame, seconds).get(label, [math.nan])
    accuracy, times, n = rows[measures.AUGMENTED].mean(), float(np.median(turns)), rows["seed"].nunique()
    reached = f"{percent(accuracy)} in {times:.2f} times the published code's time"
    faults = {"falls short of": accuracy < wanted, "is too slow for": times > limit}
    missed = [fault for fault, found in faults.items() if found]
    verdict = WORSE if missed else BETTER
    said = f"{' and '.join(missed) or 'meets'} its target: {reached}"
    if math.isnan(times):
        verdict, said = (
            CANNOT_TELL,
            f"reaches {percent(accuracy)}; without the published code's time its target is open",
        )
    elif n < studies.TARGET_SEEDS:
        verdict, said = CANNOT_TELL, f"has {reached}, from too few seeds for its target"
    numbers = {"accuracy": accuracy, "baseline_times": times, "n": n, "reached": verdict == BETTER}
    return Finding(f"{capital(NAMES[label])} {said}.", verdict, numbers)


def target_table(frame, seconds=None):
    """Each target with what its recipe reaches, and what airbench94 is published with, ready for Markdown."""
    rows, times = [], measures.baseline_times(frame, seconds)
    for label in (label for label in TARGETS if label in set(frame["label"])):
        (wanted, limit), mine = TARGETS[label], _of(frame, label)
        rows.append(
            {
                "Recipe": NAMES[label],
                "Wanted": f"{_exact(wanted)} in {limit:g}",
                "Test accuracy": cell(mine[measures.AUGMENTED]),
                "Baseline times (range over rounds)": _ranged(times[label]) if label in times else "",
                "n": str(len(mine)),
                "PFLOP": _peta(mine["training_flops"].mean()),
                "Reached": "yes" if target(frame, label, seconds).numbers["reached"] else "no",
            }
        )
    accuracy, flops = _exact(studies.AIRBENCH94["accuracy"]), _peta(studies.AIRBENCH94["flops"])
    return pd.DataFrame(
        [*rows, {"Recipe": "airbench94, as published", "Test accuracy": accuracy, "PFLOP": flops}]
    ).fillna("")


def cumulative(frame):
    """Where the cumulative ablation begins and ends; only seeds that all of its recorded steps have count.

    The verdict is the end against the beginning; `numbers` has those of the steps, and the label of the largest.
    """
    steps, rows = measures.effects(frame, contrasts=of_kind("walk")), measures.complete_seeds(frame)
    ends = (ASSIGNMENT.label, steps["first"].iloc[-1])
    start, end = (rows.loc[rows["label"] == label, measures.METRIC].mean() for label in ends)
    verdict, numbers = judged_one(measures.paired_differences(rows, *reversed(ends), measures.METRIC), RECIPE_MARGIN)
    verdicts = [verdict for verdict, _ in judge_contrasts(steps["differences"], RECIPE_MARGIN)]
    unclear, n = verdicts.count(CANNOT_TELL), len(steps)
    meaning = f"{'most' if unclear > n / 2 else 'some'} of them cannot be told from noise by themselves"
    if numbers["n"] < 2:
        meaning = "one seed cannot tell what each is worth"
    elif not unclear:
        meaning = "each of them can be told from noise"
    sentence = (
        f"{spelled(n)} cumulative change{'s' * (n > 1)} take the assignment's CNN from {percent(start)} to "
        f"{percent(end)}; {meaning}."
    )
    largest = steps.loc[steps["mean"].idxmax(), "first"]
    numbers |= {"steps": n, "start": start, "end": end, "verdicts": verdicts, "largest": largest}
    return Finding(capital(sentence), verdict, numbers)


def precision(frame):
    """Whether the assignment's CNN is as accurate in the precision it was trained in as in float32, within MARGIN."""
    (fast,) = frame.loc[frame["label"] == ASSIGNMENT.label, "precision"].unique()
    verdict, numbers = judged_one(measures.paired_differences(frame, ASSIGNMENT.label, FLOAT32.label, measures.METRIC))
    fast = fast.replace("_", " ")
    way = f"{points(numbers['mean'])} {'below' if numbers['mean'] < 0 else 'above'} float32"
    sentence = {
        SAME: f"In {fast} the assignment's CNN is as accurate as in float32, within {WITHIN}: the speed costs nothing.",
        CANNOT_TELL: f"Cannot tell whether {fast} costs accuracy: {way} may be noise.",
    }.get(verdict, f"In {fast} the assignment's CNN lies {way}.")
    return Finding(sentence, verdict, numbers)


def test_time_augmentation(frame, label):
    """What answering from several views of each image adds to the recipe called `label`."""
    rows = _of(frame, label)
    verdict, numbers = judged_one((rows[measures.AUGMENTED] - rows[measures.METRIC]).to_numpy(), RECIPE_MARGIN)
    numbers["time_share"] = (rows["seconds_tta"] / rows["seconds"]).median()
    size, cost, name = points(numbers["mean"]), f"for {percent(numbers['time_share'])} of its time", _called(label)
    sentence = {
        BETTER: f"Test-time augmentation adds {size} to {name}, {cost}.",
        WORSE: f"Test-time augmentation costs {name} {size}.",
        SAME: f"Test-time augmentation changes {name} by less than {whole_points(RECIPE_MARGIN)}.",
        CANNOT_TELL: f"Cannot tell what test-time augmentation adds to {name}: {size} may be noise.",
    }[verdict]
    return Finding(sentence, verdict, numbers)


def choice(frame):
    """What could stand in the place of a part of the narrow recipe, compared on validation, where the choice is made.

    The verdict is that of the best alternative; `numbers` has chosen, a label, and the mean change by label.
    """
    table = measures.effects(frame, measures.VALIDATION, of_kind("instead"))
    place = table["mean"].to_numpy().argmax()
    best, (verdict, numbers) = table.iloc[place], judge_contrasts(table["differences"], RECIPE_MARGIN)[place]
    sentence = f"On validation none of {len(table)} replacements beats the narrow recipe, which stays as it is."
    if best["mean"] > 0:
        meaning = {BETTER: "", SAME: ", too little to matter"}.get(verdict, ", which may be noise")
        sentence = f"On validation {best['change']} improves the narrow recipe by {points(best['mean'])}{meaning}."
    means = dict(zip(table["first"], table["mean"], strict=True))
    return Finding(sentence, verdict, {**numbers, "chosen": best["first"] if best["mean"] > 0 else NARROW, **means})


def best_of_frontier(frame, seconds=None):
    """How many recipes nothing beats in both accuracy and time, and the most accurate of them; as `frontier_table`."""
    parts, time = _frontier(frame, seconds)
    *_, (best, mine) = parts.items()
    accuracy, count = mine[measures.AUGMENTED].mean(), len(parts)
    are = f"{spelled(count)} recipes are" if count > 1 else "One recipe is"
    took = _write_time(mine[time].mean(), time)
    sentence = f"{are} worth their time; the most accurate, {_called(best)}, reaches {percent(accuracy)} in {took}."
    return Finding(capital(sentence), None, {"labels": list(parts), "accuracy": accuracy, "time": time})


def frontier_table(frame, seconds=None):
    """The recipes that no other beats in accuracy without taking longer, fastest first.

    `seconds`: {label: seconds of a training, one a round}, measured side by side; unless all are there, the
    trainings' own times serve.
    """
    parts, time = _frontier(frame, seconds)
    return pd.DataFrame(
        {
            "Recipe": NAMES.get(label, label),
            "Test accuracy, with its augmentation": cell(mine[measures.AUGMENTED]),
            "Time of a training": _write_time(mine[time].mean(), time),
            "n": mine["seed"].nunique(),
        }
        for label, mine in parts.items()
    )


def change_table(table, seconds=None):
    """The rows of `measures.effects` as texts, a row a change: what it is worth, with 95% interval, and its time.

    Times are ratios of `seconds`, as for `frontier_table`, round by round, else of the trainings' processor times.
    """
    heading, times = "Times the processor time", table["times"].map("{:.2f}".format)
    if seconds and {*table["first"], *table["second"]} <= seconds.keys():
        heading = "Times the training time, side by side (range over rounds)"
        ratios = [np.divide(seconds[row.first], seconds[row.second]) for row in table.itertuples()]
        times = [_ranged(ratio) for ratio in ratios]
    return pd.DataFrame(
        {
            "Change": table["change"],
            "Where": table["kind"].map(PLACES),
            "Seeds": table["n"].astype(str),
            "Test accuracy, points": table["mean"].map(signed_points),
            "95% interval": [from_to(row.low, row.high, signed_points) or "one run" for row in table.itertuples()],
            heading: times,
        }
    )


def _of(frame, label):
    rows = frame[frame["label"] == label]
    if rows.empty:
        raise ValueError(f"the frame has no recipe {label!r}; run the study first")
    return rows


def _frontier(frame, seconds):
    """({label: its rows} of the frontier, fastest first, the column that times are compared by)."""
    rows = measures.with_baseline_times(frame, seconds)
    return {label: rows[rows["label"] == label] for label in measures.frontier(rows)}, measures.time_column(rows)


def _ranged(values):
    return f"{np.median(values):.2f} ({np.min(values):.2f} to {np.max(values):.2f})"


def _write_time(value, time):
    return f"{value:.2f} baseline times" if time == measures.BASELINE_TIMES else duration(value)


def _called(label):
    """The recipe called `label` in a sentence; tables name exactly which step or variant it is."""
    if label == NARROW:
        return "the narrow recipe"
    if label in TARGETS or label in (ASSIGNMENT.label, FLOAT32.label) or label not in studies.RECIPES:
        return NAMES.get(label, label)
    if label in {recipe.label for recipe in WALK}:
        return "a step of the cumulative ablation"
    narrow = {name for name, *_ in studies.INSTEAD} | {contrast.second for contrast in of_kind("left out")}
    return "a variant of the narrow recipe" if label in narrow else "a variant of the assignment's CNN"


def _exact(share):
    """0.94 -> '94%', 0.7444 -> '74.44%'."""
    return f"{round(100 * share, 6):g}%"


def _peta(flops):
    return f"{flops / 1e15:.2f}"
