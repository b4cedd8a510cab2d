"""Helpers of the convolution lab: data, models, training, studies, evaluation, figures."""

import logging
import os

# TensorFlow's start-up notes (a missing GPU among them) and its retracing hints would stand
# between the lines of every notebook. Its errors are exceptions, and still seen. A filter,
# because TensorFlow sets the level of its logger itself when it is imported in a notebook.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("tensorflow").addFilter(lambda record: record.levelno >= logging.ERROR)
