"""What a network costs, by formula: parameters and floating-point operations."""

from math import prod

from keras import layers

from cnnlab.models import default_pools

# Backward costs about twice the forward pass: once for the inputs, once for the weights.
TRAINING_TO_FORWARD = 3


def dense_parameters(units=(128, 64), input_shape=(32, 32, 3), num_classes=10, **_):
    """Weights and biases of `models.build_dense`: (inputs + 1) x outputs, layer by layer."""
    widths = (prod(input_shape), *units, num_classes)
    return sum((inputs + 1) * outputs for inputs, outputs in zip(widths, widths[1:], strict=False))


def cnn_parameters(
    filters=(32, 64, 128),
    kernel_size=3,
    pools=None,
    head="flatten",
    dense=512,
    batch_norm=False,
    input_shape=(32, 32, 3),
    num_classes=10,
    **_,
):
    """Parameters of `models.build_cnn`: (kernel^2 x channels + 1) x filters a convolution,
    4 a filter for batch normalisation (scale, shift, running mean and variance), and
    (inputs + 1) x outputs a dense layer, whose inputs are all positions x filters after
    "flatten" and the filters alone after "gap".
    """
    kernels = kernel_size if isinstance(kernel_size, list | tuple) else (kernel_size,) * len(filters)
    pools = default_pools(len(filters)) if pools is None else pools
    height, width, channels = input_shape
    total = 0
    for count, size in zip(filters, kernels, strict=True):
        total += (size * size * channels + 1) * count + 4 * count * batch_norm
        channels = count
    positions = 1 if head == "gap" else (height >> pools) * (width >> pools)
    features = positions * channels
    return total + dense_parameters((dense,) if dense else (), (features,), num_classes)


PARAMETER_FORMULAS = {"dense": dense_parameters, "cnn": cnn_parameters}


def expected_parameters(kind, **options):
    """Parameters of the model that `models.build(kind, **options)` builds, by formula."""
    return PARAMETER_FORMULAS[kind](**options)


def forward_flops(model):
    """Floating-point operations of one image's forward pass, counting a multiply-add as two.

    Convolutions and dense layers only: the rest is below a hundredth of these.
    """
    return sum(2 * _multiply_adds(layer) for layer in model.layers)


def training_flops(model, images):
    """Floating-point operations of training on `images` images (all epochs together)."""
    return TRAINING_TO_FORWARD * forward_flops(model) * images


def _multiply_adds(layer):
    if not isinstance(layer, layers.Conv1D | layers.Conv2D | layers.Dense):
        return 0
    kernel = prod(layer.kernel.shape)
    positions = prod(layer.output.shape[1:-1])
    return kernel * positions
