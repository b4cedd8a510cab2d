"""The networks of the Mars studies have the sizes that were computed by hand, and compare what they say."""

import pytest

from cnnlab import data, measures
from cnnlab.studies import MARS_STUDIES, STUDIES
from cnnlab.training import Trial, build, train

TRIALS = {trial.label: trial for study in MARS_STUDIES.values() for trial in study.trials}
SIDES = {"mars": 128, "mars64": 64}
# 3-to-5: as 3, with 16 weights more for each pair of channels of the third and fourth convolution.
PARAMETERS = {
    "mars_dense_512_256": 6_429_464,
    "mars_cnn_k3": 4_591_064,
    "mars_cnn_k5": 5_280_728,
    "mars_cnn_k7": 6_315_224,
    "mars_cnn_k3to5": 4_591_064 + 16 * (64 * 128 + 128 * 256),
    "mars_cnn_k3_weighted": 4_591_064,
    "mars_cnn_k3_augmented": 4_591_064,
    # Without four numbers for each filter.
    "mars_cnn_k3_unnormalised": 4_591_064 - 4 * (32 + 64 + 128 + 256),
}


@pytest.mark.parametrize("label", PARAMETERS)
def test_parameters(label):
    trial = TRIALS[label]
    side = SIDES[trial.dataset]
    model = build(trial.model, input_shape=(side, side, 3), num_classes=24, **trial.options)
    assert model.count_params() == PARAMETERS[label]


def test_the_studies_are_whole():
    assert set(TRIALS) == set(PARAMETERS)
    assert MARS_STUDIES.items() <= STUDIES.items()
    for name, study in MARS_STUDIES.items():
        assert study.name == name
        for trial in study.trials:
            assert trial.dataset in data.LOADERS
            assert (trial.monitor, trial.patience) == ("val_accuracy", 6)
            # One label stands for one configuration, in whichever study.
            assert trial == TRIALS[trial.label]


def test_augmented_pictures_move_by_an_eighth_of_their_side():
    augmented = TRIALS["mars_cnn_k3_augmented"]
    assert (augmented.flip, augmented.translate) == ("random", SIDES[augmented.dataset] // 8)


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
