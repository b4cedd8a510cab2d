"""Memory: what a finished training still holds can be given back, and what is in use stays usable."""

import gc

import numpy as np

from cnnlab import memory
from cnnlab.training import predict, run_trial
from cnnlab.trials import Trial

TINY = Trial("tiny", options={"filters": [2], "dense": 4}, epochs=1, batch_size=16, precision="float32")


def graphs_of_trainings():
    """How many graphs of Keras's training step there are, each with a network's variables."""
    graphs = [each for each in gc.get_objects() if type(each).__name__ == "FuncGraph"]
    return sum(graph.name.startswith("one_step_on_data") for graph in graphs)


def test_trainings_that_are_over_leave_nothing_behind(bars_dataset):
    memory.release()
    before = graphs_of_trainings()
    for _ in range(2):
        run_trial(TINY, bars_dataset, progress=False)
    memory.release()
    assert graphs_of_trainings() <= before


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
