"""Bytes to a `Dataset`: the data sets, their sources and their cache, as other packages use them."""

import lazy_loader

# fmt: off
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cache": ["check_cached"],
        "cifar10": ["cifar10_arrays", "load_variants"],
        "cifar10_formats": ["CIFAR10_CLASSES"],
        "dataset": [
            "LOADERS", "MARS_SIZES", "SHAPES", "Dataset", "Split", "cache_name", "class_names",
            "is_letterboxed", "load", "load_cifar10", "load_mars", "path_variable",
        ],
        "download": ["DataUnavailableError"],
        "files": ["BadDataError"],
        "folder": ["load_folder"],
        "mars": ["mars_original", "preprocessing_steps"],
        "pickles": ["unpickled"],
        "pictures": ["decode_picture"],
    },
)
# fmt: on
