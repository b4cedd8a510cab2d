"""What is said of Mars: tables that survive a file, and sentences that change with them."""

import numpy as np
import pandas as pd
import pytest

from cnnlab import findings, report
from cnnlab.findings import mars as mars_findings
from cnnlab.measures import claims as measurements
from cnnlab.measures import mars
from cnnlab.studies import MARS_STUDIES

BAD, GOOD = mars.PLAIN_NETWORKS


@pytest.fixture(scope="module")
def answers(mars_tiny):
    """Two networks, two seeds each: one always right, one always one class too far."""
    labels = mars_tiny.split("test")[1].astype("int64")
    return {BAD: np.stack([(labels + 1) % 3] * 2), GOOD: np.stack([labels] * 2)}


@pytest.fixture(scope="module")
def tables(mars_tiny, answers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mars, "MARS_VOTES", (GOOD,))
        sure = {label: np.full(found.shape, 0.5) for label, found in answers.items()}
        unseen = mars_tiny.split("validation")[1].astype("int64")
        return mars.evaluate_mars(mars_tiny, answers, sure, {GOOD: unseen, BAD: (unseen + 1) % 3})


def test_scores_stand_beside_the_baselines(tables):
    accuracy = tables["scores"].query("score == 'accuracy'").set_index("label")
    assert accuracy.loc[[BAD, GOOD], "value"].tolist() == [0, 1]
    assert accuracy.loc[[BAD, GOOD], "seeds"].tolist() == [2, 2]
    assert accuracy.loc["always rock", ["value", "seeds"]].tolist() == [0.5, 0]
    assert mars.NEAREST in accuracy.index
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
    paths = mars.write_mars(tables, tmp_path / "mars")
    assert {path.stem for path in paths} == set(tables)
    again = mars.read_mars(tmp_path / "mars")
    for name, table in tables.items():
        pd.testing.assert_frame_equal(again[name], table.replace("", np.nan), check_dtype=False, atol=1e-5)
    assert mars.read_mars(tmp_path / "nothing") == {}
    nothing = pd.DataFrame()
    assert measurements.supplied(nothing, nothing, again) == {"mars.images": 20, "mars.classes": 3}
    assert measurements.supplied(nothing, nothing, {}) == {}


def test_every_network_is_held_against_the_baselines_and_the_plainer_networks(tables):
    held = tables["against"].groupby("label")["baseline"].unique()
    assert set(held[BAD]) == {"always rock", "always big wheel", mars.NEAREST} & set(held[BAD])
    assert set(held[GOOD]) - set(held[BAD]) == {BAD}


def test_sentences_follow_the_tables(tables):
    surely = tables["against"].assign(low=0.2, high=0.8)
    good = mars_findings.contests(surely, GOOD, baseline=BAD)
    bad = mars_findings.contests(surely.assign(low=-0.8, high=-0.2), BAD, baseline=mars.NEAREST)
    open_ = mars_findings.contests(surely.assign(low=-0.2), GOOD, baseline=BAD)
    assert (good.verdict, bad.verdict) == (findings.BETTER, findings.WORSE)
    assert open_.verdict == findings.CANNOT_TELL
    assert (good.numbers["n"], good.numbers["low"], good.numbers["high"]) == (5, 0.2, 0.8)
    assert good.sentence.startswith("The CNN with three-pixel kernels beats the dense network by ")
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
    assert rising.sentence.endswith("rare ones fare worse.") and falling.sentence.endswith("common ones fare worse.")


def test_the_table_of_scores_has_every_network_and_baseline(tables):
    table = mars_findings.score_table(tables["scores"]).set_index("Answers")
    assert table.loc["Mars CNN, 3x3 kernels", "Seeds"] == 2
    assert table.loc["always rock", "Seeds"] == "none"
    assert table.loc["Mars CNN, 3x3 kernels", "Balanced accuracy"] == "100.0% (100.0% to 100.0%)"


@pytest.mark.parametrize("label", [trial.label for study in MARS_STUDIES.values() for trial in study.trials])
@pytest.mark.parametrize("interval", [(-0.3, -0.1), (-0.2, 0.1), (-0.005, 0.005), (0.1, 0.3)])
def test_no_form_of_a_sentence_is_too_long(tables, label, interval):
    """A Finding that says too much is a ValueError: here is every form, with every network's name."""
    low, high = interval
    gaps = {f"{name}{end}": value for name in ("", "gap_", "within_") for end, value in (("low", low), ("high", high))}
    mine = {name: table.assign(label=label) if "label" in table else table for name, table in tables.items()}
    mine = {name: t.assign(**{c: v for c, v in gaps.items() if c in t}) for name, t in mine.items()}
    for score in mars_findings.SCORE_NAMES:
        mars_findings.contests(mine["against"], label, score)
    train_images = np.arange(len(mine["recalls"]))
    for recalls in (mine["recalls"], mine["recalls"].assign(train_images=train_images, value=train_images / 100)):
        mars_findings.lost_classes(recalls.drop_duplicates("class"), label)
    long_names = ("portion tube opening", "chemin inlet open", "apxs cal target", "wheel")
    recalls = pd.DataFrame({"label": label, "class": long_names, "images": 10, "value": [0.1, 0.2, 0.3, 1.0]})
    found = mars_findings.hardest_classes(recalls, label)
    assert found.numbers["share"] == 1
    assert found.sentence.startswith("Portion tube opening, chemin inlet open and apxs cal target account for 100.0%")
    assert mars_findings.hardest_classes(recalls.assign(value=1.0), label).numbers == {"missed": {}}
    mars_findings.cameras(mine["cameras"].drop_duplicates("camera"), label)
    mars_findings.sol_trend(mine["trend"], label)
    mars_findings.first_seen(mine["frames"].drop_duplicates("counted"), label)
    for name in (label, f"{label}_vote"):
        scores = scored(0.8123, 0.7654).assign(label=name)
        for of_one in (mars_findings.aims, mars_findings.against_published):
            of_one(scores, name)
    mars_findings.two_intervals(scores.assign(label=label), label)
    rival = scores.assign(label="mars_cnn_k3_weighted" if label != "mars_cnn_k3_weighted" else GOOD, value=0.5)
    mars_findings.chosen_network(pd.concat([scores.assign(label=label), rival]))


def test_every_other_table_can_be_shown(tables):
    for name in mars_findings.TABLES:
        shown = mars_findings.mars_table(name, tables[name], [GOOD])
        assert len(shown) == (tables[name]["label"] == GOOD).sum()
    camera = mars_findings.mars_table("cameras", tables["cameras"], [BAD]).iloc[0]
    assert camera["Accuracy"].startswith("0.0%")


def test_the_table_of_contests_has_a_cell_for_every_baseline_that_is_none_of_its_own(tables):
    table = mars_findings.contest_table(tables["against"]).set_index("Network")
    row = table.loc["Mars CNN, 3x3 kernels"]
    assert row["Accuracy, against always rock"].startswith("+50.00 (")
    assert row["Balanced accuracy, against Mars dense 512-256"] == "+100.00 (+100.00 to +100.00)"
    assert table.loc["Mars dense 512-256", "Balanced accuracy, against Mars dense 512-256"] == ""


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [((0.0, -0.005, 0.005), "same"), ((-0.2, -0.3, -0.1), "worse"), ((0.2, 0.1, 0.3), "better"),
     ((-0.05, -0.2, 0.1), "cannot tell")],
)  # fmt: skip
def test_a_trend_has_each_of_the_verdicts(tables, gap, verdict):
    gap, low, high = gap
    for within in (-0.2, -0.005, 0.1):
        trend = tables["trend"].assign(gap=gap, low=low, high=high, within_low=within, within_high=within + 0.01)
        assert mars_findings.sol_trend(trend, GOOD).verdict == verdict


def test_constant_answers_name_what_a_split_lacks(tables):
    finding = mars_findings.constant_answers(tables["images"])
    assert finding.numbers == {"train": 0.6, "validation": 0.25, "test": 0.5}
    assert finding.sentence.endswith("classes shift between the splits.")


def test_the_network_is_chosen_by_balanced_accuracy_on_validation_alone(tables):
    assert mars_findings.chosen_network(tables["validation"]).numbers == {"chosen": GOOD, GOOD: 1, BAD: 0}
    fewer = tables["validation"].assign(value=lambda table: (table["label"] == BAD) * 0.5)
    assert mars_findings.chosen_network(fewer).numbers["chosen"] == BAD


def test_seeds_that_agree_have_a_narrow_interval_and_a_vote_stands_beside_them(tables):
    accuracy = tables["scores"].query("score == 'accuracy'").set_index("label")
    assert accuracy.loc[GOOD, ["seed_low", "seed_high"]].tolist() == [1, 1]
    assert accuracy.loc[f"{GOOD}_vote", ["value", "seeds"]].tolist() == [1, 2]
    assert np.isnan(accuracy.loc[f"{GOOD}_vote", "seed_low"])
    order = list(dict.fromkeys(mars_findings.rungs(tables["scores"], [GOOD, BAD])["label"]))
    assert order[-3:] == [GOOD, f"{GOOD}_vote", BAD]
    assert set(order[:-3]) == {"always rock", "always big wheel", mars.NEAREST} & set(order)


def scored(accuracy, balanced, width=0.05):
    """The table `scores` of one network."""
    rows = [("accuracy", accuracy), ("balanced_accuracy", balanced), ("macro_f1", balanced)]
    table = pd.DataFrame(rows, columns=["score", "value"]).assign(label=GOOD)
    value = table["value"]
    return table.assign(low=value - width, high=value + width, seed_low=value - 0.01, seed_high=value + 0.01)


@pytest.mark.parametrize(
    ("scores", "verdict", "ends"),
    [((0.84, 0.80), "better", "both aims are met."), ((0.84, 0.7), "worse", "below the aim of 79% balanced accuracy."),
     ((0.8, 0.8), "worse", "below the aim of 83% accuracy.")],
)  # fmt: skip
def test_the_aims_are_met_together_or_the_first_that_is_missed_is_named(scores, verdict, ends):
    found = mars_findings.aims(scored(*scores), GOOD)
    assert found.verdict == verdict
    assert found.sentence.endswith(ends)


def test_published_scores_are_set_beside_an_interval_and_not_tested():
    near, far = (mars_findings.against_published(scored(value, 0.8, 0.03), GOOD) for value in (0.83, 0.9))
    assert (near.verdict, far.verdict) == (findings.CANNOT_TELL, None)
    assert far.numbers["published"] == max(accuracy for _, accuracy, _ in findings.PUBLISHED)
    assert len(findings.published_table()) == len(findings.PUBLISHED)


def test_one_sentence_has_both_intervals():
    assert mars_findings.two_intervals(scored(0.8, 0.7), GOOD).numbers == pytest.approx({"seeds": 0.01, "groups": 0.05})


def test_the_readme_block_says_all_of_it_or_that_nothing_is_recorded(tables):
    chapter, record, empty = report.CHAPTERS["mars"], report.Record(frames={}), report.Record(frames={})
    record.mars, record.mars_networks, empty.mars = tables, [BAD, GOOD], {}
    # The constant answers, and of both networks recalls twice, cameras, trend and frames.
    assert len(chapter.findings(record)) == 1 + 5 * 2
    assert any("Mars CNN, 3x3 kernels" in text for text in chapter.shown(record))
    assert "make mars PROFILE=full" in chapter.answer(empty)
