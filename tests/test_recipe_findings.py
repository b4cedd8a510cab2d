"""What the recipes are worth: differences, sentences with each verdict, and the figures' data."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cnnlab import report
from cnnlab.figures.recipes import recipe_frontier, recipe_waterfall
from cnnlab.findings import recipes as recipe_findings
from cnnlab.measures.ablation import (
    AUGMENTED,
    BASELINE_TIMES,
    METRIC,
    VALIDATION,
    baseline_times,
    effects,
    frontier,
    measured,
    named,
    time_column,
    with_baseline_times,
)
from cnnlab.measures.stats import t_interval
from cnnlab.studies import NAMES, NARROW, RECIPES, TARGETS, WALK

SEEDS = 5
NOISE = np.array([-0.002, 0.001, 0.0, 0.002, -0.001])
# Label: (accuracy, seconds, how its noise differs from the others').
PLANTED = {
    "published": (0.72, 100.0, 0),
    "assignment": (0.74, 80.0, 0),
    "batch_norm": (0.76, 90.0, 1),
    "flip_translate": (0.76, 91.0, 2),
    "blocks": (0.75, 240.0, 3),
    "only_flip": (0.77, 82.0, 1),
    "to_74": (0.75, 10.0, 0),
    "to_93": (0.915, 100.0, 0),
    "to_94": (0.945, 300.0, 0),
}
# What a training has beside its steps: a fifth of it, in one recipe half.
OF_STEPS = dict.fromkeys(PLANTED, 0.8) | {"to_93": 0.5}
# Seconds of the steps in three rounds of turns.
TURNS = {label: [OF_STEPS[label] * planted[1] * pace for pace in (1, 3, 1)] for label, planted in PLANTED.items()}

NAMED = [recipe.label for recipe in WALK]


def rows(planted=PLANTED, seeds=SEEDS, first=0):
    found = []
    for label, (accuracy, seconds, turn) in planted.items():
        noise = NOISE + 0.3 * np.roll(NOISE, turn)
        for seed in range(seeds):
            plain = accuracy + noise[seed]
            found.append(
                {
                    "label": label, "seed": first + seed, METRIC: plain, AUGMENTED: plain + 0.01 + noise[seed] / 10,
                    VALIDATION: plain,
                    "seconds": seconds * (1 + 0.01 * seed), "seconds_tta": seconds * (1 + 0.01 * seed) / 20,
                    "seconds_training": seconds * (1 + 0.01 * seed) * OF_STEPS.get(label, 0.8),
                    "cpu_seconds": (2 if label == "published" else 3) * seconds * (1 + 0.01 * seed),
                    "parameters": 1000, "training_flops": 4e14, "precision": "mixed_bfloat16",
                }
            )  # fmt: skip
    return pd.DataFrame(found)


def drawn(frame, seconds=None):
    """{name: figure} of what the report draws of `frame`, rows of the recipe study."""
    record = report.Record(frames={"recipe": frame})
    record.recipe_seconds = seconds
    of_recipes = (report.CHAPTERS[name] for name in ("recipe", "recipe_changes"))
    found = [(chapter, chapter.of(record)) for chapter in of_recipes]
    return {name: draw(each) for chapter, each in found if each is not None for name, draw in chapter.figures.items()}


def test_effects_are_paired_and_corrected_within_their_kind():
    frame = rows()
    table = effects(frame)
    assert list(table["kind"]) == ["training"] + ["walk"] * 3 + ["alone"]
    table = table.set_index("first").drop("assignment")
    values = frame.pivot(index="seed", columns="label", values=METRIC)
    p_values = {}
    for later, earlier in (
        ("batch_norm", "assignment"),
        ("flip_translate", "batch_norm"),
        ("blocks", "flip_translate"),
    ):
        difference = values[later] - values[earlier]
        p_values[later] = stats.ttest_rel(values[later], values[earlier]).pvalue
        interval = t_interval(difference)
        assert table.loc[later, "mean"] == pytest.approx(difference.mean())
        assert tuple(table.loc[later, ["low", "high"]]) == pytest.approx((interval.low, interval.high))
    smallest = min(p_values, key=p_values.get)
    assert table.loc[smallest, "p_holm"] == pytest.approx(3 * p_values[smallest])
    assert table.loc["only_flip", "p_holm"] == pytest.approx(
        stats.ttest_rel(values["only_flip"], values["assignment"]).pvalue
    )
    assert list(table["differs"]) == [True, False, True, True]
    assert table.loc["blocks", "times"] == pytest.approx(240 / 91)


@pytest.mark.parametrize("frame", [pd.DataFrame(), rows({"to_74": PLANTED["to_74"]})])
def test_where_no_two_recipes_can_be_compared_it_says_what_to_do(frame):
    assert measured(frame) == []
    with pytest.raises(ValueError, match="no two recipes of one contrast and one seed; run the study first"):
        effects(frame)


def test_the_table_of_changes_has_their_worth_and_their_time():
    table = recipe_findings.change_table(effects(rows())).set_index("Change")
    assert table.loc["batch normalisation", "Test accuracy, points"] == "+2.00"
    assert table.loc["batch normalisation", "95% interval"].startswith("+1.")
    assert table.loc["three blocks of two convolutions", "Times the processor time"] == "2.64"
    assert list(table["Where"])[0] == "the assignment's CNN"
    once = recipe_findings.change_table(effects(rows(seeds=1)))
    assert set(once["95% interval"]) == {"one run"}


def test_one_seed_is_no_conclusion():
    found = recipe_findings.cumulative(rows(seeds=1))
    assert found.verdict == "cannot tell"
    assert set(found.numbers["verdicts"]) == {"cannot tell"}


def test_the_cumulative_ablation_says_where_it_begins_and_ends():
    finding = recipe_findings.cumulative(rows())
    assert finding.verdict == "better"
    assert (finding.numbers["start"], finding.numbers["end"]) == pytest.approx((0.74, 0.75))
    assert finding.numbers["verdicts"] == ["better", "same", "worse"]
    assert finding.numbers["largest"] == "batch_norm"
    assert finding.sentence.startswith("3 cumulative changes take the assignment's CNN from 74.0% to 75.0%; ")


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


def test_the_frontier_holds_what_nothing_quicker_beats():
    assert frontier(rows()) == ["to_74", "only_flip", "to_93", "to_94"]
    table = recipe_findings.frontier_table(rows(), TURNS)
    assert table.iloc[-1].tolist()[0::2] == ["the recipe for 94%", "3.00 baseline times"]
    assert len(table) == 4


def test_times_measured_side_by_side_come_before_those_of_different_machines():
    steps = {label: [9.0, 10.0, 30.0] for label in PLANTED} | {"published": [100.0] * 3, "to_74": [20.0] * 3}
    frame = with_baseline_times(rows(), steps)
    assert time_column(frame) == BASELINE_TIMES
    found = frame.groupby("label")[BASELINE_TIMES].agg(["min", "max"])
    assert (found["min"] == found["max"]).all(), "whatever a seed's machine took"
    # The median of the rounds, and what a training takes beside its steps: half of it, elsewhere a fifth.
    assert found.loc["to_93", "min"] == pytest.approx(10 / 0.5 / (100 / 0.8))
    table = recipe_findings.frontier_table(rows(), steps)
    assert table[["Recipe", "Time of a training"]].to_numpy().tolist() == [
        ["the recipe for 94%", "0.10 baseline times"]
    ], "as quick as others, and better"
    assert "side by side" in drawn(rows(), steps)["recipe_frontier"].axes[0].get_xlabel()


@pytest.mark.parametrize("unmeasured", ["to_94", "published", "batch_norm"])
def test_a_recipe_that_was_not_measured_side_by_side_leaves_all_with_their_own_times(unmeasured):
    some = {label: [10.0] for label in PLANTED if label != unmeasured}
    assert time_column(with_baseline_times(rows(), some)) == "seconds"
    pd.testing.assert_frame_equal(recipe_findings.frontier_table(rows(), some), recipe_findings.frontier_table(rows()))


def test_ratios_of_times_are_taken_round_by_round():
    slow_hour = {label: [10.0, 100.0, 10.0] for label in PLANTED} | {"batch_norm": [20.0, 210.0, 19.0]}
    table = recipe_findings.change_table(effects(rows()), slow_hour)
    heading = "Times the training time, side by side (range over rounds)"
    assert table.set_index("Change").loc["batch normalisation", heading] == "2.00 (1.90 to 2.10)"
    del slow_hour["blocks"]
    assert "Times the processor time" in recipe_findings.change_table(effects(rows()), slow_hour)


def test_tables_name_recipes_in_words_and_every_recipe_has_words_of_its_own():
    assert set(named(rows())["label"]) >= {"the published code", "+ batch normalisation", "only flip"}
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
    assert finding.sentence == "Test-time augmentation adds 1.0 points to the recipe for 94%, for 5.0% of its time."
    assert finding.numbers["time_share"] == pytest.approx(0.05)


@pytest.mark.parametrize("gain", [0.01, -0.01])
def test_the_choice_is_made_on_validation_whatever_the_test_set_says(gain):
    frame = rows({NARROW: (0.9, 100.0, 0), "silu": (0.9 - gain, 110.0, 1)})
    frame[VALIDATION] = 0.9 + np.where(frame["label"] == "silu", gain, 0) + NOISE[frame["seed"]] / 10
    finding = recipe_findings.choice(frame)
    assert finding.numbers["chosen"] == ("silu" if gain > 0 else NARROW)
    assert finding.numbers["silu"] == pytest.approx(gain)
    assert finding.verdict == ("better" if gain > 0 else "worse")


@pytest.mark.parametrize(("lost", "verdict"), [(0.004, "same"), (0.03, "worse"), (-0.03, "better")])
def test_what_a_precision_costs_is_held_against_a_margin(lost, verdict):
    finding = recipe_findings.precision(rows({"assignment": (0.74 - lost, 80.0, 0), "float32": (0.74, 80.0, 1)}))
    assert finding.verdict == verdict
    assert finding.numbers["mean"] == pytest.approx(-lost)
    once = recipe_findings.precision(rows({"assignment": (0.74, 80.0, 0), "float32": (0.74, 80.0, 1)}, seeds=1))
    assert once.verdict == "cannot tell", "one seed shows nothing"


@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.long), SEEDS])
@pytest.mark.parametrize("effect", [0.0, 0.004, 0.06, -0.06])
def test_no_form_of_a_sentence_is_too_long(effect, seeds):
    """A Finding that says too much is a ValueError: here is every recipe, in every order of accuracy and time."""
    for seconds in (1, 1000):
        turns = enumerate(NAMES)
        planted = {label: (0.7 + effect * (turn % 3), 50.0 + seconds * turn, turn) for turn, label in turns}
        frame = rows(planted, seeds=seeds, first=1)
        recipe_findings.recipe_findings(frame)
        for label in (*TARGETS, NARROW, WALK[-1].label):
            recipe_findings.test_time_augmentation(frame.assign(**{AUGMENTED: frame[METRIC] + effect}), label)
    for accuracy, time in ((0.99, 1.0), (0.99, 5000.0), (0.5, 1.0), (0.5, 5000.0)):
        planted = {"published": (0.7, 100.0, 0)} | dict.fromkeys(TARGETS, (accuracy, time, 0))
        for turns in (None, {"published": [100.0]} | dict.fromkeys(TARGETS, [time])):
            assert len(recipe_findings.targets(rows(planted, seeds=seeds), turns)) == len(TARGETS)


def test_the_summary_says_all_that_the_frame_allows_and_no_more():
    assert len(recipe_findings.recipe_findings(rows())) == 1, "the cumulative ablation; there is no narrow recipe"
    two = rows({label: PLANTED[label] for label in ("assignment", "only_flip")})
    assert recipe_findings.recipe_findings(two) == [], "the change is in the table"


def test_of_a_study_that_has_begun_what_can_be_drawn_is_drawn():
    assert list(drawn(rows({label: PLANTED[label] for label in ("published", "to_93")}))) == ["recipe_frontier"]
    assert list(drawn(rows())) == ["recipe_frontier", "recipe_waterfall"]


@pytest.mark.parametrize("call", [effects, recipe_findings.cumulative, recipe_findings.choice])
def test_a_frame_that_cannot_answer_is_refused(call):
    with pytest.raises(ValueError, match="run the study first"):
        call(rows({"to_94": PLANTED["to_94"]}))


def test_the_frontier_figure_draws_every_recipe_and_names_some():
    frame, some = with_baseline_times(rows(), TURNS), {label: NAMES[label] for label in ("published", *TARGETS)}
    axis = recipe_frontier(frame, some, AUGMENTED, BASELINE_TIMES, TARGETS).axes[0]
    places = np.array([point for line in axis.lines for point in line.get_xydata()])
    means = frame.groupby("label")[AUGMENTED].mean()
    times = frame.groupby("label")[BASELINE_TIMES].mean()
    for label in means.index:
        assert np.isclose(places, (times[label], means[label])).all(axis=1).any(), label
    for share, limit in TARGETS.values():
        assert np.isclose(places, (limit, share)).all(axis=1).any()
    assert axis.get_xscale() == axis.get_yscale() == "linear"
    names = [text for text in axis.texts if text.get_text()]
    assert {text.get_text().replace("\n", " ") for text in names} == set(some.values())
    boxes = [text.get_window_extent() for text in names]
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])
    in_seconds = recipe_frontier(rows(), some, AUGMENTED)
    assert "seconds" in in_seconds.axes[0].get_xlabel()


def test_seeds_that_a_step_lacks_do_not_count_in_the_cumulative_ablation():
    complete, both = rows(seeds=1), rows(seeds=2)
    begun = pd.concat([complete, both[(both["seed"] == 1) & (both["label"] == "assignment")]])
    assert recipe_findings.cumulative(begun).numbers == recipe_findings.cumulative(complete).numbers


def test_the_waterfall_ends_where_the_walk_does():
    left, right = recipe_waterfall(effects(rows()), start=0.74).axes
    assert [bar.get_width() for bar in left.patches] == pytest.approx([0.02, 0.0, -0.01], abs=1e-9)
    assert [text.get_text() for text in left.texts][-1] == "75.0%"
    assert left.get_xlim()[0] < min(bar.get_x() for bar in left.patches), "no bar looks cut off"
    assert [label.get_text() for label in left.get_yticklabels()][:2] == ["batch normalisation", "flip and translate"]
    assert right.get_legend() is None, "the legend stands below both"
    assert len(right.containers) == 1, "the lone change is no step of this walk"


def test_an_interval_of_seeds_far_apart_does_not_press_the_others_together():
    frame = rows(seeds=2)
    frame.loc[(frame["label"] == "flip_translate") & (frame["seed"] == 1), METRIC] -= 0.2
    table = effects(frame)
    _, right = recipe_waterfall(table, start=0.74).axes
    low, high = right.get_xlim()
    assert low < table["low"].min() < -1
    assert high > table["high"].max() > 1
    places = right.transAxes.inverted().transform(right.transData.transform([(0, 0), (0.02, 0)]))
    assert places[1, 0] - places[0, 0] > 0.1, "two points of more than 200 are seen"
