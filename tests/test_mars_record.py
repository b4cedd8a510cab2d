"""What the Mars record says: tables that survive a file, and sentences that change with them."""

import numpy as np
import pandas as pd
import pytest

from cnnlab import findings, mars_record, measurements, report
from cnnlab.sentences import mars_findings

GOOD, BAD = report.MARS_CNN, report.MARS_DENSE


@pytest.fixture(scope="module")
def answers(mars_tiny):
    """Two networks, two seeds each: one always right, one always one class too far."""
    labels = mars_tiny.split("test")[1].astype("int64")
    return {BAD: np.stack([(labels + 1) % 3] * 2), GOOD: np.stack([labels] * 2)}


@pytest.fixture(scope="module")
def tables(mars_tiny, answers):
    with pytest.MonkeyPatch.context() as patch:
        # The tiny set has five groups, too few for the record's eight spans of sols.
        by_sol = mars_record.mars_evaluation.accuracy_by_sol
        patch.setattr(mars_record.mars_evaluation, "accuracy_by_sol", lambda *of: by_sol(*of, bins=2))
        return mars_record.evaluate(mars_tiny, answers)


def test_scores_stand_beside_the_baselines(tables):
    accuracy = tables["scores"].query("score == 'accuracy'").set_index("label")
    assert accuracy.loc[[BAD, GOOD], "value"].tolist() == [0, 1]
    assert accuracy.loc[[BAD, GOOD], "seeds"].tolist() == [2, 2]
    assert accuracy.loc["always rock", ["value", "seeds"]].tolist() == [0.5, 0]
    assert mars_record.NEAREST in accuracy.index
    against = tables["against"].set_index(["label", "baseline"])["difference"]
    assert against[GOOD, "always rock"] == 0.5
    assert against[BAD, "always rock"] == -0.5


def test_the_splits_are_described(tables):
    images = tables["images"].set_index("split")
    assert images["images"].to_dict() == {"train": 10, "validation": 4, "test": 6}
    assert images.loc["test", "lacks"] == "hole"
    assert images.loc["validation", ["largest", "largest_share", "common", "common_share"]].tolist() == [
        "big wheel", 0.5, "rock", 0.25,
    ]  # fmt: skip


def test_tables_survive_a_file(tables, tmp_path):
    paths = mars_record.write(tables, tmp_path / "mars")
    assert {path.stem for path in paths} == set(tables)
    again = mars_record.read(tmp_path / "mars")
    for name, table in tables.items():
        pd.testing.assert_frame_equal(again[name], table.replace("", np.nan), check_dtype=False, atol=1e-5)
    assert mars_record.read(tmp_path / "nothing") == {}
    assert measurements.from_mars(tmp_path / "mars") == {"mars.images": 20, "mars.classes": 3}
    assert measurements.from_mars(tmp_path / "nothing") == {}


def test_sentences_follow_the_tables(tables):
    surely = tables["against"].assign(low=0.2, high=0.8)
    good = mars_findings.scores(tables["scores"], GOOD, "always rock", surely)
    bad = mars_findings.scores(tables["scores"], BAD, "always rock", tables["against"])
    assert (good.verdict, bad.verdict) == (findings.BETTER, findings.WORSE)
    assert "accuracy 100.0%" in good.sentence
    assert "mean of 2 seeds" in good.sentence
    assert mars_findings.recalls(tables["recalls"], GOOD).numbers == {"lost": [], "present": 2}
    assert mars_findings.recalls(tables["recalls"], BAD).numbers["lost"] == ["rock", "big wheel"]
    assert mars_findings.cameras(tables["cameras"], BAD).numbers["MAHLI"] == 0
    assert mars_findings.first_seen(tables["frames"], GOOD).numbers["sequences first seen here"] == 1


def test_a_trend_of_nothing_is_not_detectable_and_says_what_could_have_been_seen(tables):
    finding = mars_findings.sol_trend(tables["trend"], GOOD)
    assert finding.verdict == "no difference detectable at n = 5"
    assert "the smallest that could have been seen is about 0.00 percentage points" in finding.sentence
    worse = tables["trend"].assign(gap=-0.2, low=-0.3, high=-0.1)
    assert mars_findings.sol_trend(worse, GOOD).verdict == findings.WORSE


def test_constant_answers_name_what_a_split_lacks(tables):
    finding = mars_findings.constant_answers(tables["images"])
    assert finding.numbers == {"train": 0.6, "validation": 0.25, "test": 0.5}
    assert finding.sentence.endswith("Test lacks hole.")
    # As read from a file, where an empty cell is no text.
    assert mars_findings.constant_answers(tables["images"].replace("", np.nan)).sentence == finding.sentence


def test_likeness_compares_images_with_and_without_a_twin(tables):
    row = tables["likeness"].query("threshold == 0.9 and label == @GOOD")
    if row["accuracy"].isna().any():
        pytest.skip("the tiny set has images of one kind only")
    assert mars_findings.likeness(tables["likeness"], GOOD, 0.9).numbers == {"alike": 1, "unlike": 1}


def help_rows(weighted):
    """Three variants, four seeds: the weighted one better by `weighted` on validation and test."""
    noise = np.random.default_rng(0).normal(0, 0.002, (3, 4))
    means = {GOOD: 0.6, f"{GOOD}_weighted": 0.6 + weighted, f"{GOOD}_augmented": 0.59}
    return pd.DataFrame(
        {"label": label, "seed": seed, "val_accuracy_best": mean, "test_accuracy_best": mean + noise[place, seed]}
        for place, (label, mean) in enumerate(means.items())
        for seed in range(4)
    )


@pytest.mark.parametrize(("effect", "chosen"), [(0.1, f"{GOOD}_weighted"), (-0.1, GOOD)])
def test_what_helps_is_chosen_on_validation_and_compared_on_test(effect, chosen):
    choice, weighted, _ = mars_findings.help_chosen(help_rows(effect))
    assert choice.numbers["chosen"] == chosen
    assert weighted.verdict == (findings.BETTER if effect > 0 else findings.WORSE)


def test_the_readme_block_says_all_of_it_or_that_nothing_is_recorded(tables):
    text = report._mars(tables, [report.MARS_DENSE, report.MARS_CNN])
    # The constant answers, two networks' scores and recalls, and cameras, trend and frames of one.
    assert len(text.splitlines()) == 1 + 2 + 2 + 3
    assert "Mars CNN, 3x3 kernels" in text
    assert "make mars PROFILE=full" in report._mars({}, [])
