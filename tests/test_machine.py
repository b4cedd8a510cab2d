"""The machine: precision by the hardware and by hand, whole files, memory given back, and where the folders are."""

import dataclasses
import gc
import os
import re
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from tiny_study import FULL, PUBLISHED, SMALLEST

from cnnlab import machine, training
from cnnlab.training import ShuffledBatches, predict, train
from cnnlab.training.batches import OrderedBatches
from cnnlab.training.callbacks import Checkpoint

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def no_wish(monkeypatch):
    monkeypatch.delenv(machine.PRECISION_VARIABLE, raising=False)
    monkeypatch.setattr(machine, "has_gpu", lambda: False)


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ({"avx2", "avx512_bf16"}, "mixed_bfloat16"),
        ({"amx_bf16"}, "mixed_bfloat16"),
        ({"avx2", "avx512f"}, "float32"),
        (set(), "float32"),
    ],
)
def test_bfloat16_is_chosen_only_where_the_processor_has_it(flags, precision, monkeypatch):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags))
    assert machine.choose_precision() == precision


def test_precision_can_be_set_by_hand(monkeypatch):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setenv(machine.PRECISION_VARIABLE, "float32")
    assert machine.choose_precision() == "float32"
    assert machine.choose_precision("mixed_bfloat16") == "mixed_bfloat16", "an argument outweighs the environment"


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision is 'float8'; expected auto, float32"):
        machine.choose_precision("float8")


def test_a_row_names_the_gpu_that_the_driver_names(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "gpu_name", machine.gpu_name.__wrapped__)
    assert machine.environment()["accelerator"] == "gpu", "no tool to ask"
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3'\necho another\n")
    tool.chmod(0o755)
    assert machine.environment()["accelerator"] == "NVIDIA H100 80GB HBM3"
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert machine.environment()["accelerator"] == "gpu", "the driver does not answer"


def test_environment_names_versions_and_hardware():
    facts = machine.environment()
    assert facts["backend"] == "tensorflow"
    assert facts["backend_version"].startswith("2.")
    assert facts["cores"] >= 1
    assert facts["cpu"]


def test_the_folders_lie_in_the_clone_or_where_they_are_said_to_and_never_where_one_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(machine.ROOT_VARIABLE, raising=False)
    assert machine.root() == ROOT
    monkeypatch.setenv(machine.ROOT_VARIABLE, "elsewhere")
    assert machine.root() == tmp_path / "elsewhere"
    monkeypatch.delenv(machine.ROOT_VARIABLE)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "site-packages" / "cnnlab" / "machine.py"))
    assert machine.root() == Path.home() / "cnnlab", "installed without a clone"


def test_a_file_appears_under_its_name_when_the_block_ends(tmp_path):
    path = tmp_path / "rows.csv"
    with machine.atomic_file(path) as partial:
        partial.write_text("new", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_former_file_and_no_other(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), machine.atomic_file(path, suffix=".csv") as partial:
        partial.write_text("ne", encoding="utf-8")
        assert partial.suffix == ".csv"
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own count of memory is Linux's")
def test_what_was_read_of_a_file_is_let_go_and_comes_back(tmp_path):
    def mapped():
        return int(re.search(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024

    np.save(tmp_path / "images.npy", np.arange(32 << 20, dtype="uint8"))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    before = mapped()
    total = images.sum(dtype="uint64")
    assert mapped() > before + (24 << 20)
    machine.forget(images[100:])
    assert mapped() < before + (8 << 20)
    assert images.sum(dtype="uint64") == total
    machine.forget(np.zeros(3))  # In memory already: nothing to let go.


def test_folder_is_the_argument_or_the_variable_or_in_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CNNLAB_CACHE", raising=False)
    assert machine.cache_folder() == tmp_path / ".cache" / "cnnlab"
    monkeypatch.setenv("CNNLAB_CACHE", "~/elsewhere")
    assert machine.cache_folder() == tmp_path / "elsewhere"
    assert machine.cache_folder("mine").name == "mine"


def test_libraries_keep_their_caches_in_the_labs_unless_somebody_has_said_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNLAB_CACHE", str(tmp_path))
    for variable in machine.LIBRARY_CACHES:
        monkeypatch.setenv(variable, "restored at the end")
        monkeypatch.delenv(variable)
    monkeypatch.setenv("KERAS_HOME", "mine")
    machine.gather_caches()
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "matplotlib")
    assert os.environ["KERAS_HOME"] == "mine"


def test_make_has_the_same_caches():
    exported = re.findall(r"^export (\w+) := \$\(CNNLAB_CACHE\)/(\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert machine.LIBRARY_CACHES.items() <= dict(exported).items()


def test_an_output_that_cannot_be_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="out is .*model.h5; expected a file that ends in .keras"):
        machine.output_path(tmp_path / "model.h5")
    assert machine.output_path(tmp_path / "new" / "model.keras").parent.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        machine.output_path(tmp_path / "file" / "model.keras")


def graphs_of_trainings():
    """How many graphs of Keras's training step there are, each with a network's variables."""
    graphs = [each for each in gc.get_objects() if type(each).__name__ == "FuncGraph"]
    return sum(graph.name.startswith("one_step_on_data") for graph in graphs)


def batches_of_trainings():
    """How many objects there are that give a training its images."""
    return sum(type(each) in (ShuffledBatches, OrderedBatches) for each in gc.get_objects())


SHORT = (
    dataclasses.replace(SMALLEST, epochs=1),
    dataclasses.replace(FULL, epochs=1.5, tta=0),
    dataclasses.replace(PUBLISHED, epochs=1),
)


@pytest.mark.parametrize(("loaded", "frozen"), [({}, 1), ({"keras": keras}, 0)])
def test_the_collector_is_spared_what_keras_brings_and_nothing_that_was_made_with_it(monkeypatch, loaded, frozen):
    calls = []
    monkeypatch.setattr(machine, "sys", SimpleNamespace(modules=loaded, stderr=sys.stderr))
    monkeypatch.setattr(machine.gc, "freeze", lambda: calls.append(1))
    machine.import_keras()
    assert len(calls) == frozen


@pytest.fixture
def traced(monkeypatch):
    """A list that grows with each time that TensorFlow traces a training's step."""
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    step, traced = TensorFlowTrainer.train_step, []
    monkeypatch.setattr(TensorFlowTrainer, "train_step", lambda *given: traced.append(1) or step(*given))
    return traced


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs are TensorFlow's")
@pytest.mark.parametrize("trial", SHORT, ids=lambda trial: trial.label)
def test_trainings_trace_a_step_once_and_leave_nothing_behind(bars_dataset, trial, tmp_path, traced):
    machine.release()
    before = graphs_of_trainings(), batches_of_trainings()
    seen = []

    class Look(training.ProgressBar):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if not seen:
                seen.append((graphs_of_trainings(), batches_of_trainings()))

    result = train(trial, bars_dataset, [Look(), Checkpoint(tmp_path / "state.npz")])
    model = weakref.ref(result.model)
    del result
    assert len(traced) == 1
    assert seen[0][0] > before[0], "its graph was not counted"
    if trial.loop == "lab":
        assert seen[0][1] > before[1], "its batches were not counted"
    machine.release()
    assert graphs_of_trainings() <= before[0]
    assert batches_of_trainings() <= before[1]
    assert model() is None


def test_what_others_feed_to_tensorflow_goes_on():
    tensorflow = pytest.importorskip("tensorflow")
    numbers = tensorflow.data.Dataset.from_generator(
        lambda: range(3), output_signature=tensorflow.TensorSpec((), tensorflow.int64)
    )
    for call in (tensorflow.numpy_function, tensorflow.py_function):
        doubled = tensorflow.function(lambda x, call=call: call(lambda y: y * 2, [x], tensorflow.int64))
        twice = [int(doubled(number)) for number in numbers]
        machine.release()
        assert [int(doubled(number)) for number in numbers] == twice == [0, 2, 4]


def test_a_model_in_use_answers_and_trains_on(bars_dataset):
    images, labels = bars_dataset.split("test")
    model = training.build_for(SMALLEST, bars_dataset)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images, labels, verbose=0)
    answers = predict(model, images)
    machine.release()
    np.testing.assert_array_equal(predict(model, images), answers)
    model.fit(images[:7], labels[:7], verbose=0)
    assert np.abs(predict(model, images) - answers).max() > 0
