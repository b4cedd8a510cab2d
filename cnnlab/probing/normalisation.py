"""Are the running statistics of a normalisation those of the weights that they are used with?"""

import keras
import pandas as pd

from cnnlab.recipes.augmenting import AugmentedBatches
from cnnlab.recipes.catalogue import FLIP_AND_TRANSLATE
from cnnlab.recipes.running import accuracy
from cnnlab.training import predict

# Training images that statistics are computed anew from, in batches of BATCH: enough for four digits of a variance.
IMAGES, BATCH = 10_000, 250
# What the statistics are of, beside those that training left.
AUGMENTATIONS = {"plain": {}, "augmented": FLIP_AND_TRANSLATE}


def normalisation_accuracy(model, training, validation):
    """Accuracy of `model` with the statistics that training left, and with those of its final weights.

    `training`, `validation`: (uint8 images (n, height, width, channels), integer labels (n,)).
    Returns a DataFrame, a row for each of "running" (as training left them), "plain" and
    "augmented" (computed anew from the training images, as they are or mirrored and moved), with
    columns statistics, accuracy (on the validation images), images. `model` is left as it was.
    """
    images, labels = validation
    kept = model.get_weights()
    accuracies = {"running": accuracy(predict(model, images), labels)}
    for name, augmentation in AUGMENTATIONS.items():
        batch_size = min(BATCH, len(training[0]))
        renew_statistics(model, AugmentedBatches(*training, batch_size, seed=0, **augmentation))
        accuracies[name] = accuracy(predict(model, images), labels)
        model.set_weights(kept)
    rows = [{"statistics": name, "accuracy": share} for name, share in accuracies.items()]
    return pd.DataFrame(rows).assign(images=len(images))


def renew_statistics(model, batches):
    """Give the BatchNormalization layers of `model` the mean statistics of `batches` under its weights.

    Mean of the batches' means and variances, as in Wu and Johnson, Rethinking "Batch" in
    BatchNorm (2021), section 3. Raises ValueError for a model without such a layer.
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not layers:
        raise ValueError(f"{model.name} has no BatchNormalization layer; expected a network with normalisation")
    momenta = [layer.momentum for layer in layers]
    try:
        for step in range(len(batches)):
            for layer in layers:
                layer.momentum = step / (step + 1)  # So that all batches count alike.
            model(batches[step][0], training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
