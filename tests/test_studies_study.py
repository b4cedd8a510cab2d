"""What the studies ask: declarations, their seeds and budgets, and that they need no Keras."""

import collections
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic
from tiny_study import STUDY

from cnnlab import data, machine, studies
from cnnlab.studies import NARROW, RECIPES, STEPS, TARGETS, WALK, WITHOUT, Study
from cnnlab.training import Trial, build, training_flops

ROOT = Path(__file__).parents[1]


def test_declarations_need_no_keras():
    code = """
import json, sys
from cnnlab import studies
names = [list(studies.STUDIES), list(studies.RECIPES), sum(len(study.runs()) for study in studies.STUDIES.values())]
print(json.dumps([*names, sorted({"keras", "tensorflow"} & set(sys.modules))]))
"""
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names, recipes, runs, loaded = json.loads(shown)
    assert names == list(studies.STUDIES)
    assert recipes == list(RECIPES)
    assert runs > 300
    assert loaded == []


def test_studies_ask_what_the_issue_asks():
    filters = studies.find_study("filters")
    assert [trial.options["filters"] for trial in filters.trials][-1] == [128, 256, 512]
    assert len({trial.epochs for trial in filters.trials}) == 1, "one number of epochs for all"
    assert [trial.options["kernel_size"] for trial in studies.find_study("kernels").trials] == [1, 3, 5, 7]
    assert {trial.options["head"] for trial in studies.find_study("filters_gap").trials} == {"gap"}
    by_size = studies.find_study("sample_size").trials
    assert len({(trial.steps_per_epoch, trial.patience, trial.keep) for trial in by_size}) == 1
    assert all(trial.patience and trial.keep == "best" for trial in by_size), "each until it stops improving"


def test_a_dense_network_at_its_best_computes_about_as_much_as_the_cnn():
    best = studies.find_study("dense_best")
    assert [trial.label for trial in best.trials][1::2] == ["dense_128_64", "cnn_32_64_128"]
    assert best.seeds == 10
    work = {}
    for trial in (studies.DENSE_BEST, studies.CNN):
        work[trial.label] = training_flops(build(trial.model, **trial.options), int(40_000 * trial.epochs))
    tuned, cnn = work.values()
    assert tuned == pytest.approx(cnn, rel=0.1)


def test_transfer_has_the_sizes_that_networks_from_nothing_have():
    sizes = {
        name: {trial.train_images for trial in studies.find_study(name).trials}
        for name in ("transfer_size", "sample_size")
    }
    assert sizes["transfer_size"] == sizes["sample_size"]


def test_every_study_is_found_by_its_name_and_a_label_stands_for_one_trial():
    for name, study in studies.STUDIES.items():
        assert study.name == name
        assert studies.find_study(name) is study
    labels = {}
    for study in studies.STUDIES.values():
        for trial in study.trials:
            known = labels.setdefault((trial.label, trial.keep), trial)
            assert known.identity == trial.identity, trial.label


def test_seeds_are_paired_and_come_one_after_another():
    runs = studies.find_study("filters").runs(2)
    assert [trial.seed for trial in runs] == [0] * 4 + [1] * 4
    assert [trial.label for trial in runs[:4]] == [trial.label for trial in runs[4:]]
    assert len(studies.find_study("baselines").runs()) == 3 * 10


def test_some_variants_have_more_seeds_where_nobody_says_how_many():
    assert [(trial.label, trial.seed) for trial in STUDY.runs()] == [
        ("cnn_2", 0), ("full", 0), ("ema", 0), ("published", 0), ("cnn_2", 1),
    ]  # fmt: skip
    assert len(STUDY.runs(3)) == 3 * 4
    with pytest.raises(ValueError, match="seeds is 0; expected at least 1"):
        STUDY.runs(0)


def test_the_recipes_are_four_studies_and_those_with_a_target_have_seeds_of_their_own():
    seeds = collections.defaultdict(set)
    for name in ("recipe", "future_work", "training", "targets"):
        for trial in studies.find_study(name).runs():
            seeds[trial.label].add(trial.seed)
    assert seeds.keys() == RECIPES.keys()
    assert [seeds[label] for label in TARGETS] == [set(range(first, first + 5)) for first in (27, 22, 37)]
    seeds = {label: len(found) for label, found in seeds.items()}
    assert {seeds[label] for label in ("assignment", "augmentation", "only_triangular", NARROW, "without_muon")} == {10}
    assert {seeds[label] for label in ("published", "float32")} == {7}
    assert {seeds[label] for label in ("width", "to_94")} == {5}


def test_two_variants_of_one_label_are_refused():
    with pytest.raises(ValueError, match="two variants with the same label"):
        Study("twice", "?", "?", "?", (Trial("a"), Trial("a", epochs=2)))


def test_what_is_misspelt_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="no study is called 'filter'; expected one of baselines, filters"):
        studies.find_study("filter")
    with pytest.raises(ValueError, match="no recipe is called 'to_99'; expected one of published, float32, assignment"):
        studies.find_recipe("to_99")


def test_each_step_changes_what_it_names_and_leaving_it_out_undoes_that():
    assert [recipe.label for recipe in WALK] == ["assignment", *(label for label, _, _ in STEPS)]
    for before, after, (_, _, changes) in zip(WALK, WALK[1:], STEPS, strict=False):
        differing = _differing(before, after)
        assert differing, after.label
        if after.model == before.model:
            assert differing <= changes.keys()
    steps = {label: changes for label, _, changes in STEPS}
    for label, step, _ in WITHOUT:
        assert _differing(RECIPES[label], RECIPES[NARROW]) == steps[step].keys() - {"batch_norm"}
    assert WALK[-1] == RECIPES["to_94"]
    assert TARGETS.keys() <= RECIPES.keys()


def _differing(one, other):
    """Names of the fields and options of two trials that differ."""
    flat = [{**trial.configuration(), **trial.options} for trial in (one, other)]
    return {name for name in flat[0] | flat[1] if name != "options" and flat[0].get(name) != flat[1].get(name)}


def test_no_recipe_stands_under_two_labels():
    known = {(recipe.identity, recipe.precision) for recipe in RECIPES.values()}
    assert len(known) == len(RECIPES)
    # The assignment's in float32 differs in nothing but that.
    assert RECIPES["float32"].identity == RECIPES["assignment"].identity


# --- budgets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["smoke", "quick"])
@pytest.mark.parametrize("study", studies.STUDIES)
def test_a_budget_limits_every_trial_and_repeats_none(name, study):
    study = studies.find_study(study)
    budget = studies.find_budget(name, study.dataset)
    small = study.within(budget)
    assert {trial.label for trial in small.trials} <= {trial.label for trial in study.trials}
    for trial in small.trials:
        assert trial.epochs <= budget.sweep_epochs
        assert trial.train_images <= budget.sweep_images
        assert trial.eval_images <= budget.eval_images
        if trial.steps_per_epoch is not None:
            assert trial.steps_per_epoch * trial.batch_size <= max(budget.sweep_images, trial.batch_size)
    known = {(trial.identity, trial.precision) for trial in small.trials}
    assert len(known) == len(small.trials)
    # Nothing is lost but what became the same as another, and what the budget has no room for.
    asked = dict.fromkeys((each.identity, each.precision) for each in (budget.limit(t, True) for t in study.trials))
    assert set(list(asked)[: budget.sweep_variants]) == known
    once = {trial.label for trial in small.trials} & {study.costliest}
    assert len(small.runs()) == budget.seeds * len(small.trials) - (budget.seeds - 1) * len(once)


def test_the_full_budget_changes_nothing():
    trial, study = Trial("any", epochs=15), studies.find_study("recipe")
    assert studies.find_budget("full").limit(trial) == trial
    assert study.within(studies.find_budget("full")) is study


def test_a_budget_never_raises_what_a_trial_asks_for():
    trial = Trial("any", epochs=0.5, train_images=7, eval_images=3, keep="last")
    assert studies.find_budget("quick").limit(trial) == trial


def test_a_budget_on_ones_own_pictures_fits_them_and_keeps_apart(monkeypatch, tmp_path):
    monkeypatch.setenv(machine.ROOT_VARIABLE, str(tmp_path))
    full, smoke = studies.find_budget("full"), studies.find_budget("smoke")
    few, many = synthetic.dataset(200, 60, 50), synthetic.dataset(4_000, 300, 400)
    for budget in (full, smoke):
        own = budget.on(few)
        assert not own.is_record
        assert own.store_folder == tmp_path / "runs" / "bars" / "results" / "trials"
        assert own.images_folder == tmp_path / "runs" / "bars" / "images"
        small = studies.study_of(["cnn_32_64_128", "cnn_32_64_128_15_epochs"]).within(own)
        assert {trial.dataset for trial in small.trials} == {"bars"}
        assert len(studies.study_of(["dense_128_64", "cnn_32_64_k3", "cnn_32_64_128"]).within(own).trials) == 3
        assert small.trials[0].steps_per_epoch == own.fewest_steps
    assert full.on(few).limit(Trial("any", epochs=15)).epochs == 15
    assert full.on(few).limit(Trial("any", batch_size=4)).steps_per_epoch is None
    limited = smoke.on(many).limit(Trial("any"))
    assert (limited.train_images, limited.eval_images, limited.steps_per_epoch) == (512, 256, None)
    limited = smoke.on(few).limit(Trial("any"))
    assert (limited.train_images, limited.eval_images) == (None, None)
    for name in data.SHAPES:
        known = dataclasses.replace(few, name={"mars": "mars-128", "mars64": "mars-64"}.get(name, name))
        assert full.on(known) is full


def test_variants_for_ones_own_pictures_are_found_by_their_labels():
    study = studies.study_of(["dense_128_64", "cnn_32_64_128", "dense_128_64"])
    assert [trial.label for trial in study.trials] == ["dense_128_64", "cnn_32_64_128"]
    assert study.trials[1] == studies.CNN
    with pytest.raises(ValueError, match="no variant is called 'cnn_3'; expected some of dense_128_64, "):
        studies.study_of(["cnn_3"])
    assert not {"cnn_32_64_128_permuted", "cnn_32_64_k3_n500", "to_93"} & studies.VARIANTS.keys()


def test_an_unknown_budget_is_refused(monkeypatch):
    monkeypatch.setenv("CNNLAB_PROFILE", "fast")
    with pytest.raises(ValueError, match="no budget is called 'fast'; expected one of full, quick, smoke"):
        studies.find_budget()


def test_every_budget_keeps_its_results_under_the_root_and_only_the_record_at_the_top(monkeypatch, tmp_path):
    monkeypatch.setenv(machine.ROOT_VARIABLE, str(tmp_path))
    monkeypatch.chdir("/")
    full, quick = studies.find_budget("full"), studies.find_budget("quick")
    assert full.store_folder == tmp_path / "results" / "trials"
    assert quick.store_folder == tmp_path / "runs" / "quick" / "results" / "trials"
    assert full.models_folder == tmp_path / "runs" / "models"
    assert studies.record_store().folder == full.store_folder
    assert dataclasses.replace(quick, name="smoke").images_folder == tmp_path / "runs" / "smoke" / "images"
