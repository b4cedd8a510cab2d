"""Memory: what a finished training still holds can be given back, and what is in use stays usable."""

import gc
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnlab import machine as memory
from cnnlab.training import OrderedBatches, ShuffledBatches, Trial, predict, run_trial

TINY = Trial("tiny", options={"filters": [2], "dense": 4}, epochs=1, batch_size=16, precision="float32")


def graphs_of_trainings():
    """How many graphs of Keras's training step there are, each with a network's variables."""
    graphs = [each for each in gc.get_objects() if type(each).__name__ == "FuncGraph"]
    return sum(graph.name.startswith("one_step_on_data") for graph in graphs)


def batches_of_trainings():
    """How many objects there are that give a training its images."""
    return sum(type(each) in (ShuffledBatches, OrderedBatches) for each in gc.get_objects())


@pytest.mark.parametrize("count", [graphs_of_trainings, batches_of_trainings])
def test_trainings_that_are_over_leave_nothing_behind(bars_dataset, count):
    memory.release()
    before = count()
    for _ in range(2):
        run_trial(TINY, bars_dataset, progress=False)
    assert count() > before
    memory.release()
    assert count() <= before


def test_what_others_feed_to_tensorflow_goes_on():
    tensorflow = pytest.importorskip("tensorflow")
    numbers = tensorflow.data.Dataset.from_generator(
        lambda: range(3), output_signature=tensorflow.TensorSpec((), tensorflow.int64)
    )
    for call in (tensorflow.numpy_function, tensorflow.py_function):
        doubled = tensorflow.function(lambda x, call=call: call(lambda y: y * 2, [x], tensorflow.int64))
        twice = [int(doubled(number)) for number in numbers]
        memory.release()
        assert [int(doubled(number)) for number in numbers] == twice == [0, 2, 4]


def test_a_model_in_use_answers_and_trains_on(bars_dataset):
    images, labels = bars_dataset.split("test")
    model = run_trial(TINY, bars_dataset, progress=False).model
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images, labels, verbose=0)
    answers = predict(model, images)
    memory.release()
    np.testing.assert_array_equal(predict(model, images), answers)
    model.fit(images[:7], labels[:7], verbose=0)
    assert np.abs(predict(model, images) - answers).max() > 0


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own count of memory is Linux's")
def test_what_was_read_of_a_file_is_let_go_and_comes_back(tmp_path):
    def mapped():
        return int(re.search(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024

    np.save(tmp_path / "images.npy", np.arange(32 << 20, dtype="uint8"))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    before = mapped()
    total = images.sum(dtype="uint64")
    assert mapped() > before + (24 << 20)
    memory.forget(images[100:])
    assert mapped() < before + (8 << 20)
    assert images.sum(dtype="uint64") == total
    memory.forget(np.zeros(3))  # In memory already: nothing to let go.
