"""How benchmarks are run, kept and read back: tables by their titles, a file a machine and kind."""

import datetime
import json
import os
from pathlib import Path

import pandas as pd

from cnnlab.machine import atomic_file, environment, root

# Where the record lies; nothing else writes here.
BENCHMARKS_FOLDER = Path("results") / "benchmarks"


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
