"""What training sees: new orders, mirrored and moved images, the same for a seed."""

import dataclasses

import keras
import numpy as np
import pytest
import synthetic

from cnnlab.training import ShuffledBatches, Trial, feeding
from cnnlab.training.batches import OrderedBatches, balanced_weights, mirror, permute_pixels, prepare, translate

TRIAL = Trial("any", keep="last")


@pytest.fixture(scope="module")
def images():
    return synthetic.bars(200)[0]


def blank(count):
    return np.zeros((count, 1, 1, 1), "uint8"), np.zeros(count, "int32")


def test_every_epoch_of_fit_sees_all_images_in_a_new_order():
    images = np.arange(48, dtype="uint8").reshape(48, 1, 1, 1)
    seen = []

    class Spy(ShuffledBatches):
        def __getitem__(self, step):
            seen.append((self.epoch, super().__getitem__(step)[0].ravel().tolist()))
            return super().__getitem__(step)

    batches = Spy(images, np.zeros(48, "int32"), 8, seed=3)
    model = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    new_order = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _logs: batches.start_epoch(epoch))
    with feeding(batches) as source:
        seen.clear()
        model.fit(source, epochs=3, shuffle=False, verbose=0, callbacks=[new_order])
    epochs = [[i for epoch, batch in seen if epoch == wanted for i in batch] for wanted in range(3)]
    assert all(sorted(order) == list(range(48)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 3


def test_order_depends_on_seed_and_epoch_alone():
    one, two, other = (ShuffledBatches(*blank(40), 8, seed) for seed in (5, 5, 6))
    one.start_epoch(1)
    one.start_epoch(7)
    two.start_epoch(7)
    other.start_epoch(7)
    np.testing.assert_array_equal(one.order, two.order)
    assert not np.array_equal(one.order, other.order)


def test_more_steps_than_images_are_whole_passes_one_after_another():
    batches = ShuffledBatches(*blank(10), 5, seed=0, steps_per_epoch=5)
    assert len(batches) == 5
    assert sorted(batches.order[:10]) == sorted(batches.order[10:20]) == list(range(10))


def test_ordered_batches_hold_every_image_once():
    images = np.arange(7, dtype="uint8").reshape(7, 1, 1, 1)
    batches = OrderedBatches(images, np.arange(7), 3)
    assert [batches[i][0].ravel().tolist() for i in range(len(batches))] == [[0, 1, 2], [3, 4, 5], [6]]


def test_what_is_fed_is_what_the_batches_hold(images):
    batches = ShuffledBatches(images, np.arange(len(images)), 30, seed=3, flip="random", translate=2)
    with feeding(batches) as fed:
        if keras.backend.backend() != "tensorflow":
            assert fed is batches
            return
        assert int(fed.cardinality()) == len(batches) == 6
        for step, (pixels, labels) in enumerate(fed):
            np.testing.assert_array_equal(pixels, batches[step][0])
            np.testing.assert_array_equal(labels, batches[step][1])


def test_images_are_weighed_by_their_class():
    weights = np.array([0.5, 2.0], "float32")
    batches = ShuffledBatches(blank(10)[0], np.arange(10) % 2, 5, seed=0, class_weights=weights)
    _, labels, weighed = batches[1]
    np.testing.assert_array_equal(weighed, weights[labels])


def seen_in(batches, epoch):
    """{label: image} of one epoch; the labels are the numbers of the images."""
    batches.start_epoch(epoch)
    found = {}
    for step in range(len(batches)):
        for image, label in zip(*batches[step], strict=True):
            found[int(label)] = image
    return found


def test_two_epochs_of_alternating_flips_show_both_sides_of_every_image(images):
    batches = ShuffledBatches(images, np.arange(len(images)), 20, seed=3, flip="alternating")
    first, second, third = (seen_in(batches, epoch) for epoch in range(3))
    mirrored = 0
    for number, image in enumerate(images):
        mirrored += np.array_equal(first[number], image[:, ::-1])
        np.testing.assert_array_equal(second[number], first[number][:, ::-1])
        np.testing.assert_array_equal(third[number], first[number])
    assert 0.35 < mirrored / len(images) < 0.65


def test_what_is_mirrored_is_not_drawn_with_the_numbers_of_the_order(images):
    many = np.concatenate([images] * 20)
    batches = ShuffledBatches(many, np.arange(len(many)), 20, seed=3, flip="alternating")
    of_the_order = np.random.default_rng([3, 0]).random(len(many)) < 0.5
    assert 0.3 < np.mean(batches.first_mirrored == of_the_order) < 0.7


def test_random_flips_differ_between_epochs_and_none_leaves_the_images(images):
    numbers = np.arange(len(images))
    random = ShuffledBatches(images, numbers, 20, seed=3, flip="random")
    first, second = seen_in(random, 0), seen_in(random, 1)
    same = np.mean([np.array_equal(first[n], second[n]) for n in numbers])
    assert 0.3 < same < 0.7
    plain = seen_in(ShuffledBatches(images, numbers, 20, seed=3), 0)
    assert all(np.array_equal(plain[n], images[n]) for n in numbers)


def test_mirror_turns_whole_images_where_it_is_told_to():
    images = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 3), "uint8")
    which = np.random.default_rng(1).random(400) < 0.5
    mirrored = mirror(images, which)
    np.testing.assert_array_equal(mirrored[which], images[which][:, :, ::-1])
    np.testing.assert_array_equal(mirrored[~which], images[~which])


def test_random_flips_mirror_whole_images_about_half_of_the_time():
    images = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 3), "uint8")
    flipped = seen_in(ShuffledBatches(images, np.arange(400), 40, seed=1, flip="random"), 0)
    mirrored = np.array([np.array_equal(flipped[n], image[:, ::-1]) for n, image in enumerate(images)])
    kept = np.array([np.array_equal(flipped[n], image) for n, image in enumerate(images)])
    assert (mirrored | kept).all()
    assert 150 < mirrored.sum() < 250


def test_translation_reaches_all_shifts_and_reflects_at_the_edges(images):
    moved = translate(images, 2, np.random.default_rng(0))
    assert moved.shape == images.shape
    assert moved.dtype == np.uint8
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


def test_translation_moves_by_at_most_so_many_pixels_and_keeps_the_centre():
    images = np.zeros((200, 16, 16, 1), "uint8")
    images[:, 8, 8] = 255
    moved = translate(images, 2, np.random.default_rng(2))
    rows, columns = np.nonzero(moved[..., 0])[1:]
    assert len(rows) == 200
    assert {rows.min(), columns.min()} == {6}
    assert {rows.max(), columns.max()} == {10}


def test_permutation_moves_whole_pixels_and_is_one_for_all_images():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), "uint8")
    moved = permute_pixels(images, seed=1)
    order = np.random.default_rng(1).permutation(20)
    np.testing.assert_array_equal(moved.reshape(3, 20, 3), images.reshape(3, 20, 3)[:, order])
    np.testing.assert_array_equal(moved, permute_pixels(images, seed=1))


def test_balanced_weights_agree_with_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0, 0, 0, 1, 3, 3])
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    np.testing.assert_allclose(balanced_weights(labels, 4)[[0, 1, 3]], expected, rtol=1e-6)
    assert balanced_weights(labels, 4)[2] == 0


def test_a_trial_sees_its_part_of_the_data(bars_dataset):
    splits = prepare(dataclasses.replace(TRIAL, train_images=7, eval_images=5, permute_pixels=3), bars_dataset)
    assert {name: len(images) for name, (images, _) in splits.items()} == {"train": 7, "validation": 5, "test": 5}
    for name, (images, labels) in splits.items():
        original, expected = bars_dataset.split(name, len(images))
        np.testing.assert_array_equal(images, permute_pixels(original, 3))
        np.testing.assert_array_equal(labels, expected)
        assert labels.dtype == np.int32


def test_all_images_train_where_nothing_is_left_to_choose_on(bars_dataset):
    splits = prepare(dataclasses.replace(TRIAL, train_split="all"), bars_dataset)
    assert len(splits["train"][0]) == len(splits["train"][1]) == 256 + 64
    assert not len(splits["validation"][0])
    np.testing.assert_array_equal(splits["train"][0][256:], bars_dataset.split("validation")[0])
