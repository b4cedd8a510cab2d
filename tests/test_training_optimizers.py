"""The optimizers and the schedule, against Keras's own and the formulas written out."""

import keras
import numpy as np
import pytest

from cnnlab.training import Trial
from cnnlab.training.optimizers import Muon, NesterovSGD, Triangular, adam, make_optimizer, orthogonal

START = ([1.0, -2.0], [0.5])


def test_fused_adam_is_adam():
    def trained(optimizer):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(2)])
        model.compile(optimizer, "mse")
        inputs = np.random.default_rng(1).normal(size=(64, 6)).astype("float32")
        for _ in range(20):
            model.train_on_batch(inputs, inputs[:, :2] ** 2)
        return model.get_weights()

    for fused, plain in zip(trained(adam(0.01)), trained(keras.optimizers.Adam(0.01)), strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-6)


def test_the_schedule_is_a_triangle():
    schedule = Triangular(2.0, steps=1000, start=0.2, peak_at=0.25, end=0.1)
    steps = np.array([0, 100, 250, 500, 900, 1000])
    expected = 2 * np.interp(steps, [0, 250, 1000], [0.2, 1.0, 0.1])
    np.testing.assert_allclose([float(schedule(step)) for step in steps], expected, rtol=1e-5)
    restored = Triangular.from_config(schedule.get_config())
    assert float(restored(300)) == float(schedule(300))


def quadratic_steps(optimizer, start, steps):
    """Weights after each step on 0.5 |w|^2 and 0.5 |2b|^2, of a kernel w and a norm's bias b."""
    variables = [
        keras.Variable(np.float32(value), name=name) for value, name in zip(start, ("kernel", "beta"), strict=True)
    ]
    path = []
    for _ in range(steps):
        values = [keras.ops.convert_to_numpy(variable) for variable in variables]
        optimizer.apply([values[0], 4 * values[1]], variables)
        path.append([keras.ops.convert_to_numpy(variable).copy() for variable in variables])
    return path


def test_at_a_constant_rate_it_is_keras_sgd_with_nesterov_momentum():
    ours = quadratic_steps(NesterovSGD(0.05, 0.9), START, 5)
    theirs = quadratic_steps(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), START, 5)
    for step, other_step in zip(ours, theirs, strict=True):
        for weights, others in zip(step, other_step, strict=True):
            np.testing.assert_allclose(weights, others, rtol=1e-5)


def test_decay_bias_scale_and_a_falling_rate_follow_the_formula():
    schedule = Triangular(0.1, steps=4, start=1.0, peak_at=0.25, end=0.0)
    found = quadratic_steps(NesterovSGD(schedule, 0.8, l2=0.3, bias_scale=3.0), START, 4)
    weights, velocity = [np.array(value) for value in START], [0.0, 0.0]
    for step, seen in enumerate(found):
        rate = float(schedule(step))
        for index, (steepness, scale) in enumerate(((1, 1.0), (4, 3.0))):
            gradient = steepness * weights[index] + 0.3 / scale * weights[index]
            velocity[index] = 0.8 * velocity[index] + gradient
            weights[index] = weights[index] - scale * rate * (gradient + 0.8 * velocity[index])
            np.testing.assert_allclose(seen[index], weights[index], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(36, 8), (8, 36), (12, 12)])
def test_orthogonal_keeps_the_directions_and_evens_out_their_sizes(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype("float32")
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    # In the directions of the matrix the answer is about diagonal, with values about one.
    found = left.T @ keras.ops.convert_to_numpy(orthogonal(matrix, iterations=5)) @ right.T
    assert np.diag(found).min() > 0.5 and np.diag(found).max() < 1.5
    assert np.abs(found - np.diag(np.diag(found))).max() < 0.05


def test_muon_steps_a_kernel_by_an_orthogonal_matrix_and_the_rest_as_sgd_does():
    generator = np.random.default_rng(1)
    start = [generator.normal(size=shape).astype("float32") for shape in ((3, 3, 2, 5), (5, 4))]
    gradients = [[generator.normal(size=each.shape).astype("float32") for each in start] for _ in range(3)]
    kernel, head = variables = [keras.Variable(each) for each in start]
    optimizer = Muon(0.5, kernel_scale=0.2, kernel_momentum=0.6, momentum=0.8, l2=0.1)
    alone = keras.Variable(start[1])
    plain = NesterovSGD(0.5, 0.8, l2=0.1)
    expected, velocity = start[0].reshape(-1, 5), 0
    for step in gradients:
        optimizer.apply(step, variables)
        plain.apply(step[1:], [alone])
        velocity = 0.6 * velocity + step[0].reshape(-1, 5)
        direction = keras.ops.convert_to_numpy(orthogonal(step[0].reshape(-1, 5) + 0.6 * velocity))
        expected = expected * 5**0.5 / np.linalg.norm(expected) - 0.5 * 0.2 * direction
    np.testing.assert_allclose(keras.ops.convert_to_numpy(kernel).reshape(-1, 5), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (head, alone)), rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "triangular", "linear"])
def test_a_trial_gets_the_optimizer_that_it_names(schedule):
    plain = make_optimizer(Trial("any", learning_rate=0.5, schedule=schedule), steps=100)
    assert isinstance(plain, keras.optimizers.Adam)
    trial = Trial(
        "any", options={"batch_norm": True}, optimizer="sgd", learning_rate=0.5, momentum=0.7, weight_decay=0.1,
        bias_scale=8.0, schedule=schedule,
    )  # fmt: skip
    optimizer = make_optimizer(trial, steps=100)
    config = optimizer.get_config()
    assert {name: config[name] for name in ("momentum", "l2", "bias_scale")} == {
        "momentum": 0.7, "l2": 0.1, "bias_scale": 8.0,
    }  # fmt: skip
    for each in (plain, optimizer):
        # The learning rate of the first step.
        begun = 0.5 * 0.2 if schedule == "triangular" else 0.5
        assert float(each.learning_rate) == pytest.approx(begun)
