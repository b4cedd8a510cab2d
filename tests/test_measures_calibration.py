"""Conformal sets, whose promise is kept where images are exchangeable; calibration by independent computations."""

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
