"""What the changes of the recipes add, and which targets are reached: one sentence each, and tables."""

import math

import numpy as np
import pandas as pd

from cnnlab import measures, studies
from cnnlab.findings.finding import BETTER, CANNOT_TELL, SAME, WORSE, Finding, effect, judge_contrasts, judged_one
from cnnlab.findings.tables import cell
from cnnlab.studies import ASSIGNMENT, FLOAT32, NAMES, NARROW, TARGETS, of_kind
from cnnlab.wording import capital, duration, from_to, percent, signed_points

ASSIGNED = NAMES[ASSIGNMENT.label]
PLACES = {
    "training": ASSIGNED,
    "walk": "on top of the steps before it",
    "alone": f"alone, on {ASSIGNED}",
    "left out": "leave-one-out, in the narrow recipe",
    "instead": "in the narrow recipe",
}
# Within it two recipes are the same, a share: at 94% half a point is a twelfth of the errors.
RECIPE_MARGIN = 0.005


def recipe_findings(frame):
    """What `frame`, rows of the recipe study, allows one to say: a list of Findings."""
    labels = set(frame["label"])
    found = [cumulative(frame)] if measures.measured(frame, of_kind("walk")) else []
    found += [precision(frame)] if {ASSIGNMENT.label, FLOAT32.label} <= labels else []
    found += [test_time_augmentation(frame)] if NARROW in labels else []
    return found + ([choice(frame)] if measures.measured(frame, of_kind("instead")) else [])


def targets(frame, seconds=None):
    """A Finding for each target of which `frame` has rows; arguments as of `target`."""
    return [target(frame, label, seconds) for label in TARGETS if label in set(frame["label"])]


def target(frame, label, seconds=None):
    """Whether the recipe `label`, a key of TARGETS, reaches its accuracy in its time, in the mean over seeds.

    `frame`: rows of it and of the published code; `seconds` as for `measures.baseline_times`. Accuracy is with
    test-time augmentation. Fewer seeds than TARGET_SEEDS, or no time measured side by side, cannot tell.
    """
    (wanted, limit), rows = TARGETS[label], frame[frame["label"] == label]
    turns = measures.baseline_times(frame, seconds).get(label, [])
    accuracy, n = rows[measures.AUGMENTED].mean(), rows["seed"].nunique()
    times = float(np.median(turns)) if len(turns) else math.nan
    faults = {"falls short of": accuracy < wanted, "is too slow for": times > limit}
    missed = [fault for fault, found in faults.items() if found]
    verdict, said = (WORSE, " and ".join(missed)) if missed else (BETTER, "meets")
    if math.isnan(times) or n < studies.TARGET_SEEDS:
        verdict, said = CANNOT_TELL, "cannot be told to meet"
    took = "an unmeasured time" if math.isnan(times) else f"{times:.2f} times the published code's time"
    numbers = {"label": label, "accuracy": accuracy, "turns": turns, "baseline_times": times, "n": n}
    sentence = f"{capital(NAMES[label])} {said} its target: {percent(accuracy)} in {took}."
    return Finding(sentence, verdict, numbers | {"reached": verdict == BETTER})


def target_table(frame, seconds=None):
    """Each target with what its recipe reaches, and what airbench94 is published with, ready for Markdown."""
    rows = []
    for found in (each.numbers for each in targets(frame, seconds)):
        label, turns, mine = found["label"], found["turns"], frame[frame["label"] == found["label"]]
        rows.append(
            {
                "Recipe": NAMES[label],
                "Wanted": f"{_exact(TARGETS[label][0])} in {TARGETS[label][1]:g}",
                "Test accuracy": cell(mine[measures.AUGMENTED]),
                "Baseline times (range over rounds)": _ranged(turns) if len(turns) else "",
                "n": str(found["n"]),
                "PFLOP": _peta(mine["training_flops"].mean()),
                "Reached": "yes" if found["reached"] else "no",
            }
        )
    accuracy, flops = _exact(studies.AIRBENCH94["accuracy"]), _peta(studies.AIRBENCH94["flops"])
    airbench = {"Recipe": "airbench94, as published", "Test accuracy": accuracy, "PFLOP": flops}
    return pd.DataFrame([*rows, airbench]).fillna("")


def cumulative(frame):
    """Where the cumulative ablation begins and ends; only seeds that all of its recorded steps have count.

    The verdict is the end against the beginning; `numbers` has those of the steps, and the label of the largest.
    """
    steps, rows = measures.effects(frame, contrasts=of_kind("walk")), measures.complete_seeds(frame)
    ends = (ASSIGNMENT.label, steps["first"].iloc[-1])
    start, end = (rows.loc[rows["label"] == label, measures.METRIC].mean() for label in ends)
    verdict, numbers = judged_one(measures.paired_differences(rows, *reversed(ends), measures.METRIC), RECIPE_MARGIN)
    verdicts = [verdict for verdict, _ in judge_contrasts(steps["differences"], RECIPE_MARGIN)]
    unclear = verdicts.count(CANNOT_TELL)
    told = f"{'most' if 2 * unclear > len(steps) else 'some'} steps cannot" if unclear else "each step can"
    changes = f"{len(steps)} cumulative change{'s' * (len(steps) > 1)}"
    sentence = f"{changes} take {ASSIGNED} from {percent(start)} to {percent(end)}; {told} be told from noise."
    largest = steps.loc[steps["mean"].idxmax(), "first"]
    numbers |= {"start": start, "end": end, "verdicts": verdicts, "largest": largest}
    return Finding(sentence, verdict, numbers)


def precision(frame):
    """Whether the assignment's CNN is as accurate in the precision it was trained in as in float32, within MARGIN."""
    (fast,) = frame.loc[frame["label"] == ASSIGNMENT.label, "precision"].unique()
    verdict, numbers = judged_one(measures.paired_differences(frame, ASSIGNMENT.label, FLOAT32.label, measures.METRIC))
    so_what = ": its speed costs nothing" if verdict == SAME else ""
    sentence = f"In place of float32, {fast.replace('_', ' ')} {effect(verdict, numbers, ASSIGNED)}{so_what}."
    return Finding(sentence, verdict, numbers)


def test_time_augmentation(frame, label=NARROW):
    """What answering from several views of each image adds to the recipe `label`."""
    rows = frame[frame["label"] == label]
    verdict, numbers = judged_one((rows[measures.AUGMENTED] - rows[measures.METRIC]).to_numpy(), RECIPE_MARGIN)
    numbers["time_share"] = (rows["seconds_tta"] / rows["seconds"]).median()
    change = effect(verdict, numbers, "the narrow recipe" if label == NARROW else NAMES[label], RECIPE_MARGIN)
    return Finding(
        f"Test-time augmentation {change}, for {percent(numbers['time_share'])} of its time.", verdict, numbers
    )


def choice(frame):
    """What could stand in the place of a part of the narrow recipe, compared on validation, where the choice is made.

    The verdict is that of the best alternative; `numbers` has chosen, a label, and the mean change by label.
    """
    table = measures.effects(frame, measures.VALIDATION, of_kind("instead"))
    place = table["mean"].to_numpy().argmax()
    best, (verdict, numbers) = table.iloc[place], judge_contrasts(table["differences"], RECIPE_MARGIN)[place]
    sentence = f"On validation none of {len(table)} replacements beats the narrow recipe, which stays as it is."
    if best["mean"] > 0:
        sentence = f"On validation {best['change']} {effect(verdict, numbers, 'the narrow recipe', RECIPE_MARGIN)}."
    means = dict(zip(table["first"], table["mean"], strict=True))
    return Finding(sentence, verdict, {**numbers, "chosen": best["first"] if best["mean"] > 0 else NARROW, **means})


def frontier_table(frame, seconds=None):
    """The recipes that no other beats in accuracy without taking longer, fastest first.

    `seconds`: {label: seconds of a training, one a round}, measured side by side; unless all are there, the
    trainings' own times serve.
    """
    rows = measures.with_baseline_times(frame, seconds)
    time = measures.time_column(rows)
    write = "{:.2f} baseline times".format if time == measures.BASELINE_TIMES else duration
    parts = {label: rows[rows["label"] == label] for label in measures.frontier(rows)}
    return pd.DataFrame(
        {
            "Recipe": NAMES.get(label, label),
            "Test accuracy, with its augmentation": cell(mine[measures.AUGMENTED]),
            "Time of a training": write(mine[time].mean()),
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


def _ranged(values):
    return f"{np.median(values):.2f} ({np.min(values):.2f} to {np.max(values):.2f})"


def _exact(share):
    """0.94 -> '94%', 0.7444 -> '74.44%'."""
    return f"{round(100 * share, 6):g}%"


def _peta(flops):
    return f"{flops / 1e15:.2f}"
