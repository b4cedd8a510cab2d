"""The numbers of the data chapter, against plain numpy and SciPy on the same pixels."""

import dataclasses

import numpy as np
import pytest
import synthetic
from scipy import stats

from cnnlab.measures import exploration


@pytest.fixture(scope="module")
def images():
    return synthetic.bars(1_300)[0]


def test_class_counts_are_those_of_each_split(bars_dataset):
    counts = exploration.class_counts(bars_dataset)
    assert list(counts.columns) == ["train", "validation", "test"]
    for split in counts:
        labels = bars_dataset.split(split)[1]
        assert counts[split].to_dict() == {
            name: int(np.sum(labels == label)) for label, name in enumerate(bars_dataset.class_names)
        }


def test_the_majority_is_of_the_training_images_and_its_share_of_the_test_images():
    dataset = synthetic.dataset(train=50, validation=20, test=33)
    train, test = dataset.split("train")[1], dataset.split("test")[1]
    assert exploration.majority_share(dataset) == np.mean(test == stats.mode(train).mode)


def test_class_without_images_counts_zero():
    dataset = synthetic.dataset(train=20, validation=20, test=1)
    assert (exploration.class_counts(dataset)["test"] == 0).sum() == len(dataset.class_names) - 1


def test_histogram_and_statistics_are_exact(images):
    histogram = exploration.pixel_histogram(images)
    assert (histogram.sum() == images[..., 0].size).all()
    assert histogram.loc[30, "green"] == np.sum(images[..., 1] == 30)
    statistics = exploration.pixel_statistics(histogram)
    wide = images.astype("float64")
    for channel, name in enumerate(("red", "green", "blue")):
        assert np.allclose(statistics.loc[name, ["mean", "std"]], (wide[..., channel].mean(), wide[..., channel].std()))
    assert np.allclose(statistics.loc["all", ["mean", "std"]], (wide.mean(), wide.std()))
    assert np.allclose(statistics.loc["all", ["mean_scaled", "std_scaled"]], ((wide / 255).mean(), (wide / 255).std()))


def test_spatial_correlation_agrees_with_pairs_picked_one_by_one(images):
    few = images[:40]
    table = exploration.spatial_correlation(few, distances=(1, 5)).set_index(["direction", "distance"])["correlation"]
    side = few.shape[1]
    for distance in (1, 5):
        pairs = [(few[:, :, c], few[:, :, c + distance]) for c in range(side - distance)]
        expected = stats.pearsonr(*(np.concatenate([p[i].ravel() for p in pairs]).astype(float) for i in (0, 1)))[0]
        assert np.isclose(table["horizontal", distance], expected)
        pairs = [(few[:, r], few[:, r + distance]) for r in range(side - distance)]
        expected = stats.pearsonr(*(np.concatenate([p[i].ravel() for p in pairs]).astype(float) for i in (0, 1)))[0]
        assert np.isclose(table["vertical", distance], expected)


def test_direction_is_not_mixed_up():
    columns = np.random.default_rng(0).integers(0, 256, (50, 1, 16, 3))
    stripes = np.broadcast_to(columns, (50, 16, 16, 3)).astype("uint8")
    table = exploration.spatial_correlation(stripes, distances=(3,)).set_index("direction")["correlation"]
    assert table["vertical"] == pytest.approx(1)
    assert abs(table["horizontal"]) < 0.1


def test_noise_has_no_neighbours_and_bars_have(images):
    noise = np.random.default_rng(0).integers(0, 256, (100, 16, 16, 3), dtype="uint8")
    assert exploration.spatial_correlation(noise, distances=(1,))["correlation"].abs().max() < 0.02
    assert exploration.spatial_correlation(images, distances=(1,))["correlation"].min() > 0.3


def test_channel_correlation_is_that_of_the_same_pixel(images):
    table = exploration.channel_correlation(images[:30])
    red, blue = images[:30, ..., 0].ravel().astype(float), images[:30, ..., 2].ravel().astype(float)
    assert np.isclose(table.loc["red", "blue"], stats.pearsonr(red, blue)[0])
    assert np.allclose(np.diag(table), 1)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 8, 8, 3)), np.zeros((4, 8, 8), "uint8"), np.zeros((4, 8, 8, 1), "uint8")]
)
def test_other_arrays_are_refused(wrong):
    for compute in (exploration.pixel_histogram, exploration.spatial_correlation, exploration.channel_correlation):
        with pytest.raises(ValueError, match="expected uint8"):
            compute(wrong)


def test_a_distance_larger_than_the_image_is_refused(images):
    for distance in (0, 16):
        with pytest.raises(ValueError, match=f"distance {distance} pixels; expected 1 to 15"):
            exploration.spatial_correlation(images, distances=(distance,))


def test_mean_images_are_those_of_each_class_in_their_split(bars_dataset):
    means = exploration.mean_images(bars_dataset)
    images, labels = bars_dataset.split("train")
    assert (means.shape, means.dtype) == ((len(bars_dataset.class_names), *images.shape[1:]), np.uint8)
    for label, mean in enumerate(means):
        assert np.abs(mean - images[labels == label].mean(axis=0)).max() < 1


def test_the_nearest_image_is_looked_for_in_the_array_of_its_own_split(bars_dataset):
    train, test = bars_dataset.splits["train"], bars_dataset.splits["test"]
    apart = dataclasses.replace(test, images=np.roll(test.images, 1, axis=0)[::-1].copy())
    apart.images[test.indices[0]] = train.images[train.indices[7]]
    moved = dataclasses.replace(bars_dataset, splits={**bars_dataset.splits, "test": apart})
    first = exploration.nearest_training_image(moved, "test").iloc[0]
    assert (first["nearest_row"], first["nearest_label"]) == (train.indices[7], train.labels[train.indices[7]])
