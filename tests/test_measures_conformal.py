"""Conformal sets: their definition, the promise kept where images are exchangeable, and broken elsewhere."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from synthetic import dataset as bars

from cnnlab import data, measures
from cnnlab.measures.mars import SPAN


def drawn(n, spread=1.5, classes=5, seed=0):
    """(probabilities (n, classes), labels): a network that knows the true probabilities where `spread` is 1.5."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (n, classes))
    true = special.softmax(logits, axis=1)
    labels = (generator.random((n, 1)) > true.cumsum(axis=1)).sum(axis=1)
    return special.softmax(logits * spread / 1.5, axis=1), labels


@pytest.mark.parametrize("n", [19, 20, 99, 100, 101])
@pytest.mark.parametrize("promised", [0.8, 0.9, 0.95])
def test_the_threshold_is_the_quantile_of_its_definition(n, promised):
    """Angelopoulos and Bates, section 1: the least score that (n + 1) x promised of the n scores do not exceed."""
    probabilities, labels = drawn(n)
    scores = 1 - probabilities[np.arange(n), labels]
    threshold = measures.conformal_threshold(probabilities, labels, promised)
    enough = [score for score in scores if np.sum(scores <= score) >= (n + 1) * promised]
    if not enough:
        assert threshold == 0
        assert measures.conformal_sets(probabilities, threshold).all(), "too few images: every class"
    else:
        assert threshold == pytest.approx(1 - min(enough))
        others = drawn(50, seed=1)[0]
        assert np.array_equal(measures.conformal_sets(others, threshold), 1 - others <= min(enough) + 1e-12)


def test_the_promise_holds_for_exchangeable_images_whatever_the_confidence():
    """Of n images to fit on, coverage of new ones is n + 1 - l and l parts of a beta distribution (section 3.2)."""
    for spread, seed in itertools.product((0.5, 1.5, 6.0), range(3)):
        (fit, labels), (new, truths) = drawn(500, spread, seed=seed), drawn(20_000, spread, seed=100 + seed)
        sets = measures.conformal_sets(new, measures.conformal_threshold(fit, labels))
        left = np.floor(501 * 0.1)
        low, high = stats.beta.interval(0.999, 501 - left, left)
        assert low - 0.01 < sets[np.arange(20_000), truths].mean() < high + 0.01


def test_a_promise_that_is_no_share_is_refused():
    for promised in (0, 1, 90):
        with pytest.raises(ValueError, match=f"promised is {promised}; expected a share between 0 and 1"):
            measures.conformal_threshold(*drawn(50), promised)


def counted(rows, split):
    return rows[rows["first_sol"].isna()].set_index("split").loc[split]


def test_coverage_of_a_data_set_is_counted_by_hand():
    found = bars(64, 200, 300)
    answers = {}
    for name, n in (("validation", 200), ("test", 300)):
        noise = np.random.default_rng(n).normal(0, 1, (n, 4))
        answers[name] = special.softmax(noise + 2 * np.eye(4)[found.split(name)[1]], axis=1)
    rows = measures.conformal_coverage(found, answers["validation"], answers["test"])
    threshold = measures.conformal_threshold(answers["validation"], found.split("validation")[1])
    test, truths = counted(rows, "test"), found.split("test")[1]
    sizes = [sum(p >= threshold for p in each) for each in answers["test"]]
    held = [each[truth] >= threshold for each, truth in zip(answers["test"], truths, strict=True)]
    alone = [is_held for is_held, size in zip(held, sizes, strict=True) if size == 1]
    assert test["coverage"] == pytest.approx(np.mean(held))
    assert (test["size"], test["single"]) == (pytest.approx(np.mean(sizes)), pytest.approx(len(alone) / 300))
    assert test["single_accuracy"] == pytest.approx(np.mean(alone))
    wilson = stats.binomtest(int(np.sum(held)), 300).proportion_ci(method="wilson")
    assert (test["low"], test["high"]) == pytest.approx((wilson.low, wilson.high))
    assert counted(rows, "validation")["coverage"] == pytest.approx(0.9, abs=0.06)
    assert len(rows) == 2 and set(rows["promised"]) == {0.9}


def test_over_sols_the_promise_is_counted_by_groups_and_breaks_where_answers_get_worse():
    """Sixty groups of five images, a sol each; on later sols the network knows nothing."""
    sols, n = np.repeat(np.arange(60) * 10, 5), 300
    labels = np.random.default_rng(1).integers(0, 4, n)
    metadata = pd.DataFrame({"sol": sols, "group": sols.astype(str), "label": labels})
    images = np.zeros((n, 4, 4, 3), "uint8")
    fit, later = np.arange(200), np.arange(200, 300)
    splits = {"train": fit[:1], "validation": fit, "test": later}
    mars = data.Dataset(
        "mars-4", tuple("abcd"), {k: data.Split(images, labels, v) for k, v in splits.items()}, metadata
    )
    noise = np.random.default_rng(2).normal(0, 1, (n, 4))
    probabilities = special.softmax(noise + np.where(sols < 400, 2, 0)[:, None] * np.eye(4)[labels], axis=1)
    rows = measures.conformal_coverage(mars, probabilities[fit], probabilities[later])
    own, test = (counted(rows, split) for split in ("validation", "test"))
    assert own["low"] < 0.9 < own["high"]
    assert test["high"] < 0.9
    assert (test["groups"], own["groups"]) == (20, 40)
    spans = rows.dropna(subset=["first_sol"])
    assert spans["first_sol"].tolist() == [*range(400, 600, SPAN), *range(0, 400, SPAN)]
    assert spans[spans["split"] == "test"]["images"].sum() == 100
