"""What the recipes are worth: differences, sentences with each verdict, and the figures' data."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cnnlab import evidence, report
from cnnlab.figures.studies import recipe_ablation, recipe_frontier
from cnnlab.findings import recipes as recipe_findings
from cnnlab.findings.tables import in_table
from cnnlab.measures.recipes import (
    AUGMENTED,
    BASELINE_TIMES,
    METRIC,
    SCORE,
    baseline_times,
    effects,
    frontier,
    scored,
    time_column,
    with_baseline_times,
)
from cnnlab.studies import NAMES, NARROW, RECIPES, STEPS, TARGETS, WALK, WITHOUT
from cnnlab.studies.recipes import ALONE

SEEDS = 5
LAST = WALK[-1].label
NOISE = np.array([-0.002, 0.001, 0.0, 0.002, -0.001])
# Label: (accuracy, seconds, how its noise differs from the others').
PLANTED = {
    "published": (0.72, 100.0, 0),
    "assignment": (0.74, 80.0, 0),
    "augmentation": (0.76, 90.0, 1),
    "blocks": (0.84, 60.0, 2),
    "muon": (0.87, 45.0, 3),
    "start": (0.88, 46.0, 4),
    "smoothing": (0.89, 46.0, 0),
    "width": (0.92, 150.0, 1),
    "without_augmentation": (0.885, 45.0, 3),
    "without_muon": (0.86, 60.0, 4),
    "without_start": (0.88, 46.0, 1),
    "to_74": (0.75, 10.0, 0),
    "to_93": (0.915, 100.0, 0),
    "to_94": (0.945, 300.0, 2),
}
# What a training has beside its steps: a fifth of it, in one recipe half.
OF_STEPS = dict.fromkeys(PLANTED, 0.8) | {"to_93": 0.5}
# Seconds of the steps in three rounds of turns.
TURNS = {label: [OF_STEPS[label] * planted[1] * pace for pace in (1, 3, 1)] for label, planted in PLANTED.items()}


def rows(planted=PLANTED, seeds=SEEDS, first=0):
    found = []
    for label, (accuracy, seconds, turn) in planted.items():
        noise = NOISE + 0.3 * np.roll(NOISE, turn)
        for seed in range(seeds):
            plain = accuracy + noise[seed]
            found.append(
                {
                    "key": f"{label}-{seed}", "label": label, "seed": first + seed + WALK[-1].seed * (label == LAST),
                    METRIC: plain, AUGMENTED: plain + 0.01 + noise[seed] / 10,
                    "seconds": seconds * (1 + 0.01 * seed), "seconds_tta": seconds * (1 + 0.01 * seed) / 20,
                    "seconds_training": seconds * (1 + 0.01 * seed) * OF_STEPS.get(label, 0.8),
                    "cpu_seconds": (2 if label == "published" else 3) * seconds * (1 + 0.01 * seed),
                    "parameters": 1000, "training_flops": 4e14, "precision": "mixed_bfloat16",
                }
            )  # fmt: skip
    return pd.DataFrame(found)


def drawn(frame, seconds=None):
    """{name: figure} of what the report draws of `frame`, rows of recipes."""
    record = report.Record(frames={"recipe": frame, "targets": frame})
    record.recipe_seconds = seconds
    of_recipes = (report.CHAPTERS[name] for name in ("recipe", "targets"))
    found = [(chapter, chapter.of(record)) for chapter in of_recipes]
    return {name: draw(each) for chapter, each in found if each is not None for name, draw in chapter.figures.items()}


def test_effects_are_paired_with_the_interval_of_their_mean():
    table = effects(rows()).set_index(["kind", "step"])
    assert [step for kind, step in table.index if kind == "on top"] == [label for label, _, _ in STEPS]
    assert [step for kind, step in table.index if kind == "left out"] == [step for _, step, _ in WITHOUT]
    values = rows().pivot(index="seed", columns="label", values=METRIC).drop(columns=LAST).dropna()
    for place, (first, second) in {
        ("on top", "augmentation"): ("augmentation", "assignment"),
        ("on top", "blocks"): ("blocks", "augmentation"),
        ("left out", "muon"): (NARROW, "without_muon"),
    }.items():
        test = stats.ttest_rel(values[first], values[second]).confidence_interval()
        row = table.loc[place]
        assert row["mean"] == pytest.approx((values[first] - values[second]).mean())
        assert (row["low"], row["high"]) == pytest.approx((test.low, test.high))
        assert (row["first"], row["second"], row["n"]) == (first, second, SEEDS)


def test_the_last_step_is_scored_from_several_views_and_the_others_from_one():
    frame = scored(rows())
    last = frame["label"] == LAST
    assert (frame.loc[last, SCORE] == frame.loc[last, AUGMENTED]).all()
    assert (frame.loc[~last, SCORE] == frame.loc[~last, METRIC]).all()


def test_the_last_step_whose_seeds_are_others_is_compared_as_independent():
    frame = rows()
    last, before = (frame[frame["label"] == label].sort_values("seed") for label in (LAST, WALK[-2].label))
    assert not set(last["seed"]) & set(before["seed"])
    expected = stats.ttest_ind(last[AUGMENTED], before[METRIC], equal_var=False).confidence_interval()
    row = effects(frame).set_index(["kind", "step"]).loc["on top", LAST]
    assert (row["low"], row["high"], row["n"]) == pytest.approx((expected.low, expected.high, SEEDS))


@pytest.mark.parametrize("frame", [pd.DataFrame(), rows({"to_74": PLANTED["to_74"]})])
def test_where_no_two_recipes_can_be_compared_it_says_what_to_do(frame):
    with pytest.raises(ValueError, match="differ by one step and share a seed; run the study first"):
        effects(frame)


def test_a_step_is_compared_on_the_seeds_that_both_networks_have():
    both = rows(seeds=2)
    begun = both[(both["seed"] == 0) | (both["label"] != "blocks")]
    found = effects(begun).set_index(["kind", "step"])["n"]
    assert (found["on top", "augmentation"], found["on top", "blocks"], found["on top", "muon"]) == (2, 1, 1)


def test_the_table_has_a_row_a_step_and_a_column_a_place():
    table = recipe_findings.change_table(effects(rows())).set_index("Step")
    on_top, left_out = table.columns
    assert table.loc["flip and translate", on_top].startswith("+2.00 (+1.")
    assert table.loc["flip and translate", left_out].startswith("+0.")
    assert table.loc["label smoothing", left_out] == ""
    once = recipe_findings.change_table(effects(rows(seeds=1)))
    assert once[on_top].str.endswith("(one run; n = 1)").all()


def test_one_seed_is_no_conclusion():
    assert {found.verdict for found in recipe_findings.recipe_findings(rows(seeds=1))} == {"cannot tell", None}


def test_the_ablation_says_where_it_begins_and_ends_and_what_counts_most():
    walk, left, twice, views = recipe_findings.recipe_findings(rows())
    assert (views.verdict, views.numbers["mean"]) == ("better", pytest.approx(0.01))
    assert walk.verdict == "better"
    assert (walk.numbers["start"], walk.numbers["end"]) == pytest.approx((0.74, 0.955))
    assert walk.numbers["largest"] == "blocks"
    assert walk.sentence.startswith("Seven steps take the assignment's CNN from 74.0% to 95.5%; ")
    assert (left.verdict, left.numbers["step"]) == ("better", "muon")
    assert (twice.numbers["step"], twice.numbers["on_top"]) == ("augmentation", pytest.approx(0.02))
    needless = {label: (0.9, 80.0, turn) for turn, label in enumerate((NARROW, "without_muon", "without_start"))}
    (alone,) = recipe_findings.recipe_findings(rows(needless))
    assert alone.verdict == "same"


@pytest.mark.parametrize(("gain", "verdict"), [(0.03, "better"), (0.0, "same"), (-0.03, "worse")])
def test_the_list_of_future_work_ends_in_what_helps_most(gain, verdict):
    planted = {"assignment": (0.74, 80.0, 0), "augmentation": (0.74 + gain, 80.0, 1), "only_lookahead": (0.70, 80.0, 2)}
    found = recipe_findings.listed(rows(planted))
    assert (found.verdict, found.numbers["label"]) == (verdict, "augmentation")
    assert found.numbers["verdicts"]["only_lookahead"] == "worse"


@pytest.mark.parametrize(
    ("label", "verdict", "words"),
    [
        ("to_74", "better", "meets its target: 76.0% in 0.10 times the published code's time."),
        ("to_93", "worse", "falls short of its target: 92.5% in 1.00 times the published code's time."),
        ("to_94", "worse", "is too slow for its target: 95.5% in 3.00 times the published code's time."),
    ],
)
def test_targets_are_held_against_both_limits(label, verdict, words):
    finding = recipe_findings.target(rows(), label, TURNS)
    assert (finding.verdict, finding.numbers["reached"]) == (verdict, verdict == "better")
    assert finding.sentence.endswith(words)
    table = recipe_findings.target_table(rows(), TURNS).set_index("Recipe")
    assert table.loc[NAMES[label], "Reached"] == ("yes" if verdict == "better" else "no")
    assert table.loc["airbench94, as published", "Test accuracy"] == "94.01%"


@pytest.mark.parametrize("missing", ["published", "to_94"])
def test_a_target_without_times_side_by_side_is_open(missing):
    turns = {label: seconds for label, seconds in TURNS.items() if label != missing}
    finding = recipe_findings.target(rows(), "to_94", turns)
    assert (finding.verdict, finding.numbers["reached"]) == ("cannot tell", False)
    table = recipe_findings.target_table(rows(), turns).set_index("Recipe")
    assert table.loc[NAMES["to_94"], "Baseline times (range over rounds)"] == ""
    assert recipe_findings.target(rows(), "to_94").verdict == "cannot tell", "nothing was measured side by side"


def test_baseline_times_are_of_one_round_and_of_whole_trainings():
    times = baseline_times(rows(), TURNS)
    assert times["published"] == pytest.approx([1.0] * 3)
    # A slow hour slows both; to_93 has as much again beside its steps.
    assert times["to_93"] == pytest.approx([1.0] * 3)
    slow = TURNS | {"to_93": [50, 200, 25]}
    assert baseline_times(rows(), slow)["to_93"] == pytest.approx([1.0, 4 / 3, 0.5])
    assert with_baseline_times(rows(), slow).groupby("label")[BASELINE_TIMES].first()["to_93"] == pytest.approx(1.0)


TIMED = rows({label: PLANTED[label] for label in evidence.TIMED})


def test_the_frontier_holds_what_nothing_quicker_beats():
    assert frontier(TIMED) == ["to_74", NARROW, "to_93", "to_94"]
    table = recipe_findings.frontier_table(with_baseline_times(TIMED, TURNS))
    assert table.iloc[-1].tolist()[0::2] == ["the recipe for 94%", "3.00 baseline times"]
    assert len(table) == 4


def test_times_measured_side_by_side_come_before_those_of_different_machines():
    steps = {label: [9.0, 10.0, 30.0] for label in PLANTED} | {"published": [100.0] * 3, "to_74": [20.0] * 3}
    frame = with_baseline_times(TIMED, steps)
    assert time_column(frame) == BASELINE_TIMES
    found = frame.groupby("label")[BASELINE_TIMES].agg(["min", "max"])
    assert (found["min"] == found["max"]).all(), "whatever a seed's machine took"
    # The median of the rounds, and what a training takes beside its steps: half of it, elsewhere a fifth.
    assert found.loc["to_93", "min"] == pytest.approx(10 / 0.5 / (100 / 0.8))
    table = recipe_findings.frontier_table(frame)
    assert table[["Recipe", "Time of a training"]].to_numpy().tolist() == [
        ["the recipe for 94%", "0.10 baseline times"]
    ], "as quick as others, and better"


def test_recipes_that_were_not_measured_side_by_side_are_not_drawn_beside_those_that_were():
    def names(turns):
        figure = drawn(rows(), turns)["recipe_frontier"]
        return figure.axes[0].get_xlabel(), len([text for text in figure.axes[0].texts if text.get_text()])

    label, count = names(TURNS)
    assert ("side by side" in label, count) == (True, len(evidence.TIMED))
    label, count = names({label: turns for label, turns in TURNS.items() if label != "to_94"})
    assert ("side by side" in label, count) == (True, len(evidence.TIMED) - 1)
    label, count = names(None)
    assert ("seconds" in label, count) == (True, len(evidence.TIMED))


def test_tables_name_recipes_in_words_and_every_recipe_has_words_of_its_own():
    assert {in_table(label) for label in rows()["label"]} >= {
        "the published code",
        "+ flip and translate",
        "+ label smoothing",
    }
    assert len(set(NAMES.values())) == len(NAMES) == len(RECIPES)


def test_a_target_is_not_called_reached_with_fewer_seeds_than_it_asks_for():
    frame = rows()
    assert recipe_findings.target(frame, "to_74", TURNS).numbers["reached"]
    finding = recipe_findings.target(frame[frame["seed"] < SEEDS - 1], "to_74", TURNS)
    assert not finding.numbers["reached"]
    assert finding.verdict == "cannot tell"


def test_test_time_augmentation_is_reported_apart():
    finding = recipe_findings.test_time_augmentation(rows(), "to_94")
    assert finding.verdict == "better"
    assert (
        finding.sentence == "Test-time augmentation adds 1.0 points to the recipe for 94%, and takes 5.0% of its time."
    )
    assert finding.numbers["time_share"] == pytest.approx(0.05)


@pytest.mark.parametrize(("lost", "verdict"), [(0.004, "same"), (0.03, "worse"), (-0.03, "better")])
def test_what_the_labs_training_and_its_precision_cost_is_held_against_a_margin(lost, verdict):
    planted = {"assignment": (0.74 - lost, 80.0, 0), "float32": (0.74, 80.0, 1), "published": (0.74, 80.0, 2)}
    for finding in recipe_findings.faithful(rows(planted)):
        assert finding.verdict == verdict
        assert finding.numbers["mean"] == pytest.approx(-lost)
    assert {found.verdict for found in recipe_findings.faithful(rows(planted, seeds=1))} == {"cannot tell"}


@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.long), SEEDS])
@pytest.mark.parametrize("effect", [0.0, 0.004, 0.06, -0.06])
def test_no_form_of_a_sentence_is_too_long(effect, seeds):
    """A Finding that says too much is a ValueError: here is every recipe, in every order of accuracy and time."""
    for seconds in (1, 1000):
        turns = enumerate(NAMES)
        planted = {label: (0.7 + effect * (turn % 3), 50.0 + seconds * turn, turn) for turn, label in turns}
        frame = rows(planted, seeds=seeds, first=1)
        recipe_findings.recipe_findings(frame)
        recipe_findings.listed(frame[frame["label"].isin(["assignment", *(label for label, _, _ in ALONE)])])
        recipe_findings.faithful(frame)
        for label in TARGETS:
            recipe_findings.test_time_augmentation(frame.assign(**{AUGMENTED: frame[METRIC] + effect}), label)
    for accuracy, time in ((0.99, 1.0), (0.99, 5000.0), (0.5, 1.0), (0.5, 5000.0)):
        planted = {"published": (0.7, 100.0, 0)} | dict.fromkeys(TARGETS, (accuracy, time, 0))
        for turns in (None, {"published": [100.0]} | dict.fromkeys(TARGETS, [time])):
            assert len(recipe_findings.targets(rows(planted, seeds=seeds), turns)) == len(TARGETS)


def test_of_a_study_that_has_begun_what_can_be_said_and_drawn_is():
    begun = rows({label: PLANTED[label] for label in ("assignment", "augmentation", "to_93")})
    assert len(recipe_findings.recipe_findings(begun)) == 1, "the cumulative ablation; there is no narrow recipe"
    assert list(drawn(begun)) == ["recipe_ablation", "recipe_frontier"]


def test_the_frontier_figure_names_every_recipe():
    frame, some = with_baseline_times(TIMED, TURNS), {label: NAMES[label] for label in evidence.TIMED}
    axis = recipe_frontier(frame, some).axes[0]
    places = np.array([point for line in axis.lines for point in line.get_xydata()])
    means = frame.groupby("label")[METRIC].mean()
    times = frame.groupby("label")[BASELINE_TIMES].mean()
    for label in means.index:
        assert np.isclose(places, (times[label], means[label])).all(axis=1).any(), label
    assert axis.get_xscale() == axis.get_yscale() == "linear"
    names = [text for text in axis.texts if text.get_text()]
    assert {text.get_text().replace("\n", " ") for text in names} == set(some.values())
    boxes = [text.get_window_extent() for text in names]
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])


def test_the_ablation_figure_ends_where_the_steps_do():
    changes, frame = effects(rows()), scored(rows())
    left, right = recipe_ablation(changes, frame, ("the assignment's CNN", "assignment")).axes
    assert [text.get_text() for text in left.texts] == [
        "74.0%",
        "76.0%",
        "84.0%",
        "87.0%",
        "88.0%",
        "89.0%",
        "92.0%",
        "95.5%",
    ]
    names = [label.get_text().replace("\n", " ") for label in left.get_yticklabels()]
    assert names[:2] == ["the assignment's CNN", "+ flip and translate"]
    assert right.get_xscale() == "linear"
    assert len(right.containers) == 2, "on top and left out"
    low, high = right.get_xlim()
    assert low < 0 < 0.08 < high
