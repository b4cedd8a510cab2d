"""What the benchmarks measure: printed, kept as JSON, and read back for the README."""

import datetime
import json
import os
from pathlib import Path

import pandas as pd

from cnnlab.machine import atomic_file, environment, root

# Where the record's files lie, one a benchmark; nothing else writes here.
BENCHMARKS_FOLDER = Path("results") / "benchmarks"


def run_benchmarks(measurements, say, about="", output=None):
    """Take `measurements`, {title: function that returns a DataFrame}, print each, and say what they show.

    `say`: a function from {title: DataFrame} to lines of text; `about`: what is measured on, in
    words; `output`: a JSON file that is written after each, so
    that one that fails loses none before it, and that keeps what this machine measured before and
    does not measure now. Returns {title: DataFrame}. Raises OSError, before anything is measured,
    where the file's folder cannot be.
    """
    machine = environment()
    about = f"{about}; " if about else ""
    print(f"{about}{machine['cpu']}, {machine['cores']} cores; load {os.getloadavg()[0]:.1f}", flush=True)
    if output:
        output = Path(output)
        output.parent.mkdir(parents=True, exist_ok=True)
    tables = {}
    kept = _of_machine(output, machine) if output and output.exists() else {}
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
    """The kept tables of all benchmarks in `folder`, {title: DataFrame}: empty where there are none.

    `attrs` of each has finished: when it was measured, in ISO 8601.
    """
    tables = {}
    for path in sorted(Path(folder or root() / BENCHMARKS_FOLDER).glob("*.json")):
        for title, kept in json.loads(path.read_text(encoding="utf-8"))["tables"].items():
            tables[title] = pd.DataFrame(kept["rows"])
            tables[title].attrs["finished"] = kept["finished"]
    return tables


def _of_machine(path, machine):
    """The tables of the file `path` as it keeps them, where they are of `machine`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["tables"] if content["machine"] == machine else {}
