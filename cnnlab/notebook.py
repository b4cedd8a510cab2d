"""Run a notebook top to bottom under a budget, and keep the executed copy where it belongs."""

import asyncio
import os
import re
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import zmq
from IPython.display import Markdown, display
from jupyter_client import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

from cnnlab import data
from cnnlab.figures import figure_view, save_figure
from cnnlab.machine import CACHE_VARIABLE, ROOT_VARIABLE, check_writable, root, variables_set
from cnnlab.studies import PROFILE_VARIABLE, find_budget
from cnnlab.wording import capital, rounded

PARAMETERS_TAG = "parameters"
# What stands for a widget in an output, which nothing answers once the kernel is gone.
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# What TensorFlow's C++ part writes before anything can hush it.
NATIVE_LOG = re.compile(r"^(?:WARNING: All log messages before absl|[IWE]\d{4} [\d:.]+ ).*\n?", re.MULTILINE)


class NotebookError(RuntimeError):
    """A notebook that cannot be run, or that failed; the message says where and why."""


def execute_notebook(path, budget):
    """Execute the notebook at `path` under `budget`, showing each cell's progress.

    The profile reaches the notebook through the environment variable that its parameters cell
    reads, so that its source is the same in every run. The executed copy goes to the budget's
    folder; a full run's replaces `path` itself, once it has succeeded.
    Cells run in the lab's folder, wherever the command was given. Returns the path of the
    executed copy. Raises NotebookError where there is no parameters cell or no record to compare
    with, where a cell fails, or the kernel dies; what ran so far is then in the executed copy
    under runs/. Raises OSError at once where that cannot be written.
    """
    path = Path(path).resolve()
    check_parameters(path)
    check_record(path, budget)
    copy = root() / "runs" / budget.name / path.name
    check_writable(copy.parent)
    kernel = _kernel_class()
    try:
        with variables_set({PROFILE_VARIABLE: budget.name, **_absolute_paths()}), _signal_handlers_kept():
            papermill.execute_notebook(
                str(path), str(copy), progress_bar=True, stdout_file=sys.stdout, autosave_cell_every=0,
                cwd=str(root()), kernel_manager_class=kernel,
            )  # fmt: skip
    except DeadKernelError:
        if kernel.interrupted:
            raise KeyboardInterrupt from None
        raise NotebookError(
            f"the kernel died in cell {_last_begun(copy)} of {path.name}, most likely for want of memory: "
            f"close what else runs, or take a smaller --budget.\n"
            f"The cells up to there are in {copy}."
        ) from None
    except papermill.PapermillExecutionError as error:
        raise NotebookError(
            f"cell {error.exec_count} of {path.name} failed with {error.ename}: {error.evalue}\n"
            f"The cells up to there are in {copy}; mend the cause and run the same command again."
        ) from error
    _tidy(copy)
    return copy.replace(path) if budget.is_record else copy


def check_parameters(path):
    """Raise NotebookError unless the notebook at `path` has one parameters cell that takes the profile."""
    notebook = nbformat.read(path, as_version=4)
    tagged = [cell for cell in notebook.cells if PARAMETERS_TAG in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise NotebookError(f"{path} has {len(tagged)} cells tagged '{PARAMETERS_TAG}'; expected exactly one")
    if "find_budget(" not in tagged[0].source:
        raise NotebookError(f"the parameters cell of {path} does not call find_budget(): no profile can reach it")


def check_record(path, budget):
    """Raise NotebookError where the notebook at `path` compares with a record that is not there."""
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    folder = find_budget("full").store_folder
    if not budget.is_record and any("Record(" in source for source in sources) and not any(folder.glob("*.json")):
        raise NotebookError(
            f"{path.name} compares with the record, and {folder} has none: "
            f"run it in a clone of the lab, or name that in the environment variable {ROOT_VARIABLE}"
        )


def _kernel_class():
    """A class of kernels that speak to this process encrypted; Ctrl-C ends them, and sets `interrupted`."""

    class Kernel(AsyncKernelManager):
        interrupted = False
        transport_encryption = "auto" if zmq.has("curve") else "disabled"

        async def start_kernel(self, **options):
            await super().start_kernel(**options)
            # In place of nbclient's handler, which closes the sockets under those who still read from them.
            with suppress(RuntimeError):  # outside the main thread, where no signal comes
                asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._end)

        def _end(self):
            type(self).interrupted = True
            self._ending = asyncio.ensure_future(self.shutdown_kernel(now=True))

    return Kernel


def _last_begun(copy):
    """The number of the last code cell that was begun, in the executed notebook at `copy`."""
    cells = [cell for cell in nbformat.read(copy, as_version=4).cells if cell.cell_type == "code"]
    begun = [number for number, cell in enumerate(cells, 1) if cell.metadata.get("papermill", {}).get("start_time")]
    return begun[-1] if begun else 1


def _tidy(path):
    """Join what progress bars wrote, drop what they erased, papermill's timings, and widgets: their pictures stay."""
    notebook = nbformat.read(path, as_version=4)
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = NATIVE_LOG.sub("", output.text)
                elif "data" in output:
                    output.data.pop(WIDGET_VIEW, None)
            cell.outputs = [out for out in cell.outputs if out.output_type != "stream" or out.text.strip()]
    nbformat.write(notebook, path)


def _absolute_paths():
    """The variables that name a place, as they are understood here: the cells run in another folder."""
    named = {name: os.environ.get(name) for name in (CACHE_VARIABLE, *map(data.path_variable, ("cifar10", "mars")))}
    found = {name: Path(value).expanduser() for name, value in named.items() if value}
    return {name: str(path.resolve()) for name, path in found.items() if path.exists()} | {ROOT_VARIABLE: str(root())}


@contextmanager
def _signal_handlers_kept():
    """Ctrl-C and termination do afterwards what they did before: nbclient and the kernel's handlers stay behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        with suppress(ValueError):  # outside the main thread, where none was set
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


class Page:
    """What the cells of one notebook run share.

    `budget`: the run's `studies.Budget`, which decides where its figures go and how they are stamped; `record`: the
    `report.Record` whose figures and findings it shows beside its own (None: none).
    """

    def __init__(self, budget, record=None):
        # Not with the file: whoever has a notebook executed needs no Keras, which is half a gigabyte.
        from cnnlab import report

        self.budget, self.record, self._report, self._guesses = budget, record, report, {}

    def figure(self, figure, name, stamp=None):
        """Write `figure` to its one place, and return the view of it; `stamp` (default: the budget's label)."""
        stamp, sharpness = stamp or self.budget.label, self.budget.dots_per_inch
        return figure_view(save_figure(figure, name, self.budget.images_folder, stamp, sharpness))

    def from_record(self, name):
        """The record's figure `name`, or None where the record cannot draw it yet."""
        draw = None if self.record is None else self._report.drawing(self.record, name)
        if draw is None:
            display(Markdown(f"The record has no rows for the figure `{name}` yet: `python -m cnnlab record`."))
            return None
        return self.figure(draw(), name, find_budget("full").label)

    def say(self, *findings, source="this run"):
        """Show computed sentences, and whether they speak of this run or of the record."""
        display(Markdown("\n\n".join(f"> **Finding, {source}.** {finding.sentence}" for finding in findings)))

    def quote(self, chapter):
        """Show what the record says on `chapter`, a key of `report.CHAPTERS`, as RESULTS.md has it."""
        chapters = self._report.CHAPTERS
        said = chapters[chapter].findings(self.record)
        if not said:
            display(Markdown(f"The record has no rows of `{chapter}` yet: `{chapters[chapter].command}`."))
            return
        self.say(*said, source="the record")

    def table(self, chapter):
        """Show the record's tables of `chapter`, likewise."""
        for table in self._report.CHAPTERS[chapter].shown(self.record):
            display(Markdown(table))

    def guess(self, quantity, low=None, high=None):
        """Write down what a reader expects of `quantity`, in words with its unit: an interval, 90% sure to hold it.

        None: no guess. Raises ValueError for half an interval, or one that ends before it begins.
        """
        if (low is None) != (high is None) or (low is not None and not low <= high):
            raise ValueError(f"the guess is {low} to {high}; expected two numbers, the smaller first, or None twice")
        self._guesses[quantity] = {"low": low, "high": high, "measured": None}

    def reveal(self, quantity, measured):
        """Show what `quantity`, as `guess` called it, was `measured` to be, a number of the same unit."""
        if quantity not in self._guesses:
            known = ", ".join(map(repr, self._guesses)) or "none yet"
            raise ValueError(f"nobody guessed {quantity!r}; expected one of the guesses: {known}")
        mine = self._guesses[quantity]
        mine["measured"] = float(measured)
        said = "no guess" if mine["low"] is None else f"you said {mine['low']:,g} to {mine['high']:,g}"
        display(Markdown(f"> **Your guess.** {capital(quantity)}: {said}; measured: {rounded(measured, 3)}."))

    def guesses(self):
        """The guesses beside what was measured, a DataFrame; above it how many intervals hold what they should.

        Without a guess there is nothing to compare: None, and a line that says how to make one.
        """
        table = pd.DataFrame(self._guesses, ["low", "high", "measured"], dtype="float64").T.dropna()
        if table.empty:
            display(Markdown("No guess was made: set `low` and `high` where `page.guess` asks, and run it again."))
            return None
        held = int(((table["low"] <= table["measured"]) & (table["measured"] <= table["high"])).sum())
        score = (
            f"**{held} of your {len(table)} intervals hold what was measured.** Of intervals that one is 90% sure of, "
            "nine in ten should: with fewer, one is too sure of oneself; with all of them, one could have said more."
        )
        display(Markdown(score))
        return table.rename_axis("quantity").reset_index()
