"""What a frozen network makes of images, computed once and kept in the cache."""

import hashlib
import zipfile

import numpy as np

from cnnlab.machine import atomic_file, cache_folder, forget, progress_bar
from cnnlab.training.callbacks import Clock

# Images of which features are computed at once, and kept as one file where they are kept by image.
BATCH, PART = 32, 4_000


def frozen_features(extractor, split, cache=None, title=None, clock=None, mirrored=False):
    """float32 (n, ...) of the images of `split` (a `data.Split`), in its order.

    `extractor`: of `feature_extractor`, or any model from pixels; `cache`: the cache folder (default: as of
    `data.cache_folder`), where they are kept under a name that says of which weights, size and pixels they are; `title`
    of the progress bar (None: no bar); `clock`: a Clock that counts as "features" what they took when they were
    computed; `mirrored`: of the mirror images, left to right.
    """
    clock = clock or Clock()
    with clock.paused("setup"):
        features, took = _kept_or_computed(extractor, split, cache, title, mirrored)
    clock.add("features", *took)
    return features


def row_features(extractor, split, cache=None, title=None, clock=None, mirrored=False):
    """`frozen_features` that are kept by image: another split of the same array computes what it lacks.

    For a set whose split is drawn anew with each seed, or of which more and more is taken. The clock counts of what was
    kept its share. Arguments and result as there.
    """
    clock, shape = clock or Clock(), extractor.output_shape[1:]
    with clock.paused("setup"):
        digest = hashlib.sha256(version_of(extractor).encode())
        digest.update(np.ascontiguousarray(split.images))
        name = f"{extractor.name}{'-mirrored' * mirrored}-{digest.hexdigest()[:16]}"
        folder = cache_folder(cache) / "features" / name
        features = np.empty((len(split.images), *shape), "float32")
        took = np.full((len(split.images), 2), np.nan)
        for path in sorted(folder.glob("*.npz")):
            rows = _rows_of(path, len(features))
            kept = None if rows is None else _kept(path, (len(rows), *shape))
            if kept is not None:
                features[rows], took[rows] = kept[0], np.divide(kept[1], len(rows))
        missing = np.unique(split.indices[np.isnan(took[split.indices, 0])])
        with progress_bar(len(missing), f"features of {title}", "image", disable=title is None) as bar:
            for first in range(0, len(missing), PART):
                rows, part = missing[first : first + PART], Clock()
                for start in range(0, len(rows), BATCH):
                    chosen = rows[start : start + BATCH]
                    images = split.images[chosen]
                    features[chosen] = extractor.predict_on_batch(images[:, :, ::-1] if mirrored else images)
                    bar.update(len(chosen))
                part.lap("features")
                spent = part.parts["features"], part.cpu_seconds
                took[rows] = np.divide(spent, len(rows))
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}.npz"
                with atomic_file(path, suffix=".npz") as partial:
                    np.savez(partial, features=features[rows], took=spent, rows=rows)
        forget(split.images)
    clock.add("features", *took[split.indices].sum(axis=0))
    return features[split.indices]


def _rows_of(path, count):
    """The rows, of `count`, whose features are in `path`, or None where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            rows = file["rows"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fine = rows.ndim == 1 and rows.dtype.kind == "i" and len(rows) and 0 <= rows.min() <= rows.max() < count
    return rows if fine else None


def _kept_or_computed(extractor, split, cache, title, mirrored):
    """(features, (seconds on the clock, of the processor) that they took)."""

    def batches():
        for start in range(0, len(split), BATCH):
            images = split.images[split.indices[start : start + BATCH]]
            yield start, np.ascontiguousarray(images[:, :, ::-1] if mirrored else images)

    digest = hashlib.sha256(version_of(extractor).encode())
    for _, images in batches():
        digest.update(images)
    path = cache_folder(cache) / "features" / f"{extractor.name}-{digest.hexdigest()[:16]}.npz"
    shape = (len(split), *extractor.output_shape[1:])
    found = _kept(path, shape)
    if found is None:
        clock, features = Clock(), np.empty(shape, "float32")
        with progress_bar(len(split), f"features of {title}", "image", disable=title is None) as bar:
            for start, images in batches():
                features[start : start + len(images)] = extractor.predict_on_batch(images)
                bar.update(len(images))
        clock.lap("features")
        found = features, (clock.parts["features"], clock.cpu_seconds)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, suffix=".npz") as partial:
            np.savez(partial, features=features, took=found[1])
    forget(split.images)
    return found


def _kept(path, shape):
    """The features in `path`, and what they took, or None where they are missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            features, took = file["features"], tuple(map(float, file["took"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return (features, took) if features.shape == shape and features.dtype == np.float32 else None


def version_of(model):
    """12 hex digits over layers and weights."""
    digest = hashlib.sha256(model.to_json().encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()[:12]
