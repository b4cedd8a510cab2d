"""The networks of the Mars studies have the sizes that were computed by hand, and compare what they say."""

import collections

import pytest

from cnnlab import data, measures
from cnnlab.studies import MARS_STUDIES, MARS_WITH_VALIDATION, STUDIES
from cnnlab.training import Trial, build, train

TRIALS = {trial.label: trial for study in MARS_STUDIES.values() for trial in study.trials}
SIDES = {"mars64": 64}
# At half the published side the dense layer has a quarter of the inputs: 48 of 64 positions fewer, of 256 filters.
PLAIN = 4_591_064 - 48 * 256 * 256
# 3-to-5: as 3, with 16 weights more for each pair of channels of the third and fourth convolution.
PARAMETERS = {
    "mars_logistic": (64 * 64 * 3 + 1) * 24,
    "mars_dense_512_256": 6_429_464,
    "mars_cnn_k3": PLAIN,
    "mars_cnn_k5": 5_280_728 - 48 * 256 * 256,
    "mars_cnn_k7": 6_315_224 - 48 * 256 * 256,
    "mars_cnn_k3to5": PLAIN + 16 * (64 * 128 + 128 * 256),
    "mars_cnn_k3_weighted": PLAIN,
    "mars_cnn_k3_augmented": PLAIN,
}
PRETRAINED = ("mars_probe", "mars_probe_mirrored", "mars_tuned", "mars_probe_all", "mars_tuned_all")


@pytest.mark.parametrize("label", PARAMETERS)
def test_parameters(label):
    trial = TRIALS[label]
    side = SIDES[trial.dataset]
    model = build(trial.model, input_shape=(side, side, 3), num_classes=24, **trial.options)
    assert model.count_params() == PARAMETERS[label]


def test_the_studies_are_whole():
    assert set(TRIALS) == {*PARAMETERS, *PRETRAINED}
    assert MARS_STUDIES.items() <= STUDIES.items()
    for name, study in MARS_STUDIES.items():
        assert study.name == name
        for trial in study.trials:
            assert trial.dataset in data.LOADERS
            if trial.label not in PRETRAINED:
                assert (trial.keep, trial.monitor, trial.schedule) == ("best", "val_accuracy", "linear")
            # One label stands for one configuration, in whichever study.
            assert trial == TRIALS[trial.label]


def test_augmented_pictures_are_moved_and_not_mirrored_as_sides_are_classes():
    augmented = TRIALS["mars_cnn_k3_augmented"]
    assert (augmented.flip, augmented.translate > 0) == ("none", True)


def test_what_learns_from_validation_images_takes_the_settings_that_they_chose():
    for chosen, fuller in MARS_WITH_VALIDATION.items():
        once, again = TRIALS[chosen], TRIALS[fuller]
        assert (again.train_split, again.keep) == ("all", "last")
        changed = {"train_split", "keep", "epochs"}
        own, other = ({n: v for n, v in trial.configuration().items() if n not in changed} for trial in (once, again))
        assert own == other


def test_what_is_fitted_has_one_seed_and_all_else_ten():
    seeds = collections.Counter(trial.label for trial in MARS_STUDIES["mars_ladder"].runs())
    assert {label: 1 if TRIALS[label].model == "probe" else 10 for label in seeds} == seeds
    assert set(collections.Counter(trial.label for trial in MARS_STUDIES["mars_kernels"].runs()).values()) == {10}


def test_a_training_from_files_to_scores(mars_tiny):
    options = {**TRIALS["mars_cnn_k3to5"].options, "filters": [4, 4, 4, 4], "dense": 8}
    trial = Trial(
        "tiny", options=options, epochs=2, batch_size=5, class_weights=True, flip="random", translate=2, patience=1,
        precision="float32",
    )  # fmt: skip
    result = train(trial, mars_tiny)
    assert result.row["data_version"] == mars_tiny.fingerprint
    answers = result.probabilities["test"].argmax(axis=1)
    scores = measures.scores_with_intervals(mars_tiny, "test", answers)
    assert scores.loc["accuracy", "value"] == pytest.approx(result.row["test_accuracy_best"])
