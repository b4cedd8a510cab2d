"""What the benchmarks measured, held against what they aim at, a sentence a table.

The tables are those of `benchmarks/training.py` and `benchmarks/serving.py`, by the titles below;
medians of one run on one machine, and so without intervals.
"""

import dataclasses

from cnnlab.findings.finding import Finding
from cnnlab.studies import TARGETS
from cnnlab.wording import duration, listing, percent

THROUGHPUT = "training the assignment's CNN"
RECIPE_TURNS = "the recipes' trainings side by side"
RATE_SHARE = "share of the matrix product's rate"
LOADING_COST = "loading"
TIME_TO_TARGET = "time to the target"
NOTEBOOK_RUN = "notebook, quick budget"
HANDLER_LATENCY = "handler"
SERVER_LOAD = "server"


@dataclasses.dataclass(frozen=True)
class Aims:
    """What is aimed at.

    `speedup`: training throughput as a multiple of the published way's; `share`: of the measured
    rate of a matrix product, by the larger half of the variants; `peak_MB`: memory of all of the
    notebook's processes together, in megabytes of 10^6 bytes.
    """

    speedup: float = 1.5
    share: float = 0.7
    peak_MB: float = 2_000  # noqa: N815 (the unit's own spelling, as in the table)


AIMS = Aims()


def benchmark_findings(tables, aims=AIMS):
    """A Finding for each of `tables`, {title: DataFrame}, that this module knows.

    `numbers` has reached, a bool: of the aim, or of being better at all where there is none.
    """
    known = {
        THROUGHPUT: _throughput,
        RECIPE_TURNS: _recipes,
        RATE_SHARE: _ceiling,
        LOADING_COST: _loading,
        TIME_TO_TARGET: _target,
        NOTEBOOK_RUN: _notebook,
        HANDLER_LATENCY: _handler,
        SERVER_LOAD: _server,
    }
    return [write(tables[title], aims) for title, write in known.items() if title in tables]


def _throughput(table, aims):
    best = max((row for row in table.itertuples() if row.way.startswith("here")), key=lambda row: row.times_published)
    reached = best.times_published >= aims.speedup
    sentence = (
        f"The assignment's CNN trains {best.times_published:.2f} times as fast as in the published way: the aim, "
        f"{aims.speedup:g} times, {_verdict(reached)}."
    )
    return Finding(sentence, None, {"times_published": best.times_published, "reached": reached})


def _recipes(table, _):
    times = table.set_index("recipe")["times_assignment"].to_dict()
    written = listing(f"{times[label]:.2f}" for label in TARGETS if label in times)
    sentence = f"Trained in turns, the recipes for the targets take {written} times as long as the assignment's CNN."
    return Finding(sentence, None, {"times_assignment": times, "reached": True})


def _ceiling(table, aims):
    _, *variants = table.itertuples()
    larger = variants[len(variants) // 2 :]
    reached = all(row.share >= aims.share for row in larger)
    only_large = not reached and all(row.share_large >= aims.share for row in larger)
    why = "missed for want of larger batches" if only_large else "reached" if reached else "missed"
    sentence = (
        f"The larger networks train at {percent(min(row.share for row in larger))} or more of a matrix product's rate: "
        f"the aim, {aims.share:.0%}, is {why}."
    )
    return Finding(sentence, None, {"shares": [row.share for row in variants], "reached": reached})


def _loading(table, _):
    there, here = table.iloc[0], table.iloc[-1]
    reached = here["seconds_ratio"] <= 1 and here["peak_MB_ratio"] <= 1
    sentence = (
        f"Loading the data takes {here['seconds_ratio']:.2f} times the time and {here['peak_MB_ratio']:.2f} times the "
        f"memory of {there['way'].split(',')[0]}."
    )
    return Finding(sentence, None, {"seconds_ratio": here["seconds_ratio"], "reached": bool(reached)})


def _target(table, _):
    row = table.iloc[-1]
    share, limit = TARGETS[row["recipe"]]
    times = row["seconds"] / table["seconds"].iloc[0]
    reached = bool(row["test_accuracy"] >= share and times <= limit)
    sentence = (
        f"One training of the target's recipe reaches {percent(row['test_accuracy'])} in {times:.2f} times the "
        f"published code's time: the target {_verdict(reached)}."
    )
    return Finding(sentence, None, {"baseline_times": times, "reached": reached})


def _notebook(table, aims):
    (row,) = table.itertuples()
    reached = row.peak_MB < aims.peak_MB
    sentence = (
        f"The assignment's notebook, quick, takes {duration(60 * row.minutes)} and {row.peak_MB:,.0f} MB of memory: "
        f"the aim, less than {aims.peak_MB:,.0f} MB, {_verdict(reached)}."
    )
    return Finding(sentence, None, {"peak_MB": row.peak_MB, "reached": reached})


def _handler(table, _):
    packed = table[table["way"] != "published"]
    least = packed["times_faster"].min()
    sentence = (
        f"The packed handler answers {least:.1f} to {packed['times_faster'].max():.1f} times as fast as the published "
        "way."
    )
    return Finding(sentence, None, {"least": least, "reached": bool(least > 1)})


def _server(table, _):
    errors, most = int(table["errors"].sum()), table["requests_per_second"].max()
    sentence = f"The local server answers up to {most:,.0f} requests a second; {errors or 'none'} failed."
    return Finding(sentence, None, {"errors": errors, "reached": errors == 0})


def _verdict(reached):
    return "is reached" if reached else "is missed"
