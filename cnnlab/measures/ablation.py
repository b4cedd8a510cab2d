"""What each change of the recipes is worth and takes: a tidy frame of several seeds in, differences out.

And how benchmarks, of which the times come, are run, kept and read back.
"""

import datetime
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from cnnlab.machine import atomic_file, environment, root
from cnnlab.measures.stats import paired_differences, paired_tests, paired_values
from cnnlab.studies import CONTRASTS, NAMES, PUBLISHED, WALK

# The final weights without test-time augmentation, which is reported apart.
METRIC = "test_accuracy_last"
AUGMENTED = "test_accuracy_tta"
# What choices are made by: the same weights on the validation images.
VALIDATION = "val_accuracy_last"
# Times, the one first that machines of different speed disturb least: measured side by side.
BASELINE_TIMES = "baseline_times"
TIMES = (BASELINE_TIMES, "seconds")
# Where the benchmarks' record lies, a file each; nothing else writes here.
BENCHMARKS_FOLDER = Path("results") / "benchmarks"


def measured(frame, contrasts=CONTRASTS):
    """Those of `contrasts` whose two recipes have a seed in common in `frame`, as far as it is recorded.

    For a cumulative step it must be a seed that all of the recorded cumulative steps have.
    """
    return [each for each, _ in _with_rows(frame, contrasts)]


def effects(frame, metric=METRIC, contrasts=CONTRASTS):
    """What each of `contrasts` adds to `metric`, paired by seed, with Holm's correction in each kind.

    `frame`: rows of the recipe study; a contrast that is not `measured` is left out, and the cumulative steps are of
    seeds that all of them have (`complete_seeds`). Returns a DataFrame, a row a contrast: kind, change, first, second,
    n (paired seeds), differences (an array, a share for each of these), times (processor time of the first as a
    multiple of the second's, median over seeds), mean, low, high (shares; NaN for one seed), p_holm, differs (bool; see
    `paired_tests`). Raises ValueError where there is no contrast at all.
    """
    rows = []
    for contrast, source in _with_rows(frame, contrasts):
        of_contrast = source, contrast.first, contrast.second
        differences, seconds = paired_differences(*of_contrast, metric), paired_values(*of_contrast, "cpu_seconds")
        times = float((seconds.iloc[:, 0] / seconds.iloc[:, 1]).median())
        names = {name: getattr(contrast, name) for name in ("kind", "change", "first", "second")}
        rows.append({**names, "n": len(differences), "differences": differences, "times": times})
    if not rows:
        raise ValueError("the frame has no two recipes of one contrast and one seed; run the study first")
    return pd.concat(_tested(mine) for _, mine in pd.DataFrame(rows).groupby("kind", sort=False)).sort_index()


def complete_seeds(frame):
    """`frame` without the cumulative ablation's rows of seeds that not all of its recorded steps have.

    Only then do the steps add up to the difference of the last and the first.
    """
    cumulative = frame["label"].isin([recipe.label for recipe in WALK])
    seeds = frame[cumulative].groupby("label")["seed"].agg(set)
    common = set.intersection(*seeds) if len(seeds) else set()
    return frame[~cumulative | frame["seed"].isin(common)]


def _with_rows(frame, contrasts):
    """(contrast, what of `frame` it is taken from), of those whose recipes have a seed in common there."""
    if frame.empty:
        return []
    sources = {True: complete_seeds(frame), False: frame}
    seeds = {whole: rows.groupby("label")["seed"].agg(set).to_dict() for whole, rows in sources.items()}
    return [
        (each, sources[whole])
        for each in contrasts
        for whole in [each.kind == "walk"]
        if seeds[whole].get(each.first, set()) & seeds[whole].get(each.second, set())
    ]


def _tested(rows):
    """`rows` of one kind with their tests; those of one seed have none."""
    several = rows[rows["n"] > 1]
    found = rows.assign(mean=rows["differences"].map(np.mean), low=np.nan, high=np.nan, p_holm=np.nan, differs=False)
    if len(several):
        tests = paired_tests(list(several["differences"])).set_index(several.index)
        for column in ("low", "high", "p_holm", "differs"):
            found.loc[several.index, column] = tests[column]
    return found


def baseline_times(frame, seconds):
    """{recipe: times of its training as multiples of the published code's, an array, one a round of turns}.

    `frame`: rows of recipes, the published code among them; `seconds`: {label: seconds of a training's steps, one a
    round}, measured side by side (None: not measured). To the steps comes what a training takes beside them
    (preparation, answers), by its share in the rows, median over seeds. Recipes without either are left out.
    """
    share = (frame["seconds"] / frame["seconds_training"]).groupby(frame["label"]).median()
    whole = {label: np.multiply(turns, share[label]) for label, turns in (seconds or {}).items() if label in share}
    if PUBLISHED.label not in whole:
        return {}
    return {label: turns / whole[PUBLISHED.label] for label, turns in whole.items()}


def with_baseline_times(frame, seconds):
    """`frame` with the column BASELINE_TIMES: the median of its recipe's `baseline_times`, NaN where there are none."""
    times = {label: np.median(turns) for label, turns in baseline_times(frame, seconds).items()}
    return frame.assign(**{BASELINE_TIMES: frame["label"].map(times).astype("float64")})


def time_column(frame):
    """The column to compare times by: the first of TIMES that every recipe in `frame` has."""
    whole = (column for column in TIMES if column in frame and frame.groupby("label")[column].count().all())
    return next(whole, "seconds")


def named(frame):
    """`frame` with the labels of recipes in words, for tables."""
    return frame.assign(label=frame["label"].map(lambda label: NAMES.get(label, label)))


def frontier(frame, metric=AUGMENTED, time=None):
    """Labels of the recipes that no other beats in mean `metric` without taking longer, fastest first.

    `frame`: with the columns label, `metric` and `time` (None: that of `time_column`), whose mean over seeds counts.
    """
    means = frame.groupby("label").agg(time=(time or time_column(frame), "mean"), score=(metric, "mean"))
    means = means.sort_values(["time", "score"], ascending=[True, False])
    best = means["score"].cummax()
    return list(means.index[(means["score"] >= best) & (best > best.shift(fill_value=-np.inf))])


def run_benchmarks(measurements, say, about="", output=None):
    """Take `measurements`, {title: function that returns a DataFrame}, print each, say what they show, return them.

    `say`: a function from {title: DataFrame} to lines of text; `about`: what is measured on, in words; `output`: a JSON
    file that is written after each, so that one that fails loses none before it, and that keeps what this machine
    measured before and does not measure now. Raises OSError, before anything is measured, where its folder cannot be.
    """
    machine = environment()
    about = f"{about}; " if about else ""
    print(f"{about}{machine['cpu']}, {machine['cores']} cores; load {os.getloadavg()[0]:.1f}", flush=True)
    if output:
        output = Path(output)
        output.parent.mkdir(parents=True, exist_ok=True)
    tables, kept = {}, {}
    if output and output.exists():
        content = json.loads(output.read_text(encoding="utf-8"))
        kept = content["tables"] if content["machine"] == machine else {}
    for title, take in measurements.items():
        print(f"\n{title} ...", flush=True)
        tables[title] = take()
        print(tables[title].to_string(index=False, float_format="{:.2f}".format), flush=True)
        if output:
            finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            kept[title] = {"finished": finished, "rows": json.loads(tables[title].to_json(orient="records"))}
            with atomic_file(output) as partial:
                partial.write_text(json.dumps({"machine": machine, "tables": kept}, indent=1) + "\n", encoding="utf-8")
    print("", *say(tables), sep="\n")
    return tables


def read_benchmarks(folder=None):
    """{title: DataFrame} of all benchmarks kept in `folder` (None: the record's), a file a machine and kind.

    Of one title the table that was taken last; attrs["finished"] says when, ISO 8601, and attrs["cpu"] on what.
    """
    tables = {}
    for path in sorted(Path(folder or root() / BENCHMARKS_FOLDER).glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for title, kept in content["tables"].items():
            table = pd.DataFrame(kept["rows"])
            table.attrs |= {"finished": kept["finished"], "cpu": content["machine"]["cpu"]}
            if title not in tables or tables[title].attrs["finished"] < kept["finished"]:
                tables[title] = table
    return tables
