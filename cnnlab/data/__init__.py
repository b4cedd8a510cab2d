"""Bytes to a `Dataset`: what other rooms use of the data sets, where they come from and how they are kept."""

from cnnlab.data.cache import DataUnavailableError, check_cached
from cnnlab.data.cifar10 import cifar10_arrays
from cnnlab.data.cifar10_formats import CIFAR10_CLASSES
from cnnlab.data.cifar10_variants import load_variants
from cnnlab.data.dataset import (
    LOADERS,
    MARS_SIZES,
    SHAPES,
    SPLITS,
    Dataset,
    Split,
    cache_name,
    class_names,
    is_letterboxed,
    load,
    load_cifar10,
    load_mars,
    path_variable,
)
from cnnlab.data.files import BadDataError
from cnnlab.data.folder import load_folder
from cnnlab.data.mars import mars_original, preprocessing_steps
from cnnlab.data.pickles import unpickled
from cnnlab.data.pictures import decode_picture

__all__ = [
    "CIFAR10_CLASSES",
    "LOADERS",
    "MARS_SIZES",
    "SHAPES",
    "SPLITS",
    "BadDataError",
    "DataUnavailableError",
    "Dataset",
    "Split",
    "cache_name",
    "check_cached",
    "cifar10_arrays",
    "class_names",
    "decode_picture",
    "is_letterboxed",
    "load",
    "load_cifar10",
    "load_folder",
    "load_mars",
    "load_variants",
    "mars_original",
    "path_variable",
    "preprocessing_steps",
    "unpickled",
]
