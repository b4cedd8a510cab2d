"""Fixtures that several test modules share."""

import pytest
import synthetic


@pytest.fixture(scope="session")
def bars_dataset():
    """A small Dataset of 16x16 images in four classes."""
    return synthetic.dataset()
