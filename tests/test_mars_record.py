"""What the Mars record says: tables that survive a file, and sentences that change with them."""

import numpy as np
import pandas as pd
import pytest

from cnnlab import findings, report
from cnnlab.findings import claims as measurements
from cnnlab.findings import mars as mars_findings
from cnnlab.measures import mars_scores as mars_record

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
        by_sol = mars_record.accuracy_by_sol
        patch.setattr(mars_record, "accuracy_by_sol", lambda *of: by_sol(*of, bins=2))
        return mars_record.evaluate_mars(mars_tiny, answers)


def test_scores_stand_beside_the_baselines(tables):
    accuracy = tables["scores"].query("score == 'accuracy'").set_index("label")
    assert accuracy.loc[[BAD, GOOD], "value"].tolist() == [0, 1]
    assert accuracy.loc[[BAD, GOOD], "seeds"].tolist() == [2, 2]
    assert accuracy.loc["always rock", ["value", "seeds"]].tolist() == [0.5, 0]
    assert mars_record.NEAREST in accuracy.index
    against = tables["against"].query("score == 'accuracy'").set_index(["label", "baseline"])["difference"]
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
    paths = mars_record.write_mars(tables, tmp_path / "mars")
    assert {path.stem for path in paths} == set(tables)
    again = mars_record.read_mars(tmp_path / "mars")
    for name, table in tables.items():
        pd.testing.assert_frame_equal(again[name], table.replace("", np.nan), check_dtype=False, atol=1e-5)
    assert mars_record.read_mars(tmp_path / "nothing") == {}
    assert measurements.from_mars(tmp_path / "mars") == {"mars.images": 20, "mars.classes": 3}
    assert measurements.from_mars(tmp_path / "nothing") == {}


def test_every_network_is_held_against_the_baselines_and_the_plainer_networks(tables):
    held = tables["against"].groupby("label")["baseline"].unique()
    assert set(held[BAD]) == {"always rock", "always big wheel", mars_record.NEAREST} & set(held[BAD])
    assert set(held[GOOD]) - set(held[BAD]) == {BAD}


def test_sentences_follow_the_tables(tables):
    surely = tables["against"].assign(low=0.2, high=0.8)
    good = mars_findings.contests(surely, GOOD, baseline=BAD)
    bad = mars_findings.contests(surely.assign(low=-0.8, high=-0.2), BAD, baseline=mars_record.NEAREST)
    open_ = mars_findings.contests(surely.assign(low=-0.2), GOOD, baseline=BAD)
    assert (good.verdict, bad.verdict) == (findings.BETTER, findings.WORSE)
    assert open_.verdict == "no difference detectable at n = 5"
    assert "In accuracy, Mars CNN, 3x3 kernels is higher than always rock (+50.00, +20.00 to +80.00)" in good.sentence
    assert "in balanced accuracy, it is higher than the nearest" in good.sentence
    assert "is lower than always rock" in bad.sentence
    assert "is not detectably different from always rock" in open_.sentence
    assert mars_findings.lost_classes(tables["recalls"], GOOD).numbers == {"lost": [], "present": 2}
    assert mars_findings.lost_classes(tables["recalls"], BAD).numbers["lost"] == ["rock", "big wheel"]
    assert mars_findings.cameras(tables["cameras"], BAD).numbers["MAHLI"] == 0
    assert mars_findings.first_seen(tables["frames"], GOOD).numbers["sequences first seen here"] == 1


def test_recall_is_ranked_by_the_number_of_training_images():
    table = pd.DataFrame(
        {
            "label": GOOD, "class": list("abcd"), "images": 10, "groups": 5, "value": [0.1, 0.2, 0.3, 0.9],
            "low": 0.0, "high": 1.0, "train_images": [5, 50, 500, 5000],
        }
    )  # fmt: skip
    rising = mars_findings.lost_classes(table, GOOD)
    falling = mars_findings.lost_classes(table.assign(train_images=table["train_images"].to_numpy()[::-1]), GOOD)
    assert rising.numbers["rank_correlation"] == pytest.approx(1)
    assert falling.numbers["rank_correlation"] == pytest.approx(-1)
    assert "The highest recall is that of d: 90.0% (0.0% to 100.0%), from 10 images in 5 groups." in rising.sentence


def test_the_table_of_scores_has_every_network_and_baseline(tables):
    table = mars_findings.score_table(tables["scores"]).set_index("Answers")
    assert table.loc["Mars CNN, 3x3 kernels", "Seeds"] == 2
    assert table.loc["always rock", "Seeds"] == "none"
    assert table.loc["Mars CNN, 3x3 kernels", "Balanced accuracy"] == "100.0% (100.0% to 100.0%)"


def test_the_table_of_contests_has_a_cell_for_every_baseline_that_is_none_of_its_own(tables):
    table = mars_findings.contest_table(tables["against"]).set_index("Network")
    row = table.loc["Mars CNN, 3x3 kernels"]
    assert row["Accuracy, against always rock"].startswith("+50.00 (")
    assert row["Balanced accuracy, against Mars dense 512-256"] == "+100.00 (+100.00 to +100.00)"
    assert table.loc["Mars dense 512-256", "Balanced accuracy, against Mars dense 512-256"] == ""


@pytest.mark.parametrize(
    ("trained", "best", "words"),
    [
        ([12, 12], [5, 12], "ended 2 of 2 trainings and early stopping none; in 1 the best epoch is the last"),
        ([12, 9], [5, 3], "ended 1 of 2 trainings, early stopping the others."),
    ],
)
def test_what_ended_the_trainings_is_said(trained, best, words):
    frame = pd.DataFrame({"epochs": 12, "epochs_trained": trained, "best_epoch": best})
    assert f"The limit of 12 epochs {words}" in mars_findings.stopping(frame).sentence


def test_the_network_in_use_is_held_against_the_one_in_training():
    finding = mars_findings.in_use(0.95, 0.4, 1_000)
    assert "right on 95.0% of the training images" in finding.sentence
    assert "right on 40.0% of the first 1,000" in finding.sentence


def test_a_trend_of_nothing_is_not_detectable_and_says_what_could_have_been_seen(tables):
    finding = mars_findings.sol_trend(tables["trend"], GOOD)
    assert finding.verdict == "no difference detectable at n = 5"
    assert "the smallest that could have been seen is about 0.00 percentage points" in finding.sentence
    assert "in the mean of the 2 that both halves have" in finding.sentence
    worse = tables["trend"].assign(gap=-0.2, low=-0.3, high=-0.1)
    assert mars_findings.sol_trend(worse, GOOD).verdict == findings.WORSE


def test_constant_answers_name_what_a_split_lacks(tables):
    finding = mars_findings.constant_answers(tables["images"])
    assert finding.numbers == {"train": 0.6, "validation": 0.25, "test": 0.5}
    assert finding.sentence.endswith("Test lacks hole.")
    assert "60.0% on train (33.3%)" in finding.sentence
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
    choice, *contrasts = mars_findings.help_chosen(help_rows(effect))
    weighted = next(contrast for contrast in contrasts if "weighted" in contrast.sentence)
    assert len(contrasts) == 2
    assert ("No step has a higher validation accuracy" in choice.sentence) == (chosen == GOOD)
    assert choice.numbers["chosen"] == chosen
    assert weighted.verdict == (findings.BETTER if effect > 0 else findings.WORSE)


def test_the_readme_block_says_all_of_it_or_that_nothing_is_recorded(tables):
    text = report._mars(tables, [report.MARS_DENSE, report.MARS_CNN])
    # The constant answers, and of both networks contests, recalls, cameras, trend and frames.
    assert len([line for line in text.splitlines() if line.startswith("- ")]) == 1 + 5 * 2
    assert "| Mars CNN, 3x3 kernels | 2 |" in text
    assert "Mars CNN, 3x3 kernels" in text
    assert "make mars PROFILE=full" in report._mars({}, [])
