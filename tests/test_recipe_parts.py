"""The parts of a recipe, each against an independent computation."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import synthetic
from cnnlab.recipes import averaging, recipe
from cnnlab.recipes.augmenting import AugmentedBatches, translate
from cnnlab.recipes.averaging import WeightAverage
from cnnlab.recipes.initial import dirac
from cnnlab.recipes.network import build_network, set_initial_weights
from cnnlab.recipes.normalization import batch_normalization
from cnnlab.recipes.optimizers import NesterovSGD
from cnnlab.recipes.schedules import Triangular
from cnnlab.recipes.whitening import whitening_filters
from scipy.special import softmax

from cnnlab.machine import PRECISION_VARIABLE
from cnnlab.studies import ALL, CONTRASTS, RECIPES, STEPS, TARGETS, WALK
from cnnlab.training import Recipe, predict_views, recipe_key, views

BLOCKS = Recipe(
    "blocks", network="blocks", widths=(4, 8), batch_norm=True, whitening=True, dirac=True, precision="float32"
)
# Another value of every field that decides a result.
OTHERS = {
    "network": "assignment", "widths": (4, 9), "depth": 1, "batch_norm": False, "activation": "silu",
    "whitening": False, "dirac": False, "label_smoothing": 0.1, "optimizer": "sgd", "learning_rate": 0.1,
    "momentum": 0.5, "weight_decay": 0.1, "bias_scale": 2.0, "schedule": "triangular", "batch_size": 8,
    "epochs": 1.5, "flip": "random", "translate": 1, "average": "ema", "tta": 1, "train_split": "all",
    "loop": "published", "train_images": 9, "eval_images": 9, "dataset": "mars", "seed": 1,
    "precision": "mixed_float16",
}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return synthetic.bars(200)[0]


def test_every_field_but_the_label_changes_the_key():
    assert OTHERS.keys() == BLOCKS.configuration().keys()
    bases = [
        BLOCKS,
        dataclasses.replace(BLOCKS, optimizer="sgd"),
        dataclasses.replace(BLOCKS, whitening=False, dirac=False),
    ]
    for name, value in OTHERS.items():
        # The first of the bases that the value can be combined with.
        for base in bases:
            try:
                changed = dataclasses.replace(base, **{name: value})
            except ValueError:
                continue
            assert recipe_key(changed) != recipe_key(base), name
            break
        else:
            pytest.fail(f"{name} was never changed")
    assert recipe_key(dataclasses.replace(BLOCKS, label="another")) == recipe_key(BLOCKS)


def test_the_key_covers_every_module_that_trains():
    modules = {f"cnnlab.recipes.{path.stem}" for path in Path(recipe.__file__).parent.glob("*.py")}
    reading = {f"cnnlab.recipes.{name}" for name in ("__init__", "catalogue", "effects")}
    assert modules - reading == {name for name in recipe.RECIPE_CODE if name.startswith("cnnlab.recipes.")}


def test_changed_code_changes_the_key(monkeypatch):
    before = recipe_key(BLOCKS)
    monkeypatch.setattr("cnnlab.recipes.recipe.code_version", lambda *modules: "another")
    assert recipe_key(BLOCKS) != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip": "always"}, "flip is 'always'; expected one of none, random, alternating"),
        ({"batch_size": 0}, "batch_size is 0; expected a positive whole number"),
        ({"widths": ()}, "widths is .*; expected at least one positive whole number"),
        ({"translate": -1}, "translate is -1; expected a whole number from 0"),
        ({"epochs": 0}, "epochs is 0; expected a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; expected a positive number"),
        ({"momentum": 1.0}, "momentum is 1.0; expected a share"),
        ({"weight_decay": -1}, "weight_decay is -1; expected a number from 0"),
        ({"tta": 3}, "tta is 3; expected level 0"),
        ({"dirac": True}, "dirac is True, which the assignment's network has not; leave it at False"),
        ({"bias_scale": 64.0}, "bias_scale are of optimizer='sgd'"),
        ({"optimizer": "sgd", "bias_scale": 64.0}, "it needs batch_norm=True"),
        ({"loop": "published", "flip": "random"}, "trains without augmentation"),
        ({"loop": "published", "epochs": 1.5}, "take whole epochs"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        Recipe("any", **changes)
    assert "\n" not in str(refused.value)


def test_the_walk_changes_one_thing_a_step_and_every_contrast_is_between_two_recipes(monkeypatch):
    monkeypatch.setenv(PRECISION_VARIABLE, "mixed_bfloat16")  # Elsewhere the recipe in float32 is the assignment's.
    assert [recipe.label for recipe in WALK] == ["assignment", *(label for label, _, _ in STEPS)]
    for before, after, (_, _, changes) in zip(WALK, WALK[1:], STEPS, strict=False):
        differing = {name for name, value in after.configuration().items() if before.configuration()[name] != value}
        assert differing, after.label
        assert differing <= changes.keys()
    assert len(RECIPES) == len(ALL)
    assert len({recipe_key(recipe) for recipe in ALL}) == len(ALL), "one recipe under two labels"
    assert {label for contrast in CONTRASTS for label in (contrast.first, contrast.second)} <= RECIPES.keys()
    assert TARGETS.keys() <= RECIPES.keys()


def test_whitened_patches_are_uncorrelated_and_of_variance_one(images):
    kernel, bias = whitening_filters(images, 2, epsilon=0.0)
    layer = keras.layers.Conv2D(kernel.shape[-1], 2)
    layer.build((None, *images.shape[1:]))
    layer.set_weights([kernel, bias])
    outputs = keras.ops.convert_to_numpy(layer(images / np.float32(255))).reshape(-1, kernel.shape[-1])
    half = kernel.shape[-1] // 2
    np.testing.assert_allclose(np.cov(outputs[:, :half], rowvar=False), np.eye(half), atol=2e-2)
    np.testing.assert_allclose(outputs[:, :half].mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(outputs[:, half:], -outputs[:, :half], atol=1e-4)


def test_the_covariance_of_patches_is_numpys(images):
    kernel, bias = whitening_filters(images, 2)
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))
    patches = np.moveaxis(windows, 3, -1).reshape(-1, 12) / 255
    variances = np.linalg.eigvalsh(np.cov(patches, rowvar=False))[::-1]
    norms = np.linalg.norm(kernel.reshape(12, -1), axis=0)[:12]
    np.testing.assert_allclose(norms, 1 / np.sqrt(variances + 3e-5), rtol=1e-3)
    np.testing.assert_allclose(bias, -patches.mean(axis=0) @ kernel.reshape(12, -1), rtol=1e-3, atol=1e-3)


def test_the_first_whitening_filter_sees_what_varies_most(images):
    kernel, _ = whitening_filters(images, 2)
    norms = np.linalg.norm(kernel.reshape(12, -1), axis=0)[:12]
    assert (np.diff(norms) > 0).all(), "a component that varies more is divided by more"


def test_dirac_filters_pass_on_their_input_and_leave_the_others(images):
    drawn = np.random.default_rng(0).normal(size=(3, 3, 3, 5)).astype("float32")
    kernel = dirac(drawn)
    layer = keras.layers.Conv2D(5, 3, padding="same", use_bias=False)
    layer.build((None, *images.shape[1:]))
    layer.set_weights([kernel])
    outputs = keras.ops.convert_to_numpy(layer(images[:4].astype("float32")))
    np.testing.assert_allclose(outputs[..., :3], images[:4], rtol=1e-6)
    np.testing.assert_array_equal(kernel[..., 3:], drawn[..., 3:])


def test_the_network_begins_as_the_recipe_says(images):
    model = build_network(BLOCKS, images.shape[1:], 4)
    set_initial_weights(model, BLOCKS, images)
    kernel, bias = whitening_filters(images, 2)
    whitening = model.get_layer("whitening")
    np.testing.assert_array_equal(whitening.get_weights()[0], kernel)
    assert not whitening.trainable_variables
    for name in ("conv1_1", "conv2_1", "conv2_2"):
        weights = model.get_layer(name).get_weights()[0]
        np.testing.assert_array_equal(dirac(weights), weights)
    answers = model.predict_on_batch(images[:3])
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)


def test_images_too_small_for_the_blocks_are_refused():
    with pytest.raises(ValueError, match="4 blocks halve 15 pixels to nothing; images of 16x16 allow 3"):
        build_network(dataclasses.replace(BLOCKS, widths=(4, 4, 4, 4)), (16, 16, 3), 4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the fused operation is TensorFlow's")
def test_fused_normalization_is_keras_own(images):
    import tensorflow as tf

    inputs = tf.constant(images[:32, :5, :5].astype("float32"))
    options = {"momentum": 0.6, "epsilon": 1e-5, "scale": False}
    found = []
    for fused in (False, True):
        layer = batch_normalization(fused, **options)
        layer.build(inputs.shape)
        layer.beta.assign([0.1, -0.2, 0.3])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(tf.sin(outputs))
        gradients = tape.gradient(loss, [inputs, layer.beta.value])
        found.append([outputs, *gradients, layer.moving_mean, layer(inputs, training=False)])
        variance = layer.moving_variance.numpy()
    for own, fused in zip(*found, strict=True):
        np.testing.assert_allclose(own, fused, rtol=2e-3, atol=2e-4)
    unbiased = inputs.numpy().reshape(-1, 3).var(axis=0, ddof=1)
    np.testing.assert_allclose(variance, 0.6 + 0.4 * unbiased, rtol=1e-4)


def test_fused_normalization_is_that_in_bfloat16_and_compiled_too(images):
    import tensorflow as tf

    inputs = tf.constant(images[:32, :5, :5].astype("float32"))
    options = {"momentum": 0.6, "epsilon": 1e-5, "scale": False}

    def trained(fused, policy):
        layer = batch_normalization(fused, dtype=policy, **options)
        layer.build(inputs.shape)

        @tf.function(jit_compile=False)
        def step(pixels):
            with tf.GradientTape() as tape:
                outputs = layer(tf.cast(pixels, layer.compute_dtype), training=True)
                loss = tf.reduce_sum(tf.sin(tf.cast(outputs, "float32") + 0.3))
            return tf.cast(outputs, "float32"), tape.gradient(loss, layer.beta.value)

        return [*step(inputs), layer.moving_mean, layer.moving_variance]

    for own, fused in zip(trained(False, "float32"), trained(True, "mixed_bfloat16"), strict=True):
        np.testing.assert_allclose(own, fused, rtol=2e-2, atol=2e-2)


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


START = ([1.0, -2.0], [0.5])


def test_at_a_constant_rate_it_is_keras_sgd_with_nesterov_momentum():
    ours = quadratic_steps(NesterovSGD(0.05, 0.9), START, 5)
    theirs = quadratic_steps(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), START, 5)
    for mine, other in zip(ours, theirs, strict=True):
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


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


@pytest.mark.parametrize("kind", ["lookahead", "ema"])
def test_averages_of_the_weights(kind):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    steps = 3 * averaging.EVERY
    average = WeightAverage(kind, steps)
    average.set_model(model)
    model.set_weights([np.float32([[0.0]])])
    average.on_train_begin()
    slow = fast = 0.0
    for step in range(1, steps + 1):
        model.set_weights([w + 1 for w in model.get_weights()])  # What the optimizer would do.
        average.on_train_batch_end(step - 1)
        fast += 1
        if step % averaging.EVERY == 0:
            if kind == "ema":
                kept = np.exp(-averaging.EVERY / (averaging.REACH * steps))
            else:
                kept = 0.95**averaging.EVERY * (step / steps) ** 3
            slow = kept * slow + (1 - kept) * fast
            if kind == "lookahead":
                fast = slow
        expected = slow if step == steps else fast
        assert float(model.get_weights()[0].item()) == pytest.approx(expected, rel=1e-5)
    assert slow != steps


def seen_in(batches, epoch):
    """{label: image} of one epoch; the labels are the numbers of the images."""
    batches.start_epoch(epoch)
    found = {}
    for step in range(len(batches)):
        for image, label in zip(*batches[step], strict=True):
            found[int(label)] = image
    return found


def test_two_epochs_of_alternating_flips_show_both_sides_of_every_image(images):
    batches = AugmentedBatches(images, np.arange(len(images)), 20, seed=3, flip="alternating")
    first, second, third = (seen_in(batches, epoch) for epoch in range(3))
    mirrored = 0
    for number, image in enumerate(images):
        mirrored += np.array_equal(first[number], image[:, ::-1])
        np.testing.assert_array_equal(second[number], first[number][:, ::-1])
        np.testing.assert_array_equal(third[number], first[number])
    assert 0.35 < mirrored / len(images) < 0.65


def test_what_is_mirrored_is_not_drawn_with_the_numbers_of_the_order(images):
    many = np.concatenate([images] * 20)
    batches = AugmentedBatches(many, np.arange(len(many)), 20, seed=3, flip="alternating")
    of_the_order = np.random.default_rng([3, 0]).random(len(many)) < 0.5
    assert 0.3 < np.mean(batches.first_mirrored == of_the_order) < 0.7


def test_random_flips_differ_between_epochs_and_none_leaves_the_images(images):
    numbers = np.arange(len(images))
    random = AugmentedBatches(images, numbers, 20, seed=3, flip="random")
    first, second = seen_in(random, 0), seen_in(random, 1)
    same = np.mean([np.array_equal(first[n], second[n]) for n in numbers])
    assert 0.3 < same < 0.7
    plain = seen_in(AugmentedBatches(images, numbers, 20, seed=3), 0)
    assert all(np.array_equal(plain[n], images[n]) for n in numbers)


def test_translation_reaches_all_shifts_and_reflects_at_the_edges(images):
    moved = translate(images, 2, np.random.default_rng(0))
    shifts = set()
    for before, after in zip(images, moved, strict=True):
        rows = np.pad(np.arange(16), 2, mode="reflect")
        candidates = {
            (down, right): before[rows[down : down + 16]][:, rows[right : right + 16]]
            for down in range(5)
            for right in range(5)
        }
        shifts |= {shift for shift, image in candidates.items() if np.array_equal(image, after)}
    assert shifts == {(down, right) for down in range(5) for right in range(5)}
    assert translate(images, 0, None) is images


def test_augmented_answers_are_the_mean_of_the_logits_of_explicit_views(images):
    images = images[:6]
    kernel = np.random.default_rng(0).normal(0, 5e-4, (16 * 16 * 3, 4)).astype("float32")
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(4, "softmax", use_bias=False)]
    )
    model.set_weights([kernel])

    def logits(view):
        return view.reshape(len(view), -1).astype("float64") @ kernel

    rows = np.pad(np.arange(16), 1, mode="reflect")
    up_left, down_right = (images[:, rows[a:b]][:, :, rows[a:b]] for a, b in ((2, 18), (0, 16)))
    sides = [logits(view) + logits(view[:, :, ::-1]) for view in (images, up_left, down_right)]
    expected = {0: logits(images), 1: sides[0] / 2, 2: sides[0] / 4 + sides[1] / 8 + sides[2] / 8}
    for level, mean in expected.items():
        plain, augmented = predict_views(model, images, level)
        np.testing.assert_allclose(plain, softmax(expected[0], axis=1), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(augmented, softmax(mean, axis=1), rtol=1e-3, atol=1e-6)
        assert sum(weight for weight, _ in views(images, level)) == pytest.approx(1)
    with pytest.raises(ValueError, match="tta is 5; expected level 0"):
        views(images, 5)
