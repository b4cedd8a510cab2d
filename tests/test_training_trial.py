"""A Trial: checked when it is declared, known by what it says, and by nothing else."""

import dataclasses
import json

import pytest

from cnnlab.training import NETWORKS, Trial, trial_key

TINY = Trial("tiny", options={"filters": [4, 8], "dense": 16}, epochs=3, batch_size=32, precision="float32")
BLOCKS = Trial(
    "blocks", model="blocks", options={"filters": [4, 8], "whitening": True, "dirac": True}, keep="last",
    precision="float32",
)  # fmt: skip
# Another value of every field that decides a result.
OTHERS = {
    "model": "cnn", "options": {"filters": [4, 9]}, "dataset": "mars", "epochs": 4, "steps_per_epoch": 2,
    "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.1, "bias_scale": 2.0,
    "schedule": "triangular", "label_smoothing": 0.1, "class_weights": True, "average": "ema", "train_split": "all",
    "train_images": 9, "eval_images": 9, "permute_pixels": 0, "flip": "random", "translate": 1, "keep": "best",
    "kernel_rate": 0.1, "kernel_momentum": 0.5, "tta_share": 0.5,
    "monitor": "val_loss", "patience": 2, "tta": 1, "loop": "published", "seed": 1, "precision": "mixed_float16",
}  # fmt: skip
# Another value of every option of a network.
OTHER_OPTIONS = {
    "dense": {"units": [4], "dropout": 0.1},
    "cnn": {
        "filters": [4], "kernel_size": 5, "padding": "valid", "pools": 1, "head": "gap", "dense": 0, "dropout": 0.1,
        "batch_norm": True,
    },
    "blocks": {
        "filters": [4], "depth": 1, "batch_norm": False, "activation": "silu", "whitening": True, "dirac": True,
    },
    "layers": {"layers": [{"class_name": "Flatten", "config": {}}] * 2, "shape": [8, 8, 3]},
    "probe": {"sizes": [96], "mirrored": True, "strengths": [0.01]},
    "lite0": {"blocks": 2, "dropout": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_every_field_but_the_label_changes_the_key(name):
    # No network has the options of another.
    changes = {name: OTHERS[name]} | ({"options": {}} if name == "model" else {})
    # The first of the bases that the value can be combined with.
    for base in (BLOCKS, dataclasses.replace(BLOCKS, optimizer="muon", tta=2), TINY, Trial("published", keep="last")):
        try:
            changed = dataclasses.replace(base, **changes)
        except ValueError:
            continue
        assert trial_key(changed) != trial_key(base)
        assert (changed.identity != base.identity) == (name != "precision")
        return
    pytest.fail("it was never changed")


def test_no_field_is_left_out_here_and_the_label_decides_nothing():
    assert OTHERS.keys() == BLOCKS.configuration().keys()
    renamed = dataclasses.replace(BLOCKS, label="another")
    assert (trial_key(renamed), renamed.identity) == (trial_key(BLOCKS), BLOCKS.identity)


@pytest.mark.parametrize("model", NETWORKS)
def test_every_option_changes_the_key(model):
    others = OTHER_OPTIONS[model]
    assert set(others) == {field.name for field in dataclasses.fields(NETWORKS[model])}
    base = {"layers": [{"class_name": "Flatten", "config": {}}]} if model == "layers" else {}
    keys = {trial_key(Trial("any", model=model, options=base | {name: value})) for name, value in others.items()}
    assert len(keys | {trial_key(Trial("any", model=model, options=base))}) == 1 + len(others)


def test_other_trials_have_other_keys():
    changes = [{"seed": 1}, {"epochs": 4}, {"options": {"filters": [4]}}, {"permute_pixels": 0}]
    changes += [{"precision": "mixed_bfloat16"}, {"flip": "random"}, {"train_images": 9}]
    keys = {trial_key(dataclasses.replace(TINY, **change)) for change in changes}
    assert len(keys | {trial_key(TINY)}) == 1 + len(changes)


def test_defaults_spelled_out_are_the_same_trial():
    spelled = Trial("other", model="cnn", options={"filters": (4, 8), "dense": 16, "kernel_size": 3, "pools": None},
                    epochs=3.0, batch_size=32, precision="float32")  # fmt: skip
    assert spelled.identity == TINY.identity
    assert trial_key(spelled) == trial_key(TINY)


def test_a_configuration_is_json_and_makes_the_trial_again():
    assert Trial("tiny", **json.loads(json.dumps(TINY.configuration()))) == TINY


def test_another_version_of_the_data_is_another_key():
    assert len({trial_key(TINY), trial_key(TINY, "one"), trial_key(TINY, "two")}) == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 0}, "epochs is 0; expected greater than 0"),
        ({"epochs": float("inf")}, "epochs is inf; expected a finite number"),
        ({"seed": -1}, "seed is -1; expected greater than or equal to 0"),
        ({"seed": True}, "seed is True; expected a valid integer"),
        ({"batch_size": 0}, "batch_size is 0; expected greater than or equal to 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5; expected a valid integer"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; expected greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; expected a finite number"),
        ({"momentum": 1.0}, "momentum is 1.0; expected less than 1"),
        ({"weight_decay": -1}, "weight_decay is -1; expected greater than or equal to 0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; expected less than 1"),
        ({"optimizer": "adma"}, "optimizer is 'adma'; expected 'adam', 'sgd' or 'muon'"),
        ({"monitor": "loss"}, "monitor is 'loss'; expected 'val_accuracy' or 'val_loss'"),
        ({"flip": "always"}, "flip is 'always'; expected 'none', 'random' or 'alternating'"),
        ({"translate": -1}, "translate is -1; expected greater than or equal to 0"),
        ({"tta": 3}, "tta is 3; expected 0, 1 or 2"),
        ({"train_images": 0}, "train_images is 0; expected greater than or equal to 1"),
        ({"patience": 0}, "patience is 0; expected greater than or equal to 1"),
        ({"options": {"filters": ()}}, "filters is ()"),
        ({"model": "lite0", "options": {"blocks": 17}}, "blocks is 17; expected less than or equal to 16"),
        ({"model": "probe", "options": {"sizes": []}}, "sizes is []"),
        ({"options": {"filters": [8, 0]}}, "filters.1 is 0; expected greater than or equal to 1"),
        ({"options": {"filtres": [8]}}, "CNN has no field 'filtres'; expected one of filters, kernel_size, "),
        ({"options": {"dirac": True}}, "CNN has no field 'dirac'"),
        ({"epoch": 3}, "Trial has no field 'epoch'; expected one of label, model, "),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_one_line(changes, reason):
    with pytest.raises(ValueError) as refused:
        Trial(**{"label": "any", **changes})
    assert str(refused.value).startswith(reason)
    assert "\n" not in str(refused.value)


PUBLISHED = {"loop": "published", "keep": "last"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bias_scale": 64.0}, "weight_decay and bias_scale belong to optimizer='sgd'"),
        ({"weight_decay": 1e-3}, "weight_decay and bias_scale belong to optimizer='sgd'"),
        ({"optimizer": "sgd", "kernel_rate": 0.1}, "kernel_rate and kernel_momentum belong to optimizer='muon'"),
        ({"tta_share": 0.5}, "tta_share belongs to test-time augmentation"),
        ({"optimizer": "sgd", "bias_scale": 64.0}, "it needs a network with batch_norm"),
        ({**PUBLISHED, "flip": "random"}, "without augmentation or averaging"),
        ({**PUBLISHED, "epochs": 1.5}, "trains whole epochs"),
        ({**PUBLISHED, "train_split": "all"}, "validates after each"),
        ({"loop": "published"}, "keeps the last"),
        ({**PUBLISHED, "optimizer": "sgd"}, "with Adam"),
        ({**PUBLISHED, "schedule": "triangular"}, "with Adam"),
        ({**PUBLISHED, "label_smoothing": 0.1}, "with Adam"),
        ({**PUBLISHED, "class_weights": True}, "with Adam"),
        ({**PUBLISHED, "steps_per_epoch": 3}, "with Adam"),
        ({"keep": "last", "patience": 2}, "it needs keep='best'"),
        ({"epochs": 1.5}, "use whole epochs, .* or keep='last'"),
        ({"train_split": "all"}, "chooses among whole epochs on the validation images"),
        ({"average": "ema"}, "average='none', or keep='last'"),
        ({"class_weights": True, "label_smoothing": 0.1}, "use only one of them"),
        ({"model": "lite0", "translate": 2}, "its only augmentation is flip='random'"),
        ({"model": "lite0", "flip": "alternating"}, "its only augmentation is flip='random'"),
        ({"model": "probe", "permute_pixels": 0}, "takes no permute_pixels"),
        ({"model": "lite0", "precision": "mixed_bfloat16"}, "computes in single precision"),
    ],
)
def test_fields_that_contradict_each_other_are_refused_in_one_line(changes, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        Trial("any", **changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("requested", ["auto", "mixed_bfloat16"])
def test_a_resolved_trial_says_what_this_machine_trains_in(requested, monkeypatch):
    monkeypatch.setenv("CNNLAB_PRECISION", "float32")
    trial = dataclasses.replace(TINY, precision=requested)
    assert trial.resolved().precision == ("float32" if requested == "auto" else requested)
    monkeypatch.setenv("CNNLAB_PRECISION", "mixed_bfloat16")
    assert Trial("any", model="lite0").resolved().precision == "float32"
