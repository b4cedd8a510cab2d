"""What the benchmarks measured, held against what they aim at, in sentences.

The tables are those of `benchmarks/training.py` and `benchmarks/serving.py`, by the titles below;
medians of one run on one machine, and so without intervals.
"""

import dataclasses

from cnnlab.findings.finding import Finding
from cnnlab.studies import ASSIGNMENT, NAMES, TARGETS, YARDSTICK
from cnnlab.wording import duration, listing, percent, plural

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
    published, *others = table.itertuples()
    best = max((row for row in others if row.way.startswith("here")), key=lambda row: row.times_published)
    reached = best.times_published >= aims.speedup
    rest = [f"{row.way}: {row.times_published:.2f}" for row in others if row is not best]
    sentence = (
        f"The assignment's CNN trains {best.times_published:.2f} times as fast ({best.way}) as in the published way "
        f"({'; '.join(rest)}): the aim, {aims.speedup:g} times, {_verdict(reached)}."
    )
    return Finding(sentence, None, {"times_published": best.times_published, "reached": reached})


def _recipes(table, _):
    times = table.set_index("recipe")["times_assignment"].to_dict()
    written = listing([f"{NAMES[label]} {times[label]:.2f}" for label in TARGETS if label in times])
    sentence = (
        f"Trained in turns on the same few images, without setup and answers, each takes this multiple of the time of "
        f"{NAMES[ASSIGNMENT.label]}: {written}."
    )
    return Finding(sentence, None, {"times_assignment": times, "reached": True})


def _ceiling(table, aims):
    _, *variants = table.itertuples()
    larger = variants[len(variants) // 2 :]
    reached = all(row.share >= aims.share for row in larger)
    verdict = _verdict(reached)
    if not reached and all(row.share_large >= aims.share for row in larger):
        verdict += " in the assignment's batches and reached in the large ones, so that it is their size that limits it"
    shares = listing([f"{percent(row.share)} ({row.filters} filters)" for row in variants])
    large = listing([percent(row.share_large) for row in variants])
    sentence = (
        f"Training reaches {shares} of the rate of a large matrix product in the same precision; in batches of "
        f"{variants[0].large_batch} images, {large}: the aim, {aims.share:.0%} in the larger half of the variants, "
        f"{verdict}."
    )
    return Finding(sentence, None, {"shares": [row.share for row in variants], "reached": reached})


def _loading(table, _):
    there, here = table.iloc[0], table.iloc[-1]
    sentence = (
        f"Loading takes {here['seconds_ratio']:.2f} times the time and {here['peak_MB_ratio']:.2f} times the memory of "
        f"{there['way']} ({_megabytes(here['peak_MB'])} against {_megabytes(there['peak_MB'])})."
    )
    reached = here["seconds_ratio"] <= 1 and here["peak_MB_ratio"] <= 1
    return Finding(sentence, None, {"seconds_ratio": here["seconds_ratio"], "reached": bool(reached)})


def _target(table, _):
    row = table.iloc[-1]
    share, limit = TARGETS[row["recipe"]]
    reached = row["test_accuracy"] >= share and row["yardsticks"] <= limit
    sentence = (
        f"One training of the recipe {row['recipe']} reaches {percent(row['test_accuracy'])} test accuracy in "
        f"{row['yardsticks']:.2f} times the time of {YARDSTICK}: the target, {share:.2%} in {limit:g}, "
        f"{_verdict(reached)}."
    )
    return Finding(sentence, None, {"yardsticks": row["yardsticks"], "reached": bool(reached)})


def _notebook(table, aims):
    (row,) = table.itertuples()
    reached = row.peak_MB < aims.peak_MB
    sentence = (
        f"The assignment's notebook in its quick budget takes {duration(60 * row.minutes)}, and its "
        f"processes together peak at {_megabytes(row.peak_MB)} of memory: the aim, less than "
        f"{_megabytes(aims.peak_MB)}, {_verdict(reached)}."
    )
    return Finding(sentence, None, {"peak_MB": row.peak_MB, "reached": reached})


def _handler(table, _):
    packed = table[table["way"] != "published"]
    parts = [
        f"{plural(batch, 'image')} {listing(times)} times as fast"
        for batch, group in packed.groupby("batch")
        for times in [[f"{row.times_faster:.1f} ({row.way.split(', ')[-1]})" for row in group.itertuples()]]
    ]
    least = packed["times_faster"].min()
    sentence = f"The packed handler answers {listing(parts)} as the published way."
    return Finding(sentence, None, {"least": least, "reached": bool(least > 1)})


def _server(table, _):
    rates = listing(
        [f"{row.requests_per_second:,.0f} of {plural(row.clients, 'client')}" for row in table.itertuples()]
    )
    errors = int(table["errors"].sum())
    sentence = f"Requests that the local server answers a second: {rates}; {errors} failed."
    return Finding(sentence, None, {"errors": errors, "reached": errors == 0})


def _verdict(reached):
    return "is reached" if reached else "is missed"


def _megabytes(count):
    return f"{count:,.0f} MB"
