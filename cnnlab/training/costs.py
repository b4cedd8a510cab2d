"""What a network costs, by formula: parameters and floating-point operations."""

from math import prod

from keras import layers

from cnnlab.training.networks import CNN, Dense, network_options, one_each

# Backward costs about twice the forward pass: once for the inputs, once for the weights.
TRAINING_TO_FORWARD = 3


def expected_parameters(model, input_shape=(32, 32, 3), num_classes=10, **options):
    """Parameters of the network that `models.build` builds of the same arguments, by formula.

    A dense layer has (inputs + 1) x outputs, a convolution (kernel^2 x channels + 1) x filters,
    batch normalisation 4 a filter (scale, shift, running mean and variance); a dense layer's inputs
    are all positions x filters after "flatten", and the filters alone after "gap". Raises
    ValueError for blocks, which have no formula here.
    """
    network = network_options(model, options)
    if isinstance(network, Dense):
        return _dense_layers([prod(input_shape), *network.units, num_classes])
    if not isinstance(network, CNN):
        raise ValueError(f"there is no formula for {model!r}; expected 'dense' or 'cnn'")
    height, width, channels = input_shape
    total, sizes = 0, one_each("kernel_size", network.kernel_size, len(network.filters))
    for count, size in zip(network.filters, sizes, strict=True):
        total += (size * size * channels + 1) * count + 4 * count * network.batch_norm
        channels = count
    positions = 1 if network.head == "gap" else network.left_of(height) * network.left_of(width)
    return total + _dense_layers([positions * channels, *([network.dense] if network.dense else []), num_classes])


def _dense_layers(widths):
    return sum((inputs + 1) * outputs for inputs, outputs in zip(widths, widths[1:], strict=False))


def forward_flops(model):
    """Floating-point operations of one image's forward pass, counting a multiply-add as two.

    Convolutions and dense layers only: the rest is below a hundredth of these.
    """
    weighted = (each for each in model.layers if isinstance(each, layers.Conv1D | layers.Conv2D | layers.Dense))
    return sum(2 * prod(layer.kernel.shape) * prod(layer.output.shape[1:-1]) for layer in weighted)


def training_flops(model, images):
    """Floating-point operations of training on `images` images (all epochs together)."""
    return TRAINING_TO_FORWARD * forward_flops(model) * images
