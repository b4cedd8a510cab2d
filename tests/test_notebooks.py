"""The notebooks and the README: prose without typed measurements, and cells that run."""

import ast
import dataclasses
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import nbformat
import numpy as np
import pandas as pd
import pytest
import small_lite0
import tiny_folder

from cnnlab import data, execution, find_budget, machine, measures, report, studies, training
from cnnlab.figures import FIGURES

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(ROOT.glob("*.ipynb"))
README = ROOT / "README.md"
PROTOCOL = ROOT / "results" / "PROTOCOL.md"
# What `report` writes into the README is computed, and compared with results/ in test_report.
GENERATED = re.compile(r"<!-- begin:(\S+) -->.*?<!-- end:\1 -->", re.DOTALL)
MEASUREMENT = re.compile(
    r"\d+[.,]\d+|\d+\s?%|\d+\s?(?:percent|(?:percentage )?points?|times (?:faster|slower|better)|ms|seconds)\b"
)
# Constants of the method, versions and addresses: none of them is measured.
ALLOWED = {
    "0.5",  # the dropout rate
    "90%", "95%",  # levels of confidence
    "40,000", "10,000", "50,000", "60,000",  # sizes of CIFAR-10's splits
    "3.11", "3.13",  # Python
    "127.0",  # the local address
    "10.5281",  # the prefix of a DOI
}  # fmt: skip


def prose(path):
    """What a person wrote by hand in `path`: Markdown cells, or a Markdown file without generated parts."""
    if path.suffix == ".md":
        return GENERATED.sub("", path.read_text(encoding="utf-8"))
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def typed_measurements(text):
    code_and_links = r"```.*?```|`[^`]*`|\]\([^)]*\)"
    found = MEASUREMENT.findall(re.sub(code_and_links, "", text, flags=re.DOTALL))
    return [number for number in found if number.strip() not in ALLOWED]


@pytest.mark.parametrize("path", [*NOTEBOOKS, README, PROTOCOL], ids=lambda path: path.name)
def test_no_measurement_is_typed_into_prose(path):
    assert typed_measurements(prose(path)) == []


@pytest.mark.parametrize("text", ["reaches 73.4", "about 74%", "20 points better", "3 times faster", "in 12 ms"])
def test_a_typed_measurement_would_be_found(text):
    assert typed_measurements(text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_cells_are_short_and_define_nothing_long(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        lines = cell.source.strip().splitlines()
        assert len(lines) <= 15, f"a cell of {len(lines)} lines: {lines[0]}"
        assert max(map(len, lines)) <= 100, f"wider than a page: {max(lines, key=len)}"
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.ClassDef)
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 3, f"{node.name} belongs in the package"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_imports_little_and_judges_what_it_predicts(path):
    cells = nbformat.read(path, as_version=4).cells
    lines = [line for cell in cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert sum(line.startswith(("import ", "from ")) for line in lines) <= 12
    text = prose(path)
    assert text.count("**Prediction") == text.count("**Predicted, found, why.**") > 3
    assert "**To remember.**" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_cell_asks_for_a_guess_and_shows_what_was_measured(path):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    asking = [source for source in cells if "page.guess(" in source]
    assert len(asking) > 1
    assert not [source for source in asking if re.search(r"page\.(?:reveal|quote|say|table|from_record)\(", source)]


@pytest.mark.parametrize(
    ("notebook", "name", "trial", "shape", "classes"),
    [
        ("cnn_assignment", "dense_network", studies.DENSE, (32, 32, 3), 10),
        ("cnn_assignment", "cnn_network", studies.CNN, (32, 32, 3), 10),
        ("cnn_exploration", "cnn_network", studies.MARS_CNN, (64, 64, 3), 24),
    ],
)
def test_the_networks_written_out_are_those_of_the_studies_to_the_last_weight(notebook, name, trial, shape, classes):
    sources = [c.source for c in nbformat.read(ROOT / f"{notebook}.ipynb", as_version=4).cells if c.cell_type == "code"]
    (written,) = (source for source in sources if f"{name} = keras.Sequential(" in source)
    images = SimpleNamespace(input_shape=shape, class_names=[str(label) for label in range(classes)])
    run = {"dataset": images, "small": images, "training": training, "keras": keras, "layers": keras.layers}
    page = SimpleNamespace(guess=lambda quantity, low, high: None)
    run |= {"FILTERS": [32, 64, 128], "page": page, "measures": measures}  # the first as the parameters cell has it
    exec(written, run)  # noqa: S102 - the notebook's code
    trials = training.trial_of(run[name], trial), trial
    assert trials[0].label == trial.label
    weights, expected = (training.initial_network(each.resolved(), images).get_weights() for each in trials)
    assert [each.shape for each in weights] == [each.shape for each in expected]
    assert all(np.array_equal(*pair) for pair in zip(weights, expected, strict=True))


def findings_of(path):
    """The computed findings in the outputs of the notebook at `path`."""
    outputs = [out for cell in nbformat.read(path, as_version=4).cells for out in cell.get("outputs", [])]
    shown = "\n".join("".join(out.get("data", {}).get("text/markdown", "")) for out in outputs)
    return re.findall(r"> \*\*Finding, [^*]+\*\* (.+)", shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_finding_of_the_committed_notebook_is_long_or_said_twice(path):
    said = findings_of(path)
    assert len(said) > 5
    assert len(set(said)) == len(said), sorted(one for one in said if said.count(one) > 1)
    assert max(len(one.split()) for one in said) <= 25


def test_the_findings_of_both_notebooks_are_read_in_a_few_minutes():
    assert sum(len(one.split()) for path in NOTEBOOKS for one in findings_of(path)) < 1_800


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_committed_notebook_is_one_run_of_the_full_protocol(path):
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code" and c.source.strip()]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = "".join(str(output.get("data", output.get("text", ""))) for output in outputs)
    assert "full protocol" in shown
    assert "quick budget" not in shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_picture_of_the_committed_notebook_has_alternative_text(path):
    outputs = [out for cell in nbformat.read(path, as_version=4).cells for out in cell.get("outputs", [])]
    forms = [form for out in outputs for form in out.get("data", {})]
    assert not {"image/png", execution.WIDGET_VIEW} & set(forms)
    pictures = re.findall(r"<img [^>]{,600}", "".join(out.get("data", {}).get("text/html", "") for out in outputs))
    assert pictures
    assert all(re.match(r'<img alt="[^"]{20,}"', picture) for picture in pictures)


def test_a_notebook_without_a_parameters_cell_is_refused(tmp_path):
    path = tmp_path / "plain.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")]), path)
    with pytest.raises(execution.NotebookError, match="has 0 cells tagged 'parameters'; expected exactly one"):
        execution.check_parameters(path)


def test_a_parameters_cell_that_takes_no_profile_is_refused(tmp_path):
    path = tmp_path / "fixed.ipynb"
    cell = nbformat.v4.new_code_cell("BUDGET = 'quick'", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    with pytest.raises(execution.NotebookError, match="no profile can reach it"):
        execution.check_parameters(path)


def _notebook(path, *sources):
    parameters = nbformat.v4.new_code_cell(
        "from cnnlab import find_budget\nBUDGET = find_budget()", metadata={"tags": ["parameters"]}
    )
    cells = [parameters, *map(nbformat.v4.new_code_cell, sources)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def test_a_failing_cell_is_named_and_the_original_untouched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNLAB_ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = _notebook(Path("failing.ipynb"), "1 / 0", "print('never')")
    before = path.read_bytes()
    with pytest.raises(execution.NotebookError, match="cell 2 of failing.ipynb failed with ZeroDivisionError"):
        execution.execute_notebook(path, find_budget("full"))
    assert path.read_bytes() == before


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder to work in that is not the lab's, which is empty."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("CNNLAB_ROOT", "../lab")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path / "elsewhere"


@pytest.mark.long
def test_a_kernel_that_dies_is_said_with_the_cell_the_likely_cause_and_the_copy(elsewhere):
    path = _notebook(
        Path("dying.ipynb"), "print('before')", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "1"
    )
    with pytest.raises(
        execution.NotebookError, match="died in cell 3 of dying.ipynb.*memory.*smaller --budget"
    ) as said:
        execution.execute_notebook(path, find_budget("smoke"))
    copy = elsewhere.parent / "lab" / "runs" / "smoke" / "dying.ipynb"
    assert str(copy) in str(said.value)
    assert nbformat.read(copy, as_version=4).cells[1].outputs[0].text == "before\n"


@pytest.mark.long
def test_ctrl_c_ends_the_kernel_and_says_one_line(elsewhere):
    path = _notebook(
        Path("slow.ipynb"), "import os\nprint('kernel', os.getpid(), os.getcwd())\nimport time\ntime.sleep(90)"
    )
    command = [sys.executable, "-m", "cnnlab", "notebook", str(path), "--budget", "smoke"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in run.stdout:
        if begun := re.search(r"kernel (\d+) (.+)", line):
            break
    run.send_signal(signal.SIGINT)
    _, shown = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in shown
    assert shown.endswith("stopped: the same command starts again from the beginning\n")
    assert begun[2] == str(elsewhere.parent / "lab"), "cells run in the lab's folder"
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun[1]), 0)


def test_a_notebook_that_needs_the_record_is_refused_where_there_is_none(elsewhere):
    path = _notebook(Path("reads.ipynb"), "report.Record()")
    with pytest.raises(execution.NotebookError, match="lab/results/trials has none: run it in a clone.*CNNLAB_ROOT"):
        execution.execute_notebook(path, find_budget("smoke"))
    assert not (elsewhere.parent / "lab" / "runs").exists()


def test_the_profile_and_paths_reach_the_notebook_and_all_is_as_before_afterwards(elsewhere, monkeypatch, capfd):
    (elsewhere / "copy.zip").touch()
    monkeypatch.setenv("CNNLAB_MARS", "copy.zip")
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    bar = "from cnnlab.machine import progress_bar\nwith progress_bar(2, 'work', 'step') as bar:\n    bar.update(2)"
    path = _notebook(Path("where.ipynb"), "import os\nos.environ['CNNLAB_MARS']", "BUDGET.name", bar)
    copy = execution.execute_notebook(path, find_budget("smoke"))
    assert copy == elsewhere.parent / "lab" / "runs" / "smoke" / "where.ipynb"
    cells = nbformat.read(copy, as_version=4).cells
    assert cells[1].outputs[0].data["text/plain"] == repr(str(elsewhere / "copy.zip")), "the path is the user's"
    assert cells[2].outputs[0].data["text/plain"] == "'smoke'"
    assert cells[3].outputs == [], "progress leaves a trace"
    shown = capfd.readouterr()
    assert "work" in shown.out
    assert "encryption" not in shown.out + shown.err
    assert os.environ["CNNLAB_MARS"] == "copy.zip"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers, "Ctrl-C is another"


@pytest.mark.long
def test_the_first_half_runs_on_a_folder_of_ones_own(tmp_path, monkeypatch):
    """Up to the studies, in this process, which has TensorFlow already; of the record there is nothing to see."""
    pictures = tiny_folder.write(tmp_path / "pets", 10)
    (pictures / "cat" / "one more.png").write_bytes(tiny_folder.encoded(tiny_folder.photo(90)))
    variables = {"CNNLAB_ROOT": tmp_path / "lab", "CNNLAB_CACHE": tmp_path / "cache", "CNNLAB_PROFILE": "smoke"}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(machine, "be_frugal", lambda: None)  # it is of the whole process
    cells = nbformat.read(ROOT / "cnn_assignment.ipynb", as_version=4).cells
    end = next(place for place, cell in enumerate(cells) if re.search(r"^## 4\.", cell.source, re.MULTILINE))
    first, *others = (cell.source for cell in cells[:end] if cell.cell_type == "code")
    changes = {'DATA = "cifar10"': 'DATA = "folder"', 'FOLDER, SIZE = ""': f"FOLDER, SIZE = {str(pictures)!r}"}
    for before, after in changes.items():
        assert first.count(before) == 1
        first = first.replace(before, after)
    run = {}
    for source in (first, *others):
        exec(source, run)  # noqa: S102 - the notebook's code is what is tested
    for row in (run["dense"].row, run["cnn"].row):
        assert (row["dataset"], row["class_names"]) == ("folder-pets-32", list(tiny_folder.CLASSES))
    assert run["counts"].loc["cat"].sum() == 11
    assert run["answers"]["CNN"].shape == (len(run["test_images"]), 3)
    drawn = {figure.stem for figure in (tmp_path / "lab" / "runs" / "folder-pets-32" / "images").glob("*.png")}
    own = [re.sub(r"from_record\(.*\)", "", source) for source in others]  # of the record there is nothing to draw
    assert drawn == {name for name in FIGURES for source in own if f'"{name}"' in source}
    assert [entry.name for entry in (tmp_path / "lab").iterdir()] == ["runs"], "something went to the record"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with the record to work in, its environment and the budget that of a smoke run."""
    for name in ("results", "sagemaker_scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNLAB_ROOT", str(tmp_path))
    monkeypatch.setenv("CNNLAB_PROFILE", "smoke")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def runnable_notebook(request, monkeypatch):
    """Path of a notebook; the Mars images are named where it needs them."""
    if request.param.stem == "cnn_exploration":
        monkeypatch.setenv("CNNLAB_MARS", str(request.getfixturevalue("mars_path")))
    return request.param


def _of_each_class(dataset, count):
    """`dataset` with the first `count` images of each class in each split."""
    splits = {}
    for name, split in dataset.splits.items():
        seen = pd.Series(split.labels[split.indices]).groupby(split.labels[split.indices]).cumcount()
        splits[name] = dataclasses.replace(split, indices=split.indices[(seen < count).to_numpy()])
    return dataclasses.replace(dataset, splits=splits)


def _assert_all_figures(path, clone):
    """A smoke run of the notebook at `path` drew in `clone` what its cells name and the record can draw."""
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    named = {name for name in FIGURES for source in code if f'"{name}"' in source}
    of_the_record = {name for source in code for name in re.findall(r'from_record\("(\w+)"\)', source)}
    unrecorded = of_the_record - report.drawings(report.Record(ROOT)).keys()
    drawn = {figure.stem for figure in (clone / "runs" / "smoke" / "images").glob("*.png")}
    assert drawn == (named | of_the_record) - unrecorded
    assert not (clone / "images").exists(), "a smoke run wrote to the record"


def test_the_cells_run_in_the_smoke_budget_and_leave_their_figures(runnable_notebook, clone, monkeypatch):
    """In this process, which has TensorFlow already, with fewer images and four blocks of the pretrained network."""
    monkeypatch.setattr(machine, "be_frugal", lambda: None)  # it is of the whole process
    small_lite0.put(set_attribute=monkeypatch.setattr)
    load = data.load_cifar10
    monkeypatch.setattr(data, "load_cifar10", lambda **options: _of_each_class(load(**options), 100))
    run = {}
    for cell in nbformat.read(runnable_notebook, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, run)  # noqa: S102 - the notebook's code is what is tested
    _assert_all_figures(runnable_notebook, clone)


@pytest.mark.long
def test_the_notebook_runs_in_the_smoke_budget_and_leaves_its_figures(runnable_notebook, clone):
    """As `make notebook PROFILE=smoke` runs it, and all that its cells show with it."""
    copy = execution.execute_notebook(runnable_notebook, find_budget("smoke"))
    assert copy == clone / "runs" / "smoke" / runnable_notebook.name
    code = [
        cell for cell in nbformat.read(copy, as_version=4).cells if cell.cell_type == "code" and cell.source.strip()
    ]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    _assert_all_figures(runnable_notebook, clone)
