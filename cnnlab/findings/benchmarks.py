"""How benchmarks are run, kept and read back, and one sentence per table that compares it with its aim.

The tables are those of `benchmarks/training.py` and `benchmarks/serving.py`, by the titles below: medians of one run on
one machine, and so without intervals.
"""

import datetime
import json
import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cnnlab.findings.finding import Finding
from cnnlab.machine import atomic_file, environment
from cnnlab.studies import TARGETS
from cnnlab.wording import duration, percent, share_spelled

# Where the record lies; nothing else writes here.
BENCHMARKS_FOLDER = Path("results") / "benchmarks"
THROUGHPUT = "training the assignment's CNN"
RECIPE_TURNS = "the recipes' trainings side by side"
RATE_SHARE = "share of the matrix product's rate"
LOADING_COST = "loading"
TIME_TO_TARGET = "time to the target"
NOTEBOOK_RUN = "notebook, quick budget"
MARS_RUN = "Mars notebook, quick budget"
HANDLER_LATENCY = "handler"
SERVER_LOAD = "server"
SERVER_SHARE = "server against the model alone"
MIXED_LOAD = "server, all kinds of requests"
# Growth that leaking memory would exceed within a minute, a share.
FLAT = 0.05


class Aims(NamedTuple):
    """Throughput as a multiple of the published way's; shares of a matrix product's rate by width; MB of a notebook.

    And, for the local server against the SavedModel alone: its time for one client, as a multiple, and the share of the
    model's rate that it reaches for many.
    """

    speedup: float = 2.2
    shares: tuple[float, ...] = (0.35, 0.55, 0.70, 0.75)
    peak_MB: float = 2_000  # noqa: N815 (the unit's own spelling, as in the table)
    server_times: float = 1.5
    server_share: float = 0.5


AIMS = Aims()


def run_benchmarks(measurements, about="", output=None):
    """Take `measurements`, {title: function that returns a DataFrame}, print each, say what they show, return them.

    `about`: what they are measured on, in words; `output`: a JSON file, written after each so that a failure loses
    none before it; it keeps what this machine measured earlier and does not measure now. Raises OSError, before
    anything is measured, where its folder cannot be made.
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
    print("", *benchmark_findings(tables), sep="\n")
    return tables


def read_benchmarks(folder):
    """{title: DataFrame} of all benchmarks kept in `folder`, one file per machine and kind.

    Each title has its latest table; attrs["finished"] says when it was taken, ISO 8601, and attrs["cpu"] on what.
    """
    tables = {}
    for path in sorted(Path(folder).glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for title, kept in content["tables"].items():
            table = pd.DataFrame(kept["rows"])
            table.attrs |= {"finished": kept["finished"], "cpu": content["machine"]["cpu"]}
            if title not in tables or tables[title].attrs["finished"] < kept["finished"]:
                tables[title] = table
    return tables


def benchmark_findings(tables):
    """A Finding for each of `tables`, {title: DataFrame}, that has a sentence here (for recipes, see `targets`).

    `numbers` has reached, a bool: whether the aim is met or, where there is none, whether it is better at all.
    """
    found = (write(tables[title]) for title, write in _WRITERS.items() if title in tables)
    return [Finding(f"{said}.", None, {**numbers, "reached": bool(reached)}) for said, numbers, reached in found]


def _throughput(table):
    times = table.loc[table["way"].str.startswith("here"), "times_published"].max()
    said = f"The assignment's CNN trains {times:.2f} times as fast as with the published code"
    reached = times >= AIMS.speedup
    return f"{said}: the aim, {AIMS.speedup:g} times, {_is(reached)}", {"times_published": times}, reached


def _ceiling(table):
    shares, large = (table[share].to_numpy()[1:] for share in ("share", "share_large"))
    enough, large_enough = (int((each >= AIMS.shares).sum()) for each in (shares, large))
    said = f"The networks train at {shares.min():.0%} to {shares.max():.0%} of a matrix product's rate"
    more = f", {share_spelled(large_enough, len(shares))} in larger batches" if large_enough > enough else ""
    said = f"{said}: {share_spelled(enough, len(shares))} reach the aim{more}"
    return said, {"shares": [*shares]}, enough == len(shares)


def _loading(table):
    there, here = table["way"].iloc[0].split(",")[0], table.iloc[-1]
    time, memory = here["seconds_ratio"], here["peak_MB_ratio"]
    said = f"Loading the data takes {time:.2f} times the time and {memory:.2f} times the memory of {there}"
    return said, {"seconds_ratio": time}, time <= 1 and memory <= 1


def _target(table):
    row, (share, limit) = table.iloc[-1], TARGETS[table["recipe"].iloc[-1]]
    accuracy, times = row["test_accuracy"], row["seconds"] / table["seconds"].iloc[0]
    reached, of_time = accuracy >= share and times <= limit, f"{times:.2f} times the published code's time"
    said = f"One training of `to_74` reaches {percent(accuracy)} in {of_time}: the target {_is(reached)}"
    return said, {"baseline_times": times}, reached


def _notebook(which, table):
    minutes, memory = table[["minutes", "peak_MB"]].iloc[0]
    said = f"A quick run of the {which} notebook takes {duration(60 * minutes)} and {memory:,.0f} MB of memory"
    reached = memory < AIMS.peak_MB
    return f"{said}, {'under' if reached else 'over'} the aim of {AIMS.peak_MB:,.0f}", {"peak_MB": memory}, reached


def _handler(table):
    least, most = table.loc[table["way"] != "published", "times_faster"].agg(["min", "max"])
    said = f"The packed handler answers {least:.1f} to {most:.1f} times as fast as the published code"
    return said, {"least": least}, least > 1


def _server(table):
    errors, most = int(table["errors"].sum()), table["requests_per_second"].max()
    said = f"The local server answers up to {most:,.0f} requests a second; {errors or 'none'} failed"
    return said, {"errors": errors}, errors == 0


def _against_the_model(table):
    times, share = table["ratio"]
    reached = times <= AIMS.server_times, share >= AIMS.server_share
    aimed = ("the aims are missed", "one aim reached, one missed", "the aims are reached")[sum(reached)]
    cost = f"{times:.2f} times the model's time for one client and reaches {share:.2f} of its rate for many"
    return f"The local server takes {cost}: {aimed}", {"times": times, "share": share}, all(reached)


def _mixed(table):
    row = table.iloc[0]
    errors, growth = int(row["unexpected"]), row["MB_after"] / row["MB_before"] - 1
    said = f"With all kinds of requests from {row['clients']:.0f} clients, the local server gives"
    said = f"{said} {errors or 'no'} unexpected answers; its memory grows by {growth:.1%}"
    return said, {"errors": errors, "growth": growth}, errors == 0 and growth < FLAT


def _is(reached):
    return "is reached" if reached else "is missed"


_WRITERS = {
    THROUGHPUT: _throughput,
    RATE_SHARE: _ceiling,
    LOADING_COST: _loading,
    TIME_TO_TARGET: _target,
    NOTEBOOK_RUN: partial(_notebook, "assignment's"),
    MARS_RUN: partial(_notebook, "Mars"),
    HANDLER_LATENCY: _handler,
    SERVER_LOAD: _server,
    SERVER_SHARE: _against_the_model,
    MIXED_LOAD: _mixed,
}
