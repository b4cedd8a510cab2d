"""The experiments on the Mars images: a ladder from logistic regression to transfer, and kernel size."""

import dataclasses

from cnnlab.studies.study import Study
from cnnlab.training import Trial

# At a constant rate, validation accuracy swings by five points from epoch to epoch for as long as one waits (tried:
# 30 epochs); at a falling rate it has settled by the end. The best epoch's weights are kept.
TRAINING = {"epochs": 12, "schedule": "linear", "monitor": "val_accuracy"}
# Networks without convolutions need longer, and cost little.
LONGER = {**TRAINING, "epochs": 36}
SETTINGS = (
    "the published split by sol; letterboxed pictures of 64x64 pixels; Adam, learning rate falling from 0.001 to 0 "
    "over 12 epochs (36 without convolutions, 24 augmented), batches of 64; the best epoch on validation"
)
MARS_LOGISTIC = Trial("mars_logistic", model="dense", options={"units": []}, dataset="mars64", **LONGER)
MARS_DENSE = Trial(
    "mars_dense_512_256", model="dense", options={"units": [512, 256], "dropout": [0.3, 0.0]}, dataset="mars64",
    **LONGER,
)  # fmt: skip
MARS_CNN = Trial(
    "mars_cnn_k3",
    options={"filters": [32, 64, 128, 256], "kernel_size": 3, "batch_norm": True, "dense": 256, "dropout": 0.5},
    dataset="mars64",
    **TRAINING,
)
# Shifted but not mirrored: several classes are the left or right side of an object. Twice as long, as it sees more.
AUGMENTED = {"translate": 4, "epochs": 24}
# A probe is fitted: no epochs, no seed.
_FITTED = {"model": "probe", "dataset": "mars224", "epochs": 1, "precision": "float32"}
MARS_PROBE = Trial("mars_probe", **_FITTED)
MARS_MIRRORED = Trial("mars_probe_mirrored", options={"mirrored": True}, **_FITTED)
MARS_TUNED = Trial(
    "mars_tuned", model="lite0", options={"blocks": 1, "dropout": 0.2}, dataset="mars224", epochs=6, learning_rate=3e-5,
    class_weights=True, flip="random", precision="float32",
)  # fmt: skip
# The same settings, chosen on validation, now trained on the validation images too.
MARS_PROBE_ALL = dataclasses.replace(MARS_MIRRORED, label="mars_probe_all", train_split="all", keep="last")
MARS_TUNED_ALL = dataclasses.replace(MARS_TUNED, label="mars_tuned_all", epochs=5, train_split="all", keep="last")
# What is shipped instead of the network that validation chose: once it has chosen, its images can train too.
MARS_WITH_VALIDATION = {MARS_MIRRORED.label: MARS_PROBE_ALL.label, MARS_TUNED.label: MARS_TUNED_ALL.label}
# Networks whose seeds also vote together.
MARS_VOTES = (MARS_CNN.label, MARS_TUNED.label, MARS_TUNED_ALL.label)


def _with_kernels(label, kernel_size):
    return dataclasses.replace(MARS_CNN, label=label, options={**MARS_CNN.options, "kernel_size": kernel_size})


MARS_STUDIES = {
    study.name: study
    for study in (
        Study(
            "mars_ladder",
            "How far does each step take a classifier on Mars, from pixels to transfer?",
            "the classifier: what it knows before it sees a picture of Mars, and what it learns from",
            f"{SETTINGS}; pretrained networks see 224x224 pixels",
            (
                MARS_LOGISTIC,
                MARS_DENSE,
                MARS_CNN,
                dataclasses.replace(MARS_CNN, label="mars_cnn_k3_weighted", class_weights=True),
                dataclasses.replace(MARS_CNN, label="mars_cnn_k3_augmented", **AUGMENTED),
                MARS_PROBE,
                MARS_MIRRORED,
                MARS_TUNED,
                MARS_PROBE_ALL,
                MARS_TUNED_ALL,
            ),
            more_seeds=dict.fromkeys((MARS_PROBE.label, MARS_MIRRORED.label, MARS_PROBE_ALL.label), 1),
        ),
        Study(
            "mars_kernels",
            "Do larger kernels see more of what matters on Mars?",
            "kernel size of the four convolutions, in pixels",
            f"{SETTINGS}; 32, 64, 128 and 256 filters with batch normalisation, dense layer of 256, dropout 0.5",
            (
                MARS_CNN,
                _with_kernels("mars_cnn_k5", 5),
                _with_kernels("mars_cnn_k7", 7),
                _with_kernels("mars_cnn_k3to5", [3, 3, 5, 5]),
            ),
            costliest="mars_cnn_k7",
        ),
    )
}
