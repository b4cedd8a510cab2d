"""The bar that every long piece of work shows, free of Keras so that loading data does not import it."""

import sys

from tqdm import tqdm


def progress_bar(total, description, unit, **options):
    """A bar on standard output that leaves no trace when it is finished.

    Plain text in the terminal and in the notebook alike: a widget would be empty in the
    saved notebook.
    """
    return tqdm(total=total, desc=description, unit=unit, leave=False, file=sys.stdout, mininterval=0.5, **options)


def byte_bar(total, description, **options):
    """A bar that counts bytes (kB, MB, GB); `total` may be None where it is not known."""
    return progress_bar(total, description, "B", unit_scale=True, **options)
