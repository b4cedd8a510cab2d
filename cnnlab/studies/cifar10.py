"""The experiments on CIFAR-10: what each asks, varies and holds constant."""

import dataclasses

from cnnlab.studies.study import Study
from cnnlab.training import Trial

SETTINGS = "Adam, learning rate 0.001, batches of 64, 40,000 training images, best of all epochs chosen on validation"
DENSE = Trial("dense_128_64", model="dense", options={"units": [128, 64]})
CNN = Trial("cnn_32_64_128", options={"filters": [32, 64, 128]})
FILTERS = ((16, 32, 64), (32, 64, 128), (64, 128, 256), (128, 256, 512))
SMALL_CNN = Trial("cnn_32_64_k3", options={"filters": [32, 64], "dense": 128})
# Without convolutions, trained until validation accuracy stops rising: at a rate that falls to zero, keeping the best
# epoch.
TO_THE_END = {"model": "dense", "epochs": 40, "schedule": "linear", "batch_size": 256}
SOFTMAX = Trial("softmax_regression", options={"units": []}, **TO_THE_END)
# At this size it computes as much as the CNN; dropout, rate and mirror images were chosen on validation, with a seed
# that no row uses.
DENSE_BEST = Trial(
    "dense_1024_512_tuned", options={"units": [1024, 512]}, learning_rate=3e-4, flip="random", **TO_THE_END
)
# Each network trains for as many steps as it needs on its images: with equal steps, some would stop while still
# learning. With seed 100, which no row uses, validation accuracy had stopped rising by the end.
TO_CONVERGENCE = {"epochs": 120, "steps_per_epoch": 250, "patience": 10}
SAMPLE_SIZES = (500, 1_000, 2_000, 5_000, 10_000, 20_000, 40_000)
PERMUTATION_SEED = 0

AS_DESIGNED = "as designed"
# Each design decision of the assignment's CNN, undone alone: its name, and the option that changes.
DESIGN = {
    "one pooling fewer": {"pools": 1},
    "no padding": {"padding": "valid"},
    "one convolution fewer": {"filters": [32, 64]},
    "no dropout": {"dropout": 0.0},
    "no dense layer": {"dense": 0},
}
DESIGN_IMAGES = 10_000


def _label(prefix, numbers):
    return "_".join([prefix, *map(str, numbers)])


CIFAR_STUDIES = {
    study.name: study
    for study in (
        Study(
            "baselines",
            "How far does a network get if it knows nothing about images?",
            "width of the two hidden layers",
            f"{SETTINGS}; 10 epochs",
            tuple(
                Trial(_label("dense", units), model="dense", options={"units": list(units)})
                for units in ((128, 64), (256, 128), (512, 256))
            ),
        ),
        Study(
            "filters",
            "Do more filters make a better classifier?",
            "filters of the three convolutions",
            f"{SETTINGS}; 10 epochs for every variant; 3x3 kernels, dense layer of 512, dropout 0.5",
            tuple(Trial(_label("cnn", filters), options={"filters": list(filters)}) for filters in FILTERS),
            costliest=_label("cnn", FILTERS[-1]),
        ),
        Study(
            "design",
            "What does each design decision in the CNN contribute?",
            "one decision at a time, undone",
            f"{SETTINGS.replace('40,000', f'{DESIGN_IMAGES:,}')}; 10 epochs",
            tuple(
                dataclasses.replace(CNN, label=label, options={**CNN.options, **undone}, train_images=DESIGN_IMAGES)
                for label, undone in {AS_DESIGNED: {}, **DESIGN}.items()
            ),
        ),
        Study(
            "filters_gap",
            "Is it the filters, or the dense layer that grows with them?",
            "filters of the three convolutions, with global average pooling in place of flatten and dense",
            f"{SETTINGS}; 10 epochs for every variant; 3x3 kernels, no dense layer and so no dropout",
            tuple(
                Trial(
                    _label("gap", filters),
                    options={"filters": list(filters), "head": "gap", "dense": 0, "dropout": 0.0},
                )
                for filters in FILTERS
            ),
        ),
        Study(
            "kernels",
            "Do larger kernels see more of what matters?",
            "kernel size of both convolutions, in pixels",
            f"{SETTINGS}; 10 epochs; 32 and 64 filters, dense layer of 128, dropout 0.5",
            tuple(
                dataclasses.replace(
                    SMALL_CNN, label=f"cnn_32_64_k{size}", options={**SMALL_CNN.options, "kernel_size": size}
                )
                for size in (1, 3, 5, 7)
            ),
        ),
        Study(
            "epochs",
            "What is gained by training one variant for 15 epochs and the others for 10?",
            "epochs of the 32-64-128 network",
            f"{SETTINGS.replace('best of all epochs chosen on validation', 'the last epoch')}; 3x3 kernels, dense "
            "layer of 512, dropout 0.5",
            (CNN, dataclasses.replace(CNN, label="cnn_32_64_128_15_epochs", epochs=15)),
        ),
        Study(
            "permutation",
            "What is left of each network when neighbours are no longer neighbours?",
            "one fixed permutation of all pixel positions, in training and test alike",
            f"{SETTINGS}; 10 epochs",
            (
                DENSE,
                dataclasses.replace(DENSE, label="dense_128_64_permuted", permute_pixels=PERMUTATION_SEED),
                CNN,
                dataclasses.replace(CNN, label="cnn_32_64_128_permuted", permute_pixels=PERMUTATION_SEED),
            ),
        ),
        Study(
            "sample_size",
            "How many images does each network need?",
            "number of training images",
            "Adam, learning rate 0.001, batches of 64, until validation accuracy, measured every 250 steps, has not "
            "risen for 2,500 steps (30,000 at most), with the weights of the best measurement; networks of comparable "
            "parameter counts",
            tuple(
                dataclasses.replace(trial, label=f"{trial.label}_n{images}", train_images=images, **TO_CONVERGENCE)
                for trial in (DENSE, SMALL_CNN)
                for images in SAMPLE_SIZES
            ),
        ),
        Study(
            "dense_best",
            "What is convolution worth against a dense network at its best?",
            "the network, and how long it is trained",
            f"{SETTINGS}; 10 epochs, but 40 for softmax regression and the tuned network, in batches of 256, at a rate "
            "that falls to zero; the tuned one starts at 0.0003, sees mirror images, and computes as much as the CNN",
            (SOFTMAX, DENSE, DENSE_BEST, CNN),
        ),
        Study(
            "transfer_size",
            "How many images does a pretrained network need?",
            "number of training images",
            "a logistic regression on the frozen features of EfficientNet-Lite0, for which images are enlarged to "
            "96x96 pixels; one of three penalty strengths, chosen on 10,000 validation images",
            tuple(
                Trial(
                    f"pretrained_n{images}",
                    model="probe",
                    options={"strengths": [1e-4, 1e-3, 1e-2]},
                    train_images=images,
                    epochs=1,
                    precision="float32",
                )
                for images in SAMPLE_SIZES
            ),
        ),
    )
}
