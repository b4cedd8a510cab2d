"""Run a notebook top to bottom under a budget, and keep the executed copy where it belongs."""

import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
from IPython.display import Markdown, display
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

from cnnlab.figures import figure_view, save_figure
from cnnlab.machine import root
from cnnlab.report import CHAPTERS, RECORD, drawings
from cnnlab.studies import PROFILE_VARIABLE

PARAMETERS_TAG = "parameters"
# What TensorFlow's C++ part writes before anything can hush it.
NATIVE_LOG = re.compile(r"^(?:WARNING: All log messages before absl|[IWE]\d{4} [\d:.]+ ).*\n?", re.MULTILINE)


class NotebookError(RuntimeError):
    """A notebook that cannot be run, or that failed; the message says where and why."""


def execute_notebook(path, budget):
    """Execute the notebook at `path` under `budget`, showing each cell's progress.

    The profile reaches the notebook through the environment variable that its parameters cell
    reads, so that its source is the same in every run. The executed copy goes to the budget's
    folder; a full run's replaces `path` itself, once it has succeeded.
    Returns the path of the executed copy. Raises NotebookError where there is no notebook or no
    parameters cell, or where a cell fails; what ran so far is then in the executed copy under runs/.
    """
    path = Path(path)
    check_parameters(path)
    copy = root() / "runs" / budget.name / path.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _environment(PROFILE_VARIABLE, budget.name):
            papermill.execute_notebook(
                str(path), str(copy), progress_bar=True, stdout_file=sys.stdout, autosave_cell_every=0
            )
    except papermill.PapermillExecutionError as error:
        raise NotebookError(
            f"cell {error.exec_count} of {path} failed with {error.ename}: {error.evalue}\n"
            f"The cells up to there are in {copy}; mend the cause and run the same command again."
        ) from error
    _tidy(copy)
    return copy.replace(path) if budget.is_record else copy


def check_parameters(path):
    """Raise NotebookError unless the notebook at `path` has one parameters cell that takes the profile."""
    if not Path(path).is_file():
        raise NotebookError(f"there is no notebook {path}; run the command in the folder that has it")
    notebook = nbformat.read(path, as_version=4)
    tagged = [cell for cell in notebook.cells if PARAMETERS_TAG in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise NotebookError(f"{path} has {len(tagged)} cells tagged '{PARAMETERS_TAG}'; expected exactly one")
    if "find_budget(" not in tagged[0].source:
        raise NotebookError(f"the parameters cell of {path} does not call find_budget(): no profile can reach it")


def _tidy(path):
    """Join what progress bars wrote, drop what they erased, and drop papermill's timings."""
    notebook = nbformat.read(path, as_version=4)
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = NATIVE_LOG.sub("", output.text)
            cell.outputs = [out for out in cell.outputs if out.output_type != "stream" or out.text.strip()]
    nbformat.write(notebook, path)


@contextmanager
def _environment(name, value):
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class Page:
    """What the cells of one notebook run share.

    `budget`: the run's `studies.Budget`, which decides where its figures go and how they are stamped; `record`: the
    `report.Record` whose figures and findings it shows beside its own (None: none).
    """

    def __init__(self, budget, record=None):
        self.budget, self.record = budget, record
        self.recorded = drawings(record) if record is not None else {}

    def figure(self, figure, name, stamp=None):
        """Write `figure` to its one place, and return the view of it; `stamp` (default: the budget's label)."""
        path = save_figure(figure, name, self.budget.images_folder, stamp or self.budget.label)
        return figure_view(path)

    def from_record(self, name):
        """The record's figure `name`, or None where the record cannot draw it yet."""
        if name not in self.recorded:
            display(Markdown(f"The record has no rows for the figure `{name}` yet: `python -m cnnlab record`."))
            return None
        return self.figure(self.recorded[name](), name, RECORD.label)

    def say(self, *findings, source="this run"):
        """Show computed sentences, and whether they speak of this run or of the record."""
        display(Markdown("\n\n".join(f"> **Finding, {source}.** {finding.sentence}" for finding in findings)))

    def quote(self, chapter):
        """Show what the record says on `chapter`, a key of `report.CHAPTERS`, as RESULTS.md has it."""
        said = CHAPTERS[chapter].findings(self.record)
        if not said:
            display(Markdown(f"The record has no rows of `{chapter}` yet: `{CHAPTERS[chapter].command}`."))
            return
        self.say(*said, source="the record")

    def table(self, chapter):
        """Show the record's tables of `chapter`, likewise."""
        for table in CHAPTERS[chapter].shown(self.record):
            display(Markdown(table))
