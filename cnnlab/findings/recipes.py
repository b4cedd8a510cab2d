"""What the steps of the recipes add, and which targets are reached: one sentence each, and tables."""

import math

import numpy as np
import pandas as pd

from cnnlab import measures, studies
from cnnlab.findings.comparisons import extreme
from cnnlab.findings.finding import BETTER, CANNOT_TELL, WORSE, Finding, effect, judge, judge_contrasts, judge_pair
from cnnlab.findings.tables import cell, in_table, with_interval
from cnnlab.studies import ASSIGNMENT, FLOAT32, NAMES, PUBLISHED, TARGETS, WALK
from cnnlab.wording import capital, duration, from_to, percent, points, signed_points, spelled

ASSIGNED = NAMES[ASSIGNMENT.label]
PLACES = {"on top": "on top of the steps before it", "left out": "left out of the narrow recipe"}
# Two recipes that differ by less than this share are the same: at 94%, half a point is a twelfth of the errors.
RECIPE_MARGIN = 0.005


def recipe_findings(frame):
    """The Findings that `frame`, rows of the ablation, supports: a list."""
    table = measures.effects(frame)
    on_top, left_out = (table[table["kind"] == kind] for kind in PLACES)
    found = [] if on_top.empty else [cumulative(frame, on_top)]
    found += ([] if left_out.empty else [missed(left_out)]) + _twice_told(on_top, left_out)
    last = WALK[-1].label
    return found + ([test_time_augmentation(frame, last)] if last in set(frame["label"]) else [])


def cumulative(frame, steps):
    """Where the cumulative ablation begins and ends, and which step adds most.

    `steps`: the rows of `measures.effects` that are on top of others. The verdict is the end against the beginning.
    """
    rows = measures.scored(frame)
    ends = (steps["first"].iloc[-1], steps["second"].iloc[0])
    end, start = (rows.loc[rows["label"] == label, measures.SCORE].mean() for label in ends)
    largest = steps.loc[steps["mean"].idxmax()]
    number = f"{spelled(len(steps))} step{'s' * (len(steps) > 1)}"
    takes = "takes" if len(steps) == 1 else "take"
    sentence = (
        f"{capital(number)} {takes} {ASSIGNED} from {percent(start)} to {percent(end)}; "
        f"the largest gain, {points(largest['mean'])}, comes from {_brief(largest['change'])}."
    )
    numbers = measures.difference(rows, *ends)
    verdict = judge((numbers["low"], numbers["high"]), RECIPE_MARGIN)
    return Finding(sentence, verdict, numbers | {"start": start, "end": end, "largest": largest["step"]})


def missed(left_out):
    """Which step the narrow recipe misses most when it is left out; the verdict is on that step.

    `left_out`: the rows of `measures.effects` of that kind.
    """
    most = left_out.loc[left_out["mean"].idxmax()]
    verdict, numbers = judge_contrasts([most["differences"]], RECIPE_MARGIN)[0]
    sentence = {
        BETTER: f"The narrow recipe misses {_brief(most['change'])} most: it loses {points(most['mean'])} without it.",
        CANNOT_TELL: "Cannot tell which step the narrow recipe misses most: the losses may be noise.",
    }.get(verdict, "The narrow recipe can do without any one of the steps left out.")
    return Finding(sentence, verdict, numbers | {"step": most["step"]})


def _twice_told(on_top, left_out):
    """A Finding on the step whose worth depends most on the other steps; [] where none is measured in both places."""
    both = on_top.merge(left_out, on="step", suffixes=("", "_left")).set_index("step")
    if both.empty:
        return []
    step = (both["mean"] - both["mean_left"]).abs().idxmax()
    one = both.loc[step]
    sentence = (
        f"What a step is worth depends on the others: {_brief(one['change'])} is worth "
        f"{100 * one['mean']:.1f} points when introduced, {100 * one['mean_left']:.1f} in the narrow recipe."
    )
    return [Finding(sentence, None, {"step": step, "on_top": one["mean"], "left_out": one["mean_left"]})]


def _brief(change):
    """A step's name without its details: 'Muon, falling rate' -> 'Muon'."""
    return change.split(",")[0].split(" (")[0]


def listed(frame):
    """Which item on the assignment's list of future work adds most to its CNN, and how many help."""
    verdict, numbers = extreme(frame, ASSIGNMENT.label, measures.METRIC, max)
    verdicts = list(numbers["verdicts"].values())
    name = NAMES[numbers["label"]].removeprefix("+ ").removeprefix("only ")
    sentence = (
        f"The best item, {name}, {effect(verdict, numbers, ASSIGNED)}; "
        f"{verdicts.count(BETTER)} of {len(verdicts)} items help."
    )
    return Finding(sentence, verdict, numbers)


def faithful(frame):
    """Whether the lab's training is as accurate as the published code's, and what its precision costs."""
    labels = set(frame["label"])
    pairs = {PUBLISHED.label: "The lab's training", FLOAT32.label: "Its lower precision"}
    found = []
    for label, name in pairs.items():
        if {label, ASSIGNMENT.label} <= labels:
            verdict, numbers = judge_pair(frame, ASSIGNMENT.label, label, measures.METRIC)
            found.append(Finding(f"{name} {effect(verdict, numbers, ASSIGNED)}.", verdict, numbers))
    return found


def targets(frame, seconds=None):
    """A Finding for each target of which `frame` has rows; arguments as for `target`."""
    return [target(frame, label, seconds) for label in TARGETS if label in set(frame["label"])]


def target(frame, label, seconds=None):
    """Whether the recipe `label`, a key of TARGETS, reaches its accuracy in its time, on average over seeds.

    `frame`: rows of it and of the published code; `seconds` as for `measures.baseline_times`. Accuracy is with
    test-time augmentation. The verdict is "cannot tell" with fewer seeds than TARGET_SEEDS or no time side by side.
    """
    (wanted, limit), rows = TARGETS[label], frame[frame["label"] == label]
    turns = measures.baseline_times(frame, seconds).get(label, [])
    accuracy, n = rows[measures.AUGMENTED].mean(), rows["seed"].nunique()
    times = float(np.median(turns)) if len(turns) else math.nan
    faults = {"falls short of": accuracy < wanted, "is too slow for": times > limit}
    missed = [fault for fault, found in faults.items() if found]
    verdict, said = (WORSE, " and ".join(missed)) if missed else (BETTER, "meets")
    if math.isnan(times) or n < studies.TARGET_SEEDS:
        verdict, said = CANNOT_TELL, "may or may not meet"
    took = "an unmeasured time" if math.isnan(times) else f"{times:.2f} times the published code's time"
    numbers = {"label": label, "accuracy": accuracy, "turns": turns, "baseline_times": times, "n": n}
    sentence = f"{capital(NAMES[label])} {said} its target: {percent(accuracy)} in {took}."
    return Finding(sentence, verdict, numbers | {"reached": verdict == BETTER})


def target_table(frame, seconds=None):
    """Each target with what its recipe reaches, and airbench94's published figures, ready for Markdown."""
    rows = []
    for found in (each.numbers for each in targets(frame, seconds)):
        label, turns, mine = found["label"], found["turns"], frame[frame["label"] == found["label"]]
        times = with_interval(np.median(turns), min(turns), max(turns), "{:.2f}".format) if len(turns) else ""
        rows.append(
            {
                "Recipe": NAMES[label],
                "Target": f"{_exact(TARGETS[label][0])} in {TARGETS[label][1]:g}",
                "Test accuracy": cell(mine[measures.AUGMENTED]),
                "Baseline times (range over rounds)": times,
                "n": str(found["n"]),
                "PFLOP": _peta(mine["training_flops"].mean()),
                "Reached": "yes" if found["reached"] else "no",
            }
        )
    accuracy, flops = _exact(studies.AIRBENCH94["accuracy"]), _peta(studies.AIRBENCH94["flops"])
    airbench = {"Recipe": "airbench94, as published", "Test accuracy": accuracy, "PFLOP": flops}
    return pd.DataFrame([*rows, airbench]).fillna("")


def test_time_augmentation(frame, label):
    """What answering from several views of each image adds to the recipe `label`."""
    rows = frame[frame["label"] == label]
    gains = (rows[measures.AUGMENTED] - rows[measures.METRIC]).to_numpy()
    verdict, numbers = judge_contrasts([gains], RECIPE_MARGIN)[0]
    numbers["time_share"] = (rows["seconds_tta"] / rows["seconds"]).median()
    change = effect(verdict, numbers, NAMES[label], RECIPE_MARGIN)
    return Finding(
        f"Test-time augmentation {change}, and takes {percent(numbers['time_share'])} of its time.", verdict, numbers
    )


def frontier_table(frame):
    """The recipes that no other beats in accuracy without taking longer, fastest first, by their `time_column`."""
    time = measures.time_column(frame)
    write = "{:.2f} baseline times".format if time == measures.BASELINE_TIMES else duration
    parts = {label: frame[frame["label"] == label] for label in measures.frontier(frame)}
    return pd.DataFrame(
        {
            "Recipe": in_table(label),
            "Test accuracy, one view": cell(mine[measures.METRIC]),
            "Time of a training": write(mine[time].mean()),
            "n": mine["seed"].nunique(),
        }
        for label, mine in parts.items()
    )


def change_table(table):
    """The rows of `measures.effects` as text: one row per step, its worth with a 95% interval in both places."""
    rows = {}
    for row in table.itertuples():
        interval = from_to(row.low, row.high, signed_points) if row.n > 1 else "one run"
        worth = f"{signed_points(row.mean)} ({interval}; n = {row.n})"
        rows.setdefault(row.change, {"Step": row.change})[capital(PLACES[row.kind]) + ", points"] = worth
    return pd.DataFrame(rows.values()).fillna("")


def _exact(share):
    """0.94 -> '94%', 0.7444 -> '74.44%'."""
    return f"{round(100 * share, 6):g}%"


def _peta(flops):
    return f"{flops / 1e15:.3g}"
