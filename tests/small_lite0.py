"""Four blocks in place of EfficientNet-Lite0, which takes seconds to build or trace."""

import numpy as np

from cnnlab.training import finetune, pretrained


def drawn(model, sources, tensors):
    """Stand in for the published weights: kernels that preserve variance, the same at each call."""
    generator = np.random.default_rng(0)
    for name in sources:
        weights = model.get_layer(name).weights
        if len(weights) == 1:  # a convolution; a normalisation has four, which stay as they are
            inputs = np.prod(weights[0].shape[:2]) if "depthwise" in name else np.prod(weights[0].shape[:3])
            weights[0].assign(generator.normal(0, np.sqrt(2 / inputs), weights[0].shape))


# Assembled like the published network.
SMALL = {
    (pretrained, "STAGES"): ((1, 3, 1, 1, 8), (2, 3, 2, 6, 8), (1, 5, 2, 6, 16)),
    (pretrained, "HEAD_FILTERS"): 64,
    (pretrained, "read_weights"): lambda path: {},
    (pretrained, "_fill"): drawn,
    (finetune, "BLOCKS"): 4,
}
PUBLISHED = {place: getattr(*place) for place in SMALL}


def put(which=SMALL, set_attribute=setattr):
    """Switch the network to `which`, SMALL or PUBLISHED; `set_attribute`: pytest's, which undoes it."""
    for place, value in which.items():
        set_attribute(*place, value)
