"""The record, each part read once, and the Chapters that put questions to it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from cnnlab import figures, findings, measures, studies
from cnnlab.findings import HEADLINE, study_table, to_markdown
from cnnlab.studies import Store, find_budget

RECORD = find_budget("full")
MARS_CNN = studies.MARS_CNN.label


class Record(Mapping):
    """What is recorded under `root` (None: the lab's own record), each part read once, on first use.

    A mapping {study: tidy frame} of the studies with two variants or more (a lone variant belongs to another study);
    `frames`: such a mapping, to use instead of what is recorded.
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
        """The result of `function` for this record, computed on the first call only."""
        if function not in self._known:
            self._known[function] = function(self)
        return self._known[function]

    @cached_property
    def probes(self):
        """{probe: tidy frame} for every probe, empty where it was not run."""
        return {name: measures.read_probe(name, self.root / measures.PROBES_FOLDER) for name in measures.PROBES}

    @cached_property
    def mars(self):
        """{table: DataFrame} of the evaluation of the Mars networks."""
        return measures.read_mars(self.root / measures.MARS_FOLDER)

    @cached_property
    def benchmarks(self):
        """{title: DataFrame} of what `make bench` measured."""
        return findings.read_benchmarks(self.root / findings.BENCHMARKS_FOLDER)

    @cached_property
    def recipe_seconds(self):
        """{recipe: seconds of a training's steps, one per round}, measured side by side; None where they were not."""
        if findings.RECIPE_TURNS not in self.benchmarks:
            return None
        rounds = self.benchmarks[findings.RECIPE_TURNS].set_index("recipe").filter(regex=r"^round_\d+$")
        return {label: list(seconds) for label, seconds in zip(rounds.index, rounds.to_numpy(), strict=True)}

    @cached_property
    def mars_networks(self):
        """Labels of the Mars networks to look at closely: one trained from scratch, and the one validation chose."""
        if "validation" not in self.mars:
            return [MARS_CNN]
        return list(dict.fromkeys([MARS_CNN, findings.chosen_network(self.mars["validation"]).numbers["chosen"]]))


def listed(said):
    """A Finding or several as a list."""
    return [said] if hasattr(said, "sentence") else list(said)


@dataclass(frozen=True)
class Chapter:
    """A question, its evidence, and what follows from it.

    `evidence`: a function from a Record to the input of the next three, None or empty where nothing is recorded;
    `says`: from that to one or more Findings, of which number `headline` answers the question in one line; `tables`:
    to DataFrames and lines of text between them; `figures`: {name of a file in images/: function to a Figure};
    `about`: a hand-written introduction; `command`: makes the rows.
    """

    question: str
    evidence: Callable[[Record], Any]
    says: Callable = lambda evidence: []
    tables: Callable = lambda evidence: []
    figures: dict[str, Callable] = field(default_factory=dict)
    about: str = ""
    command: str = "cnnlab record"
    headline: int = 0

    def of(self, record):
        """Its evidence in `record`; None where there is none."""
        found = record.once(self.evidence)
        return None if found is None or not len(found) else found

    def findings(self, record):
        """Its Findings on `record`; [] where nothing is recorded."""
        return record.once(self._said)

    def _said(self, record):
        found = self.of(record)
        return [] if found is None else listed(self.says(found))

    def answer(self, record):
        """The one sentence among them that answers the question."""
        said = self.findings(record)
        return said[self.headline].sentence if said else f"Not recorded yet: `{self.command}` makes the rows."

    def shown(self, record):
        """Its tables for `record`, in Markdown."""
        found = self.of(record)
        tables = [] if found is None else self.tables(found)
        return [table if isinstance(table, str) else compact(table) for table in tables]

    def section(self, name, record):
        """Its section of RESULTS.md, with the anchor `name`: its findings, figures and tables."""
        found, parts = self.of(record), [f'<a id="{name}"></a>', f"## {self.question}", self.about]
        if found is None:
            parts.append(self.answer(record))
        else:
            parts.append("\n".join(f"- {finding.sentence}" for finding in self.findings(record)))
            parts += [picture(name, "../images") for name in self.figures]
            parts += self.shown(record)
        return "\n\n".join(filter(None, parts))


def of_study(name, title=None, says=findings.adjacent, about="", metric=HEADLINE, base=None, **instead):
    """The Chapter of the study `name`: its tables and, where it has a `title`, a figure of every seed's `metric`.

    `says`: from its tidy frame to Findings; `base`: the label to compare the others with (None: each with the one
    before it); `instead`: fields of the Chapter that replace these defaults.
    """
    study = studies.find_study(name)
    chapter = Chapter(
        study.question,
        lambda record: record.get(name),
        says,
        lambda frame: [study_table(frame, metric), findings.contrast_table(frame, metric, base)],
        {f"{name}_study": partial(figures.study_points, title=title, metric=metric)} if title else {},
        f"{about}\n\nVaried: {study.varied}. Held constant: {study.fixed}.".strip(),
        f"cnnlab study {name}",
    )
    return replace(chapter, **instead)


def of_probe(name, drawn=None, about=""):
    """The Chapter of the probe `name`, with the figures `drawn` from its rows."""
    return Chapter(
        measures.PROBES[name].question,
        lambda record: record.probes[name],
        findings.OF_PROBES[name],
        lambda rows: [findings.probe_table(name, rows)],
        drawn or {},
        about,
        f"cnnlab probe {name}",
    )


def compact(table):
    """A DataFrame as a Markdown table without padding, so that a new row changes no other line."""
    return re.sub(r"-{3,}", "---", re.sub(r" {2,}", " ", to_markdown(table)))


def picture(name, folder="images"):
    """The figure `name` in Markdown, with its alternative text."""
    return f"![{figures.alternative_text(name)}]({folder}/{name}.png)"
