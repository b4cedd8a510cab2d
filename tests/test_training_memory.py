"""Memory: a finished training leaves nothing behind, and what is in use stays usable."""

import dataclasses
import gc
import weakref

import keras
import numpy as np
import pytest
from tiny_study import FULL, PUBLISHED, SMALLEST

from cnnlab import machine, training
from cnnlab.training import ShuffledBatches, predict, train
from cnnlab.training.batches import OrderedBatches
from cnnlab.training.callbacks import Checkpoint


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


def test_a_model_in_use_answers_and_trains_on(bars_dataset, full_result):
    images, labels = bars_dataset.split("test")
    model = training.build_for(FULL, bars_dataset)
    model.set_weights(full_result.model.get_weights())
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images, labels, verbose=0)
    answers = predict(model, images)
    machine.release()
    np.testing.assert_array_equal(predict(model, images), answers)
    model.fit(images[:7], labels[:7], verbose=0)
    assert np.abs(predict(model, images) - answers).max() > 0
