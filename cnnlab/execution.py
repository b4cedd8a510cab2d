"""Run a notebook top to bottom under a budget, and keep the executed copy where it belongs."""

import asyncio
import os
import re
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import papermill
import zmq
from jupyter_client import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

from cnnlab import data
from cnnlab.machine import CACHE_VARIABLE, ROOT_VARIABLE, check_writable, root, variables_set
from cnnlab.studies import PROFILE_VARIABLE, find_budget

PARAMETERS_TAG = "parameters"
# The output type of a live widget, which nothing answers once the kernel is gone.
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# What TensorFlow's C++ code logs before anything can silence it.
NATIVE_LOG = re.compile(r"^(?:WARNING: All log messages before absl|[IWE]\d{4} [\d:.]+ ).*\n?", re.MULTILINE)


class NotebookError(RuntimeError):
    """A notebook that cannot be run, or that failed; the message says where and why."""


def execute_notebook(path, budget):
    """Execute the notebook at `path` under `budget`, showing each cell's progress.

    The profile reaches the notebook through the environment variable that its parameters cell
    reads, so that its source is the same in every run. The executed copy goes to the budget's
    folder; that of a full run replaces `path` itself, once it has succeeded.
    Cells run in the lab's folder, wherever the command was given. Returns the path of the
    executed copy. Raises NotebookError if there is no parameters cell or no record to compare
    with, if a cell fails, or if the kernel dies; the executed copy under runs/ then holds what ran
    so far. Raises OSError at once if that copy cannot be written.
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
            f"the kernel died in cell {_last_begun(copy)} of {path.name}, most likely out of memory: "
            f"close other programs, or use a smaller --budget.\n"
            f"The cells up to there are in {copy}."
        ) from None
    except papermill.PapermillExecutionError as error:
        raise NotebookError(
            f"cell {error.exec_count} of {path.name} failed with {error.ename}: {error.evalue}\n"
            f"The cells up to there are in {copy}; fix the cause and run the same command again."
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
        raise NotebookError(f"the parameters cell of {path} must call find_budget(), or no profile can reach it")


def check_record(path, budget):
    """Raise NotebookError where the notebook at `path` compares with a record that is not there."""
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    folder = find_budget("full").store_folder
    if not budget.is_record and any("Record(" in source for source in sources) and not any(folder.glob("*.json")):
        raise NotebookError(
            f"{path.name} compares with the record, but {folder} has none: "
            f"run it in a clone of the lab, or name one in the environment variable {ROOT_VARIABLE}"
        )


def _kernel_class():
    """A class of kernels with encrypted transport, where possible; Ctrl-C ends them and sets `interrupted`."""

    class Kernel(AsyncKernelManager):
        interrupted = False
        transport_encryption = "auto" if zmq.has("curve") else "disabled"

        async def start_kernel(self, **options):
            await super().start_kernel(**options)
            # Replaces nbclient's handler, which closes sockets that are still being read from.
            with suppress(RuntimeError):  # outside the main thread, where no signal arrives
                asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._end)

        def _end(self):
            type(self).interrupted = True
            self._ending = asyncio.ensure_future(self.shutdown_kernel(now=True))

    return Kernel


def _last_begun(copy):
    """The number of the last code cell that was started, in the executed notebook at `copy`."""
    cells = [cell for cell in nbformat.read(copy, as_version=4).cells if cell.cell_type == "code"]
    begun = [number for number, cell in enumerate(cells, 1) if cell.metadata.get("papermill", {}).get("start_time")]
    return begun[-1] if begun else 1


def _tidy(path):
    """Join what progress bars wrote; drop what they erased, papermill's timings, and widgets except their pictures."""
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
    """The environment variables that name a place, made absolute, because the cells run in another folder."""
    named = {name: os.environ.get(name) for name in (CACHE_VARIABLE, *map(data.path_variable, ("cifar10", "mars")))}
    found = {name: Path(value).expanduser() for name, value in named.items() if value}
    return {name: str(path.resolve()) for name, path in found.items() if path.exists()} | {ROOT_VARIABLE: str(root())}


@contextmanager
def _signal_handlers_kept():
    """Restore the handlers of Ctrl-C and termination afterwards: nbclient and the kernel leave theirs behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        with suppress(ValueError):  # outside the main thread, where none was set
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
