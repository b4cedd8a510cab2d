"""The experiments on the Mars images: the dense baseline, the kernel's size, and what may help."""

import dataclasses

from cnnlab.studies.study import Study
from cnnlab.training import Trial

# Early stopping: on validation accuracy, whose best epoch's weights are also those that are kept.
# In the first epochs it lies near chance, with ups and downs: patience must outlast these.
STOPPING = {"epochs": 12, "monitor": "val_accuracy", "patience": 6}
SETTINGS = (
    "Adam, learning rate 0.001, batches of 64; at most 12 epochs, ended when validation accuracy has not risen for 6; "
    "the published split by sol; letterboxed pictures"
)
MARS_DENSE = Trial(
    "mars_dense_512_256",
    model="dense",
    options={"units": [512, 256], "dropout": [0.3, 0.0]},
    dataset="mars64",
    **STOPPING,
)
MARS_CNN = Trial(
    "mars_cnn_k3",
    options={"filters": [32, 64, 128, 256], "kernel_size": 3, "batch_norm": True, "dense": 256, "dropout": 0.5},
    dataset="mars",
    **STOPPING,
)


def _with_kernels(label, kernel_size):
    return dataclasses.replace(MARS_CNN, label=label, options={**MARS_CNN.options, "kernel_size": kernel_size})


MARS_STUDIES = {
    study.name: study
    for study in (
        Study(
            "mars_baseline",
            "How far does a network get on Mars that knows nothing of images?",
            "the network: dense on 64x64 pixels, convolutional on 128x128",
            SETTINGS,
            (MARS_DENSE, MARS_CNN),
            seeds=3,
        ),
        Study(
            "mars_kernels",
            "Do larger kernels see more of Mars that matters?",
            "kernel size of the four convolutions, in pixels",
            f"{SETTINGS}; 32, 64, 128 and 256 filters with batch normalisation, dense layer of 256, dropout 0.5",
            (
                MARS_CNN,
                _with_kernels("mars_cnn_k5", 5),
                _with_kernels("mars_cnn_k7", 7),
                _with_kernels("mars_cnn_k3to5", [3, 3, 5, 5]),
            ),
            seeds=3,
            costliest="mars_cnn_k7",
        ),
        Study(
            "mars_help",
            "Does it help to weigh rare classes more, to vary the training images, or to leave normalisation out?",
            "class weights inverse to frequency; mirrored and shifted training images; batch normalisation",
            f"{SETTINGS}; the network with 3x3 kernels",
            (
                MARS_CNN,
                dataclasses.replace(MARS_CNN, label="mars_cnn_k3_weighted", class_weights=True),
                # Moved by an eighth of a side, as by custom on CIFAR-10 (He et al. 2016, section 4.2).
                dataclasses.replace(MARS_CNN, label="mars_cnn_k3_augmented", flip="random", translate=16),
                # Its moving averages are of the training images, most of which another camera took than the test's.
                dataclasses.replace(
                    MARS_CNN, label="mars_cnn_k3_unnormalised", options={**MARS_CNN.options, "batch_norm": False}
                ),
            ),
            seeds=3,
        ),
    )
}
