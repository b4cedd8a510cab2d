"""The Mars images of one copy: verified against what was published, decoded, or only examined."""

import hashlib
import warnings

import numpy as np
import pandas as pd

from cnnlab.acquisition import mars_copy
from cnnlab.acquisition.errors import BadDataError
from cnnlab.acquisition.mars_images import decode_all
from cnnlab.acquisition.mars_listing import oddities, read_listing
from cnnlab.acquisition.mars_spec import FOLDER, MSL
from cnnlab.acquisition.problems import found, refuse


def read_into(arrays, copy, spec, letterbox=True, progress=True):
    """Fill `arrays`: images uint8 (n, size, size, 3), listing uint8, the bytes of `Listing.to_bytes`.

    `copy`: a `mars_copy.Copy`. Warns of what does no harm; raises BadDataError, with a line for
    each trouble, where classes, splits or pictures are not those of `spec`.
    """
    listing, problems = _read(copy, spec)
    refuse(problems)
    for problem in problems:
        warnings.warn(str(problem), stacklevel=2)
    content = listing.to_bytes()
    arrays["listing"][:] = np.frombuffer(content, "uint8")
    found_hash = decode_all(arrays["images"], list(listing.rows["file"]), copy.read, letterbox, progress)
    if found_hash != spec.files_sha256:
        raise BadDataError(
            f"the names are those published, but not all pictures are: they were changed, or changed places "
            f"(SHA-256 {found_hash[:12]}..., expected {spec.files_sha256[:12]}...)"
        )


def examine(path, spec=MSL):
    """What is wrong or odd with the copy at `path`, pictures not decoded: a DataFrame to read.

    Columns: fatal (whether loading refuses it), problem, count, where (the first few).
    Raises BadDataError where there is no copy at all.
    """
    with mars_copy.opened(path) as copy:
        listing, problems = _read(copy, spec)
        problems += oddities(listing, copy.names)
    rows = [(problem.fatal, problem.what, len(problem.where), ", ".join(problem.where[:5])) for problem in problems]
    return pd.DataFrame(rows, columns=["fatal", "problem", "count", "where"])


def _read(copy, spec):
    listing, problems = read_listing(copy.read)
    files = listing.rows["file"]
    missing = files[[f"{FOLDER}/{file}" not in copy.names for file in files]]
    sizes = listing.rows["split"].value_counts()
    wrong_sizes = [
        f"{split} has {sizes.get(split, 0):,}, expected {count:,}"
        for split, count in spec.images.items()
        if sizes.get(split, 0) != count
    ]
    problems += found("listed images that are missing", missing)
    problems += found("splits of another size than published", wrong_sizes)
    content = listing.to_bytes()
    if not any(problem.fatal for problem in problems) and hashlib.sha256(content).hexdigest() != spec.listing_sha256:
        problems += found(
            "the text files say something else than the published ones", ["a name, a class, or the order"]
        )
    return listing, problems
