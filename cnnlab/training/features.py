"""What a frozen network makes of images, computed once and kept in the cache."""

import hashlib
import zipfile

import numpy as np

from cnnlab.machine import atomic_file, cache_folder, forget, progress_bar
from cnnlab.training.callbacks import Clock

# Images of which features are computed at once, and kept as one file.
BATCH, PART = 32, 4_000


def frozen_features(extractor, split, cache=None, title=None, clock=None, mirrored=False):
    """float32 (n, ...) of the images of `split` (a `data.Split`), in its order.

    `extractor`: of `feature_extractor`, or any model from pixels; `cache`: the cache folder (default: as of
    `data.cache_folder`), where they are kept by weights and by image, so that another split computes what it lacks, and
    whoever is killed loses at most PART images; `title` of the progress bar (None: no bar); `clock`: a Clock that
    counts as "features" what they took when they were computed; `mirrored`: of the mirror images, left to right.
    """
    clock = clock or Clock()
    with clock.paused("setup"):
        folder = cache_folder(cache) / "features" / f"{extractor.name}-{version_of(extractor)}"
        batches = (_seen(split, slice(start, start + BATCH), mirrored) for start in range(0, len(split), BATCH))
        names = np.array([_name(image) for batch in batches for image in batch])
        features = np.empty((len(split), *extractor.output_shape[1:]), "float32")
        took = np.full((len(split), 2), np.nan)
        for path in sorted(folder.glob("*.npz")):
            _recall(path, names, features, took)
        missing = np.flatnonzero(np.isnan(took[:, 0]))
        with progress_bar(len(missing), f"features of {title}", "image", disable=title is None) as bar:
            for first in range(0, len(missing), PART):
                part, own = missing[first : first + PART], Clock()
                for start in range(0, len(part), BATCH):
                    rows = part[start : start + BATCH]
                    features[rows] = extractor.predict_on_batch(_seen(split, rows, mirrored))
                    bar.update(len(rows))
                own.lap("features")
                took[part] = np.divide((own.parts["features"], own.cpu_seconds), len(part))
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"{_name(names[part])}.npz"
                with atomic_file(path, suffix=".npz") as partial:
                    np.savez(partial, names=names[part], features=features[part], took=took[part])
        forget(split.images)
    clock.add("features", *took.sum(axis=0))
    return features


def _seen(split, rows, mirrored):
    images = split.images[split.indices[rows]]
    return images[:, :, ::-1] if mirrored else images


def _name(array):
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()[:24]


def _recall(path, names, features, took):
    """Fill in what `path` has of the images called `names`: nothing, where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            place = {name: row for row, name in enumerate(file["names"])}
            rows = np.array([place.get(name, -1) for name in names])
            wanted = rows >= 0
            if wanted.any():
                kept = file["features"][rows[wanted]], file["took"][rows[wanted]]
                features[wanted], took[wanted] = kept
    except (OSError, ValueError, KeyError, IndexError, EOFError, TypeError, zipfile.BadZipFile):
        pass


def version_of(model):
    """12 hex digits over layers and weights."""
    digest = hashlib.sha256(model.to_json().encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()[:12]
