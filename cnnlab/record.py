"""What is recorded, each part read once, and the tables over all of it."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd

from cnnlab import findings, measures, studies
from cnnlab.findings import HEADLINE, study_table
from cnnlab.measures import AUGMENTED
from cnnlab.studies import TARGETS, Store, find_budget
from cnnlab.wording import duration, from_to, listing, percent, readable

RECORD = find_budget("full")
MARS_CNN = studies.MARS_CNN.label
# The README's table: study, label, metric, data.
SUMMARY = (
    ("baselines", "dense_128_64", HEADLINE, "CIFAR-10"),
    ("filters", "cnn_32_64_128", HEADLINE, "CIFAR-10"),
    ("filters", "cnn_128_256_512", HEADLINE, "CIFAR-10"),
    ("targets", "to_74", AUGMENTED, "CIFAR-10"),
    ("targets", "to_93", AUGMENTED, "CIFAR-10"),
    ("targets", "to_94", AUGMENTED, "CIFAR-10"),
    ("mars_ladder", MARS_CNN, HEADLINE, "Mars"),
    ("mars_ladder", studies.MARS_PROBE_ALL.label, "test_accuracy_last", "Mars"),
)


class Record(Mapping):
    """What is recorded under `root` (None: that of the lab), each part read once, when it is asked for.

    A mapping {study: tidy frame} of the studies with two variants or more (one variant alone is another study's);
    `frames`: such a mapping, in place of what is recorded.
    """

    def __init__(self, root=None, frames=None):
        self.root, self._known = Path(root or RECORD.folder), {}
        if frames is not None:
            self.frames = frames

    def __getitem__(self, study):
        return self.frames[study]

    def __iter__(self):
        return iter(self.frames)

    def __len__(self):
        return len(self.frames)

    @cached_property
    def frames(self):
        """{study: tidy frame}."""
        frames = studies.read_all(studies.STUDIES, self.store)
        return {name: frame for name, frame in frames.items() if not frame.empty and frame["label"].nunique() > 1}

    @cached_property
    def store(self):
        """The Store of its rows and predictions."""
        return Store(self.root / RECORD.store_folder.relative_to(RECORD.folder))

    def once(self, function):
        """What `function` makes of this record, computed the first time that it is asked for."""
        if function not in self._known:
            self._known[function] = function(self)
        return self._known[function]

    @cached_property
    def probes(self):
        """{probe: tidy frame} of all there are, empty where one was not run."""
        return {name: measures.read_probe(name, self.root / measures.PROBES_FOLDER) for name in measures.PROBES}

    @cached_property
    def mars(self):
        """{table: DataFrame} of the evaluation of the Mars networks."""
        return measures.read_mars(self.root / measures.MARS_FOLDER)

    @cached_property
    def benchmarks(self):
        """{title: DataFrame} of what `make bench` measured."""
        return measures.read_benchmarks(self.root / measures.BENCHMARKS_FOLDER)

    @cached_property
    def recipe_seconds(self):
        """{recipe: seconds of a training's steps, one a round}, measured side by side; None where they were not."""
        if findings.RECIPE_TURNS not in self.benchmarks:
            return None
        rounds = self.benchmarks[findings.RECIPE_TURNS].set_index("recipe").filter(regex=r"^round_\d+$")
        return {label: list(seconds) for label, seconds in zip(rounds.index, rounds.to_numpy(), strict=True)}

    @cached_property
    def mars_networks(self):
        """Labels of the Mars networks to look at closely: one trained from scratch, and what validation chose."""
        if "validation" not in self.mars:
            return [MARS_CNN]
        return list(dict.fromkeys([MARS_CNN, findings.chosen_network(self.mars["validation"]).numbers["chosen"]]))


def listed(said):
    """A Finding or several as a list."""
    return [said] if hasattr(said, "sentence") else list(said)


def made_on(record):
    """How many trainings there are, on which machines and software, and how long they took."""
    rows = pd.concat(record.values()).drop_duplicates("key")
    machines = listing(sorted({f"{row.cpu}, {row.cores} cores" for row in rows.itertuples()}))
    software = listing(sorted({f"Keras {r.keras} on {r.backend} {r.backend_version}" for r in rows.itertuples()}))
    precisions, hours = listing(sorted(set(rows["precision"]))), rows["cpu_seconds"].sum() / 3600
    return f"{len(rows)} trainings on {machines} ({precisions}; {software}), {hours:.1f} processor hours in all."


def summary(record):
    """The README's table, a row for each of SUMMARY: accuracy with its interval over seeds, and minutes of a training.

    The answers of recipes with a target are means over views.
    """
    rows = []
    for study, label, metric, data in SUMMARY:
        frame = record.get(study, pd.DataFrame(columns=["label", "seed"]))
        wanted = frame[frame["label"] == label]
        if wanted.empty:
            continue
        (row,) = study_table(wanted, metric).itertuples()
        rows.append(
            {
                "Network": f"recipe `{label}`" if label in TARGETS else readable(label),
                "Data": data,
                "Test accuracy": percent(row.accuracy),
                "95% interval": from_to(row.low, row.high, percent) or "one run",
                "Seeds": row.n,
                "Training": duration(wanted["seconds"].median()),
            }
        )
    return pd.DataFrame(rows)


def plan(record):
    """A row a study: what it varies, how many seeds it plans and has, and what they took; some share trainings."""
    rows = []
    for study in studies.STUDIES.values():
        frame = record.get(study.name, pd.DataFrame(columns=["label", "seed", "cpu_seconds"]))
        seeds = sorted(set(frame.groupby("label")["seed"].nunique())) or [0]
        rows.append(
            {
                "Study": study.name,
                "Varied": study.varied,
                "Variants": len(study.trials),
                "Seeds planned": study.seeds,
                "Seeds recorded": listing(dict.fromkeys([seeds[0], seeds[-1]])).replace(" and ", " to "),
                "Processor hours": f"{frame['cpu_seconds'].sum() / 3600:.1f}",
            }
        )
    return pd.DataFrame(rows)
