"""Intervals, paired tests and confusions against independent computations; what seeds say together, by known truth."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cnnlab import findings, measures

ACCURACIES = np.array([0.731, 0.742, 0.728, 0.737, 0.735])


def test_differences_pair_the_seeds_that_have_both_in_their_order():
    seeds, scores = [2, 0, 1, 1, 2, 3, 0], [0.7, 0.5, None, 0.4, 0.3, 0.9, 0.1]
    rows = pd.DataFrame({"label": ["a", "a", "a", "b", "b", "b", "b"], "seed": seeds, "score": scores})
    for column in (rows["score"], rows["score"].astype(object)):
        found = measures.paired_differences(rows.assign(score=column), "a", "b", "score")
        np.testing.assert_allclose(found.astype("float64"), [0.5 - 0.1, 0.7 - 0.3])
    with pytest.raises(ValueError, match="no seed has both"):
        measures.paired_differences(rows.assign(score=None), "a", "b", "score")


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
    with pytest.raises(ValueError, match="one value per seed"):
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
    assert (result["only_first"], result["only_second"], result["n"]) == (only_first, only_second, 500)
    assert result["p_value"] == pytest.approx(stats.binomtest(only_first, only_first + only_second).pvalue)
    assert result["mean"] == pytest.approx(np.mean(first == labels) - np.mean(second == labels))


def test_mcnemar_of_a_network_with_itself_and_of_unlike_lengths():
    labels = np.arange(10)
    assert measures.mcnemar(labels, labels, labels)["p_value"] == 1
    with pytest.raises(ValueError, match=r"expected \(n,\) for each"):
        measures.mcnemar(labels, labels, labels[:5])


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


def test_largest_errors_by_hand():
    labels, predicted = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, 1, 1, 0])
    counts = measures.confusion_counts(labels, predicted, ("cat", "dog", "bird", "sun"))
    table = measures.largest_errors(counts)
    assert table.columns.tolist() == ["true", "answer", "times", "images"]
    assert table.to_numpy().tolist() == [["cat", "dog", 2, 4], ["cat", "bird", 1, 4], ["bird", "cat", 1, 1]]
    assert measures.largest_errors(counts, 1)["answer"].tolist() == ["dog"]
    assert measures.largest_errors(measures.confusion_counts(labels, labels, list("abcd"))).empty


IMAGES, CLASSES = 4_000, 10
LABEL = "cnn_32_64_128"


@pytest.fixture
def labels():
    return np.arange(IMAGES) % CLASSES


def drawn(seeds, shift=0.0, seed=0):
    """Right or wrong, bool (seeds, IMAGES): each image by its own chance, a whole seed moved by `shift`."""
    generator = np.random.default_rng(seed)
    chances = generator.uniform(0.3, 0.95, IMAGES) + shift * generator.normal(size=(seeds, 1))
    return generator.uniform(size=(seeds, IMAGES)) < chances


def answers(correct, labels):
    """Classes and confidences that are right where `correct` is, and else each of another class."""
    wrong = (labels + 1 + np.random.default_rng(1).integers(0, CLASSES - 1, correct.shape)) % CLASSES
    return np.where(correct, labels, wrong).astype("uint8"), np.full(correct.shape, 0.5, "float16")


def test_independent_errors_spread_as_test_noise_and_no_further():
    found = measures.seed_spread(drawn(400))
    chances = np.random.default_rng(0).uniform(0.3, 0.95, IMAGES)
    assert found["test_noise"] == pytest.approx(math.sqrt((chances * (1 - chances)).mean() / IMAGES), rel=0.02)
    assert found["low"] < found["test_noise"] < found["high"]
    assert found["real"] < 0.4 * found["test_noise"]


def test_what_moves_a_whole_seed_is_left_beyond_test_noise():
    found = measures.seed_spread(drawn(400, shift=0.02))
    assert found["real"] == pytest.approx(0.02, rel=0.15)
    assert found["low"] > found["test_noise"]


@pytest.mark.parametrize("correct", [np.ones((1, 5), bool), np.ones(5, bool), np.ones((0, 5), bool)])
def test_a_spread_needs_two_seeds(correct):
    with pytest.raises(ValueError, match="seed"):
        measures.seed_spread(correct)


@pytest.mark.parametrize(
    ("seeds", "shift", "verdict"),
    [(100, 0.0, "same"), (100, 0.02, "worse"), (10, 0.03, "worse"), (3, 0.0, "cannot tell")],
)
def test_the_verdict_on_the_spread(seeds, shift, verdict, labels):
    said = findings.spread({LABEL: answers(drawn(seeds, shift), labels)}, labels)
    assert said.verdict == said.numbers[LABEL]["verdict"] == verdict
    assert said.numbers[LABEL]["n"] == seeds


def test_of_several_variants_the_worst_verdict_counts(labels):
    found = {"to_93": answers(drawn(10, 0.03), labels), "to_94": answers(drawn(3), labels)}
    said = findings.spread(found, labels)
    words = "The recipe for 93% varied more between seeds than test noise explains; for one more, cannot tell."
    assert (said.verdict, said.sentence) == ("worse", words)


def test_false_alarms_about_real_variance_are_as_rare_as_the_level_says(labels):
    found = {seed: answers(drawn(5, seed=seed), labels) for seed in range(200)}
    spreads = [findings.spread({LABEL: each}, labels) for each in found.values()]
    alarms = sum(said.verdict == "worse" for said in spreads)
    assert alarms <= 12  # 2.5% of 200 are 5; more than 12 come once in a thousand times.


def test_the_larger_sum_of_confidences_wins_the_vote():
    predicted = np.array([[0, 1], [1, 1], [1, 2]])
    confidence = np.array([[0.9, 0.4], [0.3, 0.4], [0.3, 0.7]])
    assert measures.vote(predicted, confidence).tolist() == [0, 1]


def test_a_vote_gains_where_errors_differ_and_not_where_they_are_shared(labels):
    apart = findings.ensemble({LABEL: answers(drawn(5), labels)}, labels)
    assert apart.verdict == "better" and apart.numbers[LABEL]["low"] > 0.1
    copies = tuple(np.repeat(each, 5, axis=0) for each in answers(drawn(1), labels))
    alike = findings.ensemble({LABEL: copies}, labels)
    assert alike.verdict == "cannot tell" and alike.numbers[LABEL]["gain"] == 0


def test_planted_labels_are_found_surest_first_and_left_out(labels):
    correct = np.ones((3, IMAGES), bool)
    correct[0, :50] = False  # One seed alone contradicts these.
    predicted, confidence = answers(correct, labels)
    planted = labels.copy()
    planted[[70, 90, 80]] = (labels[[70, 90, 80]] + 1) % CLASSES
    confidence[:, 80], confidence[:, 90] = 0.9, 0.6
    assert measures.contradicted(predicted, confidence, planted).tolist() == [80, 90, 70]
    said = findings.suspect_labels(LABEL, predicted, confidence, planted)
    assert said.numbers["images"] == 3
    right = (predicted == planted).mean(axis=0)
    assert said.numbers["without"] == pytest.approx(right.sum() / (IMAGES - 3))
    assert said.numbers["accuracy"] == pytest.approx(right.mean())


def test_the_table_has_a_row_a_variant(labels):
    found = {label: answers(drawn(4, seed=seed), labels) for seed, label in enumerate((LABEL, "to_94"))}
    table = findings.seeds_table(found, labels)
    assert table["Network"].tolist() == ["CNN 32-64-128", "the recipe for 94%"]
    spread = measures.seed_spread(found[LABEL][0] == labels)
    assert float(table["SD over seeds, points"][0]) == pytest.approx(100 * spread["observed"], abs=0.005)
