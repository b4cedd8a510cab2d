"""Intervals, paired tests, calibration and confusions, each against an independent computation."""

import math

import numpy as np
import pytest
from scipy import special, stats
from statsmodels.stats.multitest import multipletests

from cnnlab import measures

ACCURACIES = np.array([0.731, 0.742, 0.728, 0.737, 0.735])


def answers(seeds=5, images=400, seed=0):
    """Bool (seeds, images): images of different difficulty, answered by seeds of different skill."""
    generator = np.random.default_rng(seed)
    ease = generator.beta(3, 1, images) + generator.normal(0, 0.1, (seeds, 1))
    return generator.random((seeds, images)) < ease


def test_t_interval_is_that_of_scipy():
    interval = measures.t_interval(ACCURACIES)
    expected = stats.t.interval(0.95, 4, ACCURACIES.mean(), stats.sem(ACCURACIES))
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert (interval.mean, interval.n) == (pytest.approx(ACCURACIES.mean()), 5)
    assert interval.low < 0.735 < interval.high < 0.75


def test_one_value_has_no_interval():
    interval = measures.t_interval([0.7])
    assert interval.n == 1
    assert all(map(math.isnan, (interval.low, interval.high, interval.sd)))
    with pytest.raises(ValueError, match="one value a seed"):
        measures.t_interval([])


def test_prediction_interval_covers_one_further_run_as_often_as_it_says():
    generator = np.random.default_rng(1)
    draws = generator.normal(0.73, 0.005, (2000, 6))
    intervals = [measures.prediction_interval(draw[:5]) for draw in draws]
    covered = sum(each.low <= draw[5] <= each.high for each, draw in zip(intervals, draws, strict=True))
    low, high = stats.binom.interval(0.999, len(draws), 0.95)
    assert low <= covered <= high


def test_paired_tests_are_scipys_with_holms_correction_of_statsmodels():
    generator = np.random.default_rng(3)
    differences = [generator.normal(mean, 0.01, n) for mean, n in ((0.02, 5), (0.0, 5), (0.005, 4), (-0.03, 6))]
    table = measures.paired_tests(differences)
    plain = [stats.ttest_1samp(values, 0).pvalue for values in differences]
    np.testing.assert_allclose(table["p_value"], plain)
    differs, holm, *_ = multipletests(plain, 0.05, "holm")
    np.testing.assert_allclose(table["p_holm"], holm)
    assert list(table["differs"]) == list(differs)


@pytest.mark.parametrize(("values", "differs"), [([0.1, 0.1, 0.1], True), ([0.0, 0.0, 0.0], False)])
def test_differences_without_noise_are_told_from_no_difference(values, differs):
    assert measures.paired_tests([values])["differs"].item() is differs


def test_a_paired_test_needs_two_seeds():
    with pytest.raises(ValueError, match="at least 2"):
        measures.paired_tests([[0.1, 0.2], [0.1]])


def test_mcnemar_is_a_binomial_test_of_the_images_that_one_alone_answers():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 500)
    first, second = (np.where(generator.random(500) < skill, labels, 0) for skill in (0.75, 0.65))
    result = measures.mcnemar(labels, first, second)
    only_first = sum(a == y != b for a, b, y in zip(first, second, labels, strict=True))
    only_second = sum(b == y != a for a, b, y in zip(first, second, labels, strict=True))
    assert (result.only_first, result.only_second, result.n) == (only_first, only_second, 500)
    assert result.p_value == pytest.approx(stats.binomtest(only_first, only_first + only_second).pvalue)
    assert result.difference == pytest.approx(np.mean(first == labels) - np.mean(second == labels))


def test_mcnemar_of_a_network_with_itself_and_of_unlike_lengths():
    labels = np.arange(10)
    assert measures.mcnemar(labels, labels, labels).p_value == 1
    with pytest.raises(ValueError, match="thrice"):
        measures.mcnemar(labels, labels, labels[:5])


def test_calibration_error_against_a_loop_over_bins_of_equal_count():
    generator = np.random.default_rng(2)
    confidence = np.append(generator.random(996), [0.0, 0.2, 0.4, 1.0])
    correct = generator.random(1000) < confidence**2
    table, expected = measures.reliability_bins(confidence, correct, bins=10), 0.0
    order = sorted(range(1000), key=lambda image: confidence[image])
    for b in range(10):
        inside = order[100 * b : 100 * (b + 1)]
        assert table["accuracy"][b] == pytest.approx(correct[inside].mean())
        assert table["confidence"][b] == pytest.approx(confidence[inside].mean())
        wilson = stats.binomtest(int(correct[inside].sum()), 100).proportion_ci(method="wilson")
        assert (table["low"][b], table["high"][b]) == pytest.approx((wilson.low, wilson.high))
        expected += 0.1 * abs(correct[inside].mean() - confidence[inside].mean())
    assert measures.expected_calibration_error(confidence, correct, bins=10) == pytest.approx(expected)


def test_bins_of_images_that_come_in_groups_are_less_sure():
    generator = np.random.default_rng(5)
    groups = np.repeat(np.arange(60), 10)
    confidence = generator.random(600)
    correct = (generator.random(60) < 0.5)[groups]
    alone, together = (measures.reliability_bins(confidence, correct, 4, each) for each in (None, groups))
    assert (together["high"] - together["low"] > 1.1 * (alone["high"] - alone["low"])).all()
    assert together["accuracy"].tolist() == alone["accuracy"].tolist()


def test_calibration_error_of_known_cases():
    assert measures.expected_calibration_error([1.0, 1.0], [True, True]) == 0
    assert measures.expected_calibration_error([1.0, 1.0], [False, False]) == 1
    bins = measures.reliability_bins([0.99, 0.95, 0.99], [True, True, False], bins=10)
    assert bins[["count", "accuracy"]].to_numpy().tolist() == [[1, 1], [2, 0.5]], "equal confidences stay together"
    assert measures.expected_calibration_error([1.0000001], [True]) == 0
    for impossible in (1.5, -0.1, np.nan):
        with pytest.raises(ValueError, match="expected 0 to 1"):
            measures.reliability_bins([impossible], [True])


@pytest.fixture(scope="module")
def overconfident():
    """(probabilities, labels): drawn from a softmax, then reported at a third of its temperature."""
    generator = np.random.default_rng(4)
    logits = generator.normal(0, 1.5, (4000, 6))
    true = special.softmax(logits, axis=1)
    labels = (generator.random((4000, 1)) > true.cumsum(axis=1)).sum(axis=1)
    return special.softmax(3 * logits, axis=1).astype("float32"), labels


def test_temperature_finds_how_overconfident_the_network_was(overconfident):
    probabilities, labels = overconfident
    temperature = measures.fit_temperature(probabilities, labels)
    assert temperature == pytest.approx(3, rel=0.1)

    def loss(t):
        return -np.log(measures.apply_temperature(probabilities, t)[np.arange(len(labels)), labels]).mean()

    grid = np.linspace(2, 4, 201)
    assert temperature == pytest.approx(grid[np.argmin([loss(t) for t in grid])], abs=0.02)


def test_temperature_changes_confidence_and_no_answer(overconfident):
    probabilities, labels = overconfident
    scaled = measures.apply_temperature(probabilities, measures.fit_temperature(probabilities, labels))
    assert np.array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    np.testing.assert_allclose(measures.apply_temperature(probabilities, 1), probabilities, atol=1e-6)
    correct = probabilities.argmax(axis=1) == labels
    before, after = (
        measures.expected_calibration_error(p.max(axis=1).clip(0, 1), correct) for p in (probabilities, scaled)
    )
    assert after < before / 4


def test_temperature_refuses_logits_and_impossible_values():
    with pytest.raises(ValueError, match="sum to 1"):
        measures.fit_temperature(np.array([[2.0, -1.0]]), [0])
    with pytest.raises(ValueError, match="positive"):
        measures.apply_temperature(np.array([[0.5, 0.5]]), 0)


def test_per_class_counts_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 1, 1, 2, 1, 1, 0])
    table = measures.per_class(labels, predicted, ("cat", "dog", "bird", "sun"))
    assert list(table["images"]) == [4, 2, 1, 0]
    assert list(table["correct"]) == [1, 2, 0, 0]
    np.testing.assert_array_equal(table["accuracy"], [0.25, 1, 0, np.nan])
    assert list(table["taken_for"]) == ["dog", "", "cat", ""]
    assert table.loc["cat", "taken_share"] == 0.5
    wilson = stats.binomtest(1, 4).proportion_ci(method="wilson")
    assert (table.loc["cat", "low"], table.loc["cat", "high"]) == pytest.approx((wilson.low, wilson.high))
    counts = measures.confusion_counts(labels, predicted, ("cat", "dog", "bird", "sun"))
    assert counts.loc["cat", "dog"] == 2
    assert counts.to_numpy().sum() == 7
