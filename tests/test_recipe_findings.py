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
    METRIC,
    SIDE_BY_SIDE,
    VALIDATION,
    effects,
    frontier,
    measured,
    named,
    side_by_side,
    time_column,
    with_yardsticks,
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
    "to_74": (0.75, 20.0, 0),
    "to_93": (0.915, 200.0, 0),
    "to_94": (0.945, 700.0, 0),
}


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
                    "seconds_training": seconds * (1 + 0.01 * seed) * (0.5 if label == "to_93" else 0.8),
                    "cpu_seconds": (2 if label == "published" else 3) * seconds * (1 + 0.01 * seed),
                    "parameters": 1000, "training_flops": 4e14, "precision": "mixed_bfloat16",
                }
            )  # fmt: skip
    return pd.DataFrame(found)


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


def test_each_change_ends_in_its_own_verdict():
    training, gain, nothing, loss, alone = recipe_findings.each_change(effects(rows()))
    assert "the lab's training in place of the published code's, with the assignment's CNN" in training.sentence
    assert "1.20 times the processor time" in training.sentence
    assert gain.verdict == "better"
    assert gain.sentence.startswith(
        "The gain from batch normalisation, on top of the steps before it, is 2.00 percentage"
    )
    assert "after Holm for 3 changes" in gain.sentence
    assert nothing.verdict == "no difference detectable at n = 5"
    assert "the smallest that could have been seen" in nothing.sentence
    assert loss.verdict == "worse"
    assert loss.sentence.startswith("The loss from three blocks of two convolutions")
    assert "2.64 times the processor time" in loss.sentence
    assert "alone, on the assignment's CNN" in alone.sentence
    assert "Holm" not in alone.sentence, "one change needs no correction"


def test_the_table_of_changes_says_what_the_sentences_say():
    table = recipe_findings.change_table(effects(rows())).set_index("Change")
    assert list(table["Difference"]) == ["gain", "not detectable", "loss", "gain"]
    assert table.loc["batch normalisation", "Test accuracy, percentage points"] == "+2.00"
    assert table.loc["batch normalisation", "p, after Holm"].startswith("< 0.001")
    assert table.loc["three blocks of two convolutions", "Times the processor time"] == "2.64"
    once = recipe_findings.change_table(effects(rows(seeds=1)))
    assert set(once["95% interval"]) == {"one run"}
    assert set(once["Difference"]) == set(once["p, after Holm"]) == {""}


def test_one_seed_is_no_conclusion():
    first, *_ = recipe_findings.each_change(effects(rows(seeds=1)))
    assert first.verdict == "no difference detectable at n = 1"
    assert first.sentence.startswith("One run has no interval")
    assert "no interval" in str(recipe_findings.walk(rows(seeds=1)))


def test_the_walk_says_where_it_begins_and_ends_and_what_shows_nothing():
    finding = recipe_findings.walk(rows())
    assert "goes from 74.0%" in finding.sentence
    assert "to 75.0%" in finding.sentence
    assert "in 3 steps: +1.00 percentage points (95% interval " in finding.sentence
    assert "The largest step is batch normalisation (+2.00)" in finding.sentence
    assert finding.sentence.endswith("No difference is detectable for flip and translate.")
    assert finding.verdict == "better"


@pytest.mark.parametrize(
    ("label", "reached", "words"),
    [
        ("to_74", True, "74.44% in at most a quarter of the published code's 10 epochs, is reached"),
        ("to_93", False, "accuracy is too low"),
        ("to_94", False, "it takes too long"),
    ],
)
def test_targets_are_held_against_both_limits(label, reached, words):
    finding = recipe_findings.target(rows(first=1), label)
    assert finding.numbers["reached"] is reached
    assert words in finding.sentence
    assert f"{1.5 * finding.numbers['yardsticks']:.2f} yardsticks of processor time" in finding.sentence


def test_a_target_without_a_yardstick_is_open():
    frame = rows({label: planted for label, planted in PLANTED.items() if label != "published"})
    finding = recipe_findings.target(frame, "to_94")
    assert finding.numbers["reached"] is False
    assert "is open" in finding.sentence


def test_yardsticks_are_those_of_the_same_seed():
    frame = with_yardsticks(rows())
    assert frame.loc[frame["label"] == "published", "yardsticks"].tolist() == [1.0] * SEEDS
    assert frame.loc[frame["label"] == "to_93", "yardsticks"].to_numpy() == pytest.approx(2.0)


def test_the_frontier_holds_what_nothing_quicker_beats():
    assert frontier(rows()) == ["to_74", "only_flip", "to_93", "to_94"]
    assert "the recipe for 94% (95.5%, 7.00 yardsticks, n = 5)" in str(recipe_findings.best_frontier(rows()))


def test_the_frontier_is_of_the_time_that_is_told():
    slower_machine = rows().assign(seconds=lambda frame: frame["seconds"] * (1 + 9 * (frame["seed"] > 0)))
    beaten = slower_machine["label"].eq("only_flip") & slower_machine["seed"].gt(0)
    frame = with_yardsticks(slower_machine[~beaten])
    assert frame.groupby("label")["seconds"].median().idxmin() == "only_flip", "only it ran on the quick machine alone"
    assert frontier(frame) == frontier(with_yardsticks(rows()))


def test_times_measured_side_by_side_come_before_those_of_different_machines():
    steps = {label: [9.0, 10.0, 30.0] for label in PLANTED} | {"published": [100.0], "to_74": [20.0]}
    frame = side_by_side(with_yardsticks(rows()), steps)
    assert time_column(frame) == SIDE_BY_SIDE
    found = frame.groupby("label")[SIDE_BY_SIDE].agg(["min", "max"])
    assert (found["min"] == found["max"]).all(), "whatever a seed's machine took"
    # The median of the rounds, and what a training takes beside its steps: half of it, elsewhere a fifth.
    assert found.loc["to_93", "min"] == pytest.approx(10 / 0.5)
    said = str(recipe_findings.best_frontier(rows(), steps))
    assert "fastest first: the recipe for 94% (95.5%, 12 s, n = 5)." in said, "as quick as others, and better"
    assert "measured side by side on one machine, where the published code's 10 epochs take 2.1 min" in said
    assert "side by side (seconds" in report.recipe_figures(rows(), steps)["recipe_frontier"].axes[0].get_xlabel()


@pytest.mark.parametrize("unmeasured", ["to_94", "published", "batch_norm"])
def test_a_recipe_that_was_not_measured_side_by_side_leaves_all_with_their_own_times(unmeasured):
    some = {label: [10.0] for label in PLANTED if label != unmeasured}
    assert time_column(side_by_side(with_yardsticks(rows()), some)) == "yardsticks"
    assert str(recipe_findings.best_frontier(rows(), some)) == str(recipe_findings.best_frontier(rows()))


def test_ratios_of_times_are_taken_round_by_round():
    slow_hour = {label: [10.0, 100.0, 10.0] for label in PLANTED} | {"batch_norm": [20.0, 210.0, 19.0]}
    table = recipe_findings.change_table(effects(rows()), slow_hour)
    heading = "Times the training time, side by side (range over rounds)"
    assert table.set_index("Change").loc["batch normalisation", heading] == "2.00 (1.90 to 2.10)"
    del slow_hour["blocks"]
    assert "Times the processor time" in recipe_findings.change_table(effects(rows()), slow_hour)


def test_the_parts_of_the_walk_add_up_to_it():
    found = recipe_findings.parts_of_walk(rows())
    parts = {"the network's form": 0.01, "augmentation": 0.0, "more training": 0.0, "all the rest": 0.0}
    assert found.numbers == pytest.approx(parts)
    assert "the network's form by +1.00 percentage points (95% interval" in found.sentence
    assert "Most is the network's form." in found.sentence
    assert "one seed" in str(recipe_findings.parts_of_walk(rows(seeds=1)))


def test_tables_name_recipes_in_words_and_every_recipe_has_words_of_its_own():
    assert set(named(rows())["label"]) >= {"the published code", "+ batch normalisation", "only flip"}
    assert len(set(NAMES.values())) == len(NAMES) == len(RECIPES)


def test_a_target_is_not_called_reached_with_fewer_seeds_than_it_asks_for():
    frame = rows({label: PLANTED[label] for label in ("published", "to_74")}, first=1)
    assert recipe_findings.target(frame, "to_74").numbers["reached"]
    finding = recipe_findings.target(frame[frame["seed"] < SEEDS], "to_74")
    assert not finding.numbers["reached"]
    assert finding.sentence.endswith("is reached, for now: it asks for the mean of 5 seeds.")


def test_seeds_with_which_earlier_forms_were_scored_do_not_count_for_a_target():
    frame = rows({label: PLANTED[label] for label in ("published", "to_74")}, seeds=SEEDS)
    frame.loc[frame["seed"] == 0, AUGMENTED] = 1.0
    others = frame[frame["seed"] > 0]
    with_it, without = (recipe_findings.target(rows, "to_74") for rows in (frame, others))
    assert with_it.numbers == without.numbers
    assert not with_it.numbers["reached"], "five seeds, but four of them new"
    aside = f"is left out: with it {100 * frame.loc[frame['label'] == 'to_74', AUGMENTED].mean():.1f}%;"
    assert f"n = 4 seeds; seed 0, with which earlier forms were scored, {aside}" in with_it.sentence
    alone = recipe_findings.target(frame[frame["seed"] == 0], "to_74")
    assert "; seed 0, with which earlier forms were scored, is all there is;" in alone.sentence


def test_test_time_augmentation_is_reported_apart():
    finding = recipe_findings.test_time_augmentation(rows(), "to_94")
    assert finding.verdict == "better"
    assert "adds 1.00 percentage points" in finding.sentence
    assert "all answers together take 5.0% of its time" in finding.sentence


@pytest.mark.parametrize("gain", [0.01, -0.01])
def test_the_choice_is_made_on_validation_whatever_the_test_set_says(gain):
    frame = rows({NARROW: (0.9, 100.0, 0), "silu": (0.9 - gain, 110.0, 1)})
    frame[VALIDATION] = 0.9 + np.where(frame["label"] == "silu", gain, 0) + NOISE[frame["seed"]] / 10
    finding = recipe_findings.choice(frame)
    assert finding.numbers["chosen"] == ("silu" if gain > 0 else NARROW)
    assert f"SiLU instead of GELU {100 * gain:+.2f} percentage points (95% interval" in finding.sentence
    assert "5 seeds" in finding.sentence
    assert "not recorded yet: moving average instead of lookahead, ReLU instead of GELU, one" in finding.sentence


@pytest.mark.parametrize(("lost", "alike"), [(0.01, True), (0.03, False)])
def test_what_a_precision_costs_is_held_against_a_margin(lost, alike):
    finding = recipe_findings.precision(rows({"assignment": (0.74 - lost, 80.0, 0), "float32": (0.74, 80.0, 1)}))
    assert finding.numbers["alike"] is alike
    assert ("shows that it stays" in finding.sentence) is alike
    assert f"mixed_bfloat16 instead of float32 the assignment's CNN changes by {-100 * lost:+.2f}" in finding.sentence
    once = recipe_findings.precision(rows({"assignment": (0.74, 80.0, 0), "float32": (0.74, 80.0, 1)}, seeds=1))
    assert not once.numbers["alike"], "one seed shows nothing"


def test_coverage_counts_what_is_recorded_and_what_has_all_its_seeds():
    frame = pd.concat([rows(seeds=2), rows({"to_93": PLANTED["to_93"]}, seeds=3)]).drop_duplicates(["label", "seed"])
    finding = recipe_findings.coverage(frame)
    assert finding.numbers == {"recipes": len(RECIPES), "recorded": len(PLANTED), "whole": 1}


def test_the_end_of_the_walk_stands_beside_what_airbench_is_published_with():
    finding = recipe_findings.against_airbench(rows(first=1))
    assert "94.01% at 0.36 PFLOP; the recipe for 94% has 95.5% (95% interval" in finding.sentence
    assert "at 0.40 PFLOP" in finding.sentence


def test_seeds_of_a_step_that_lie_far_apart_are_said():
    frame = rows()
    assert "apart" not in str(recipe_findings.walk(frame))
    assert "No difference is detectable for any single step." in str(recipe_findings.walk(rows(seeds=2)))
    frame.loc[(frame["label"] == "flip_translate") & (frame["seed"] == 1), METRIC] = 0.555
    said = str(recipe_findings.walk(frame))
    assert "Seeds lie more than 5.00 percentage points apart in the walk up to flip and translate (55.5% to 76." in said
    assert "from the walk up to batch normalisation to the walk up to three blocks of two convolutions, it is -" in said
    frame.loc[(frame["label"] == "blocks") & (frame["seed"] == 1), METRIC] = 0.555
    assert str(recipe_findings.walk(frame)).endswith("say little by themselves."), "there is no step after it"


def test_the_summary_says_all_that_the_frame_allows_and_no_more():
    whole = [str(finding) for finding in recipe_findings.recipe_findings(rows())]
    assert len(whole) == 1 + 2 + 1 + 1 + 3 + 1 + 1, (
        "coverage, walk, parts, training, augmentation, targets, airbench, frontier; there is no narrow recipe"
    )
    two = rows({label: PLANTED[label] for label in ("assignment", "only_flip")})
    assert len(recipe_findings.recipe_findings(two)) == 2, "coverage and the frontier; the change is in the table"
    endings = rows({label: PLANTED[label] for label in ("published", "to_93")})
    assert len(recipe_findings.recipe_findings(endings)) == 3, "coverage, one target and the frontier"


def test_of_a_study_that_has_begun_what_can_be_drawn_is_drawn():
    figures = report.recipe_figures(rows({label: PLANTED[label] for label in ("published", "to_93")}))
    assert list(figures) == ["recipe_frontier"]
    assert list(report.recipe_figures(rows())) == ["recipe_frontier", "recipe_waterfall"]


@pytest.mark.parametrize("call", [effects, recipe_findings.walk, recipe_findings.choice])
def test_a_frame_that_cannot_answer_is_refused(call):
    with pytest.raises(ValueError, match="run the study first"):
        call(rows({"to_94": PLANTED["to_94"]}))


def test_the_frontier_figure_draws_every_recipe_and_names_the_walk():
    frame = with_yardsticks(rows())
    figure = recipe_frontier(frame, NAMED, AUGMENTED, "yardsticks", list(TARGETS), TARGETS, NAMES)
    axis, key = figure.axes
    assert axis.get_xscale() == "log"
    places = np.array([point for line in axis.lines for point in line.get_xydata()])
    means = frame.groupby("label")[AUGMENTED].mean()
    times = frame.groupby("label")["yardsticks"].mean()
    for label in means.index:
        assert np.isclose(places, (times[label], means[label])).all(axis=1).any(), label
    named = key.texts[0].get_text()
    assert "\u20070  the assignment's CNN" in named
    assert {"74.44% in 0.25", "93% in 3", "94% in 6"} <= {text.get_text() for text in axis.texts}
    assert "recipe for 94%" in named
    assert "published" in axis.get_xlabel()
    numbers = [text for text in axis.texts if text.get_text().isdecimal()]
    assert len(numbers) == len([label for label in means.index if label in (*NAMED, *TARGETS, *frontier(frame))])
    boxes = [text.get_window_extent() for text in numbers]
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])
    in_seconds = recipe_frontier(rows(), NAMED, AUGMENTED)
    assert "seconds" in in_seconds.axes[0].get_xlabel()


def test_seeds_that_a_step_of_the_walk_lacks_do_not_count_in_the_walk():
    complete, both = rows(seeds=1), rows(seeds=2)
    begun = pd.concat([complete, both[(both["seed"] == 1) & (both["label"] == "assignment")]])
    assert str(recipe_findings.walk(begun)) == str(recipe_findings.walk(complete))
    assert "No difference is detectable for" not in str(recipe_findings.walk(begun))


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
