"""A laboratory for convolutional networks: the names that its notebooks use, each loaded on first use."""

import logging
import os

import lazy_loader

# TensorFlow's start-up messages (about a missing GPU, for example) and its retracing hints would
# clutter every notebook. Its errors are exceptions, and still seen. A filter rather than a level,
# because TensorFlow sets the level of its logger itself when it is imported in a notebook.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("tensorflow").addFilter(lambda record: record.levelno >= logging.ERROR)

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["data", "figures", "findings", "machine", "measures", "report", "studies", "training", "widgets"],
    submod_attrs={
        "data": ["Dataset", "load_cifar10", "load_folder", "load_mars"],
        "machine": ["be_frugal", "choose_precision", "environment", "import_keras"],
        "notebook": ["Page"],
        "studies": ["Store", "Study", "find_budget", "find_recipe", "find_study", "record_store", "run_study"],
        "training": ["Checkpoint", "ProgressBar", "Trial", "linear_probe", "predict", "train"],
    },
)
