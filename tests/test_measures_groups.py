"""Scores against scikit-learn's, intervals against a bootstrap written as a plain loop."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, recall_score
from statsmodels.stats.proportion import proportion_confint

from cnnlab.measures import groups as group_scores
from cnnlab.measures.groups import SCORES

CLASSES = 6


@pytest.fixture(scope="module")
def answers():
    """(labels, predicted, groups) of 300 images in 40 groups; class 4 is answered and has no image."""
    generator = np.random.default_rng(0)
    groups = np.sort(generator.integers(0, 40, 300))
    labels = generator.choice([0, 0, 0, 1, 2, 3, 5], 40)[groups]
    # Groups are right or wrong together, mostly.
    right = generator.random(40)[groups] > generator.uniform(0.2, 0.8, 300)
    return labels, np.where(right, labels, generator.integers(0, 5, 300)), groups


def by_scikit(labels, predicted):
    present = np.unique(labels)
    return [
        accuracy_score(labels, predicted),
        recall_score(labels, predicted, labels=present, average="macro", zero_division=0),
        f1_score(labels, predicted, labels=present, average="macro", zero_division=0),
    ]


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_scores_are_those_of_scikit_learn_over_the_classes_present(answers):
    labels, predicted, _ = answers
    found = group_scores.group_scores(labels, predicted, CLASSES)
    assert list(found.index) == list(SCORES)
    np.testing.assert_allclose(found, by_scikit(labels, predicted))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_an_answer_of_an_absent_class_is_an_error_and_no_class():
    found = group_scores.group_scores([0, 0, 1, 1], [0, 2, 1, 1], 3)
    np.testing.assert_allclose(found, [3 / 4, 3 / 4, (2 / 3 + 1) / 2])


def test_the_bootstrap_is_that_of_a_plain_loop(answers):
    labels, predicted, groups = answers
    table = group_scores.group_bootstrap(labels, predicted, groups, CLASSES, resamples=2_000)
    generator = np.random.default_rng(1)
    loop = []
    for _ in range(400):
        drawn = np.concatenate([np.flatnonzero(groups == group) for group in generator.choice(np.unique(groups), 40)])
        loop.append(by_scikit(labels[drawn], predicted[drawn]))
    low, high = np.quantile(loop, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(table["value"], by_scikit(labels, predicted))
    # 400 and 2,000 resamples: ends agree within their own noise, a small part of the width.
    np.testing.assert_allclose(table["low"], low, atol=0.03)
    np.testing.assert_allclose(table["high"], high, atol=0.03)
    assert table["groups"].tolist() == [40] * 3


def test_the_same_weights_give_the_loop_exactly(answers):
    labels, predicted, groups = answers
    codes, weights = group_scores._draw(labels, predicted[None], groups, 5, 3)
    rows = [np.repeat(np.arange(300), draw[codes]) for draw in weights]
    expected = np.quantile([by_scikit(labels[row], predicted[row]) for row in rows], [0.025, 0.975], axis=0)
    table = group_scores.group_bootstrap(labels, predicted, groups, CLASSES, resamples=5, seed=3)
    np.testing.assert_allclose(table[["low", "high"]].T, expected)


def test_groups_that_go_together_widen_the_interval(answers):
    labels, predicted, groups = answers
    together = group_scores.group_bootstrap(labels, predicted, groups, CLASSES).loc["accuracy"]
    alone = group_scores.group_bootstrap(labels, predicted, np.arange(300), CLASSES).loc["accuracy"]
    assert together["high"] - together["low"] > 1.3 * (alone["high"] - alone["low"])


def test_seeds_are_averaged_on_the_same_groups(answers):
    labels, predicted, groups = answers
    one = group_scores.group_bootstrap(labels, predicted, groups, CLASSES)
    two = group_scores.group_bootstrap(labels, np.stack([predicted, predicted]), groups, CLASSES)
    np.testing.assert_allclose(one, two)
    mixed = group_scores.group_bootstrap(labels, np.stack([predicted, labels]), groups, CLASSES)
    assert mixed.loc["accuracy", "value"] == pytest.approx((1 + one.loc["accuracy", "value"]) / 2)


def test_recall_of_each_class(answers):
    labels, predicted, groups = answers
    names = [f"class {number}" for number in range(CLASSES)]
    table = group_scores.recall_by_class(labels, predicted, groups, names)
    expected = recall_score(labels, predicted, labels=range(CLASSES), average=None, zero_division=np.nan)
    np.testing.assert_allclose(table["value"], expected)
    assert table["images"].tolist() == np.bincount(labels, minlength=CLASSES).tolist()
    assert table["groups"].tolist() == [len(set(groups[labels == number])) for number in range(CLASSES)]
    assert table.loc["class 4", ["value", "low", "high"]].isna().all()
    present = table.drop("class 4").query("groups > 1")
    assert (present["low"] <= present["value"]).all()
    assert (present["value"] <= present["high"]).all()


def test_a_class_of_one_group_or_of_one_recall_has_no_interval():
    labels, predicted = [0, 0, 1, 1, 2, 2], [0, 0, 1, 0, 2, 2]
    table = group_scores.recall_by_class(labels, predicted, ["a", "a", "b", "c", "d", "e"], ["x", "y", "z"])
    assert table["value"].tolist() == [1, 0.5, 1]
    assert table.loc[["x", "z"], ["low", "high"]].isna().all(axis=None)
    assert table.loc["y", ["low", "high"]].tolist() == [0, 1]


def test_differences_are_those_of_a_plain_loop_over_the_same_groups(answers):
    labels, predicted, groups = answers
    other = np.roll(predicted, 7)
    table = group_scores.difference_bootstrap(labels, predicted, other, groups, CLASSES, resamples=5, seed=3)
    codes, weights = group_scores._draw(labels, predicted[None], groups, 5, 3)
    rows = [np.repeat(np.arange(300), draw[codes]) for draw in weights]
    drawn = [np.subtract(by_scikit(labels[row], predicted[row]), by_scikit(labels[row], other[row])) for row in rows]
    np.testing.assert_allclose(table["value"], np.subtract(by_scikit(labels, predicted), by_scikit(labels, other)))
    np.testing.assert_allclose(table[["low", "high"]].T, np.quantile(drawn, [0.025, 0.975], axis=0))
    assert table["groups"].tolist() == [40] * 3
    itself = group_scores.difference_bootstrap(labels, predicted, [predicted] * 2, groups, CLASSES)
    assert not itself[["value", "low", "high"]].to_numpy().any()


def test_a_gap_that_comes_from_other_classes_is_none_within_them():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 2)
    later = groups >= 100
    # Later there is more of class 1, which is always wrong; each class by itself is as before.
    labels = np.where(later, generator.random(400) < 0.8, generator.random(400) < 0.2).astype(int)
    values = labels == 0
    overall, _, high = group_scores.gap_by_group(values, groups, later)
    assert high < 0
    assert group_scores.gap_within_classes(values, labels, groups, later) == (0, 0, 0, 2)
    # And one within a class: half of class 0 is wrong later.
    worse = values & (~later | (generator.random(400) < 0.5))
    gap, low, high, classes = group_scores.gap_within_classes(worse, labels, groups, later)
    expected = np.mean([worse[later & (labels == c)].mean() - worse[~later & (labels == c)].mean() for c in (0, 1)])
    assert gap == pytest.approx(expected)
    assert low < gap < high < 0
    assert classes == 2
    assert group_scores.gap_within_classes(values, later.astype(int), groups, later)[3] == 0, "no class on both sides"
    assert overall < gap


def test_mean_by_group_weighs_images(answers):
    labels, predicted, groups = answers
    mean, low, high = group_scores.mean_by_group(labels == predicted, groups)
    table = group_scores.group_bootstrap(labels, predicted, groups, CLASSES).loc["accuracy"]
    np.testing.assert_allclose([mean, low, high], table[["value", "low", "high"]].astype(float))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 labels, 2 answers, 3 groups"):
        group_scores.group_bootstrap([0, 1, 1], [0, 1], ["a", "b", "b"], 2)
    with pytest.raises(ValueError, match="groups: 1; expected at least two"):
        group_scores.group_bootstrap([0, 1], [0, 1], ["a", "a"], 2)


def test_a_share_has_wilsons_interval_where_resampling_shows_none():
    correct = np.array([True] * 8 + [False] * 2)
    alone = np.arange(10)
    expected = proportion_confint(8, 10, method="wilson")
    assert group_scores.share_by_group(correct, alone) == pytest.approx((0.8, *expected))
    pairs = alone // 2
    assert group_scores.share_by_group(correct, pairs) == pytest.approx(group_scores.mean_by_group(correct, pairs))
    all_right = group_scores.share_by_group(np.ones(10, bool), pairs)
    assert all_right == pytest.approx((1, *proportion_confint(5, 5, method="wilson")))
    halves = group_scores.share_by_group(np.tile([True, False], 5), pairs)
    assert halves == pytest.approx((0.5, *proportion_confint(2.5, 5, method="wilson")))
    one_group = group_scores.share_by_group(correct, np.zeros(10))
    assert one_group == pytest.approx((0.8, *proportion_confint(0.8, 1, method="wilson")))
