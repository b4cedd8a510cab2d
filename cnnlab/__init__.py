"""Helpers of the convolution lab: data, models, training, studies, evaluation, figures."""

import logging
import os

# TensorFlow's start-up notes and retracing hints would stand between the lines of every notebook.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
logging.getLogger("tensorflow").setLevel(logging.ERROR)
