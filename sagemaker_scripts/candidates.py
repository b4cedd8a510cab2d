"""What there is to deploy: a package, a model that is packaged first, or a tiny one that is trained first."""

from pathlib import Path

from sagemaker_scripts import common, package_model

RUNS = Path("runs")
MADE = RUNS / "deploy"
INTENTION = {
    "archive": "the package {path}",
    "model": "the model {path}, packaged",
    "nothing": "a tiny model, trained now because runs/ holds none (--model MODEL.keras takes yours)",
}


def choose(archive=None, model=None):
    """What there is to deploy: (kind, path), kind being "archive", "model" or "nothing".

    `archive` or `model` (.keras) where one is given, else the newest package in runs/, else the
    newest model there. Raises BadArgumentsError where a given file is not there.
    """
    for path in (archive, model):
        if path is not None and not Path(path).is_file():
            raise common.BadArgumentsError(f"{path} is no file; expected a model.tar.gz or a .keras model")
    if archive:
        return "archive", Path(archive)
    if model:
        return "model", Path(model)
    if found := _newest(RUNS, "*/model.tar.gz"):
        return "archive", found
    found = _newest(RUNS, "*/cnn.keras", "train/*/model.keras")
    return ("model", found) if found else ("nothing", None)


def intention(kind, path):
    """What `choose` returned, in words."""
    return INTENTION[kind].format(path=path)


def make(kind, path):
    """Path of a model.tar.gz for what `choose` returned; trains a tiny model where there is nothing."""
    if kind == "archive":
        return path
    model = path or _train_small()
    # The row that train.py wrote beside its model.
    row = _newest(model.parent, "trials/*.json")
    try:
        return package_model.package(model, MADE / "model.tar.gz", row=row)
    except common.BadArgumentsError as error:
        raise common.BadArgumentsError(f"{error}; package it with package_model.py, then give --archive") from error


def _newest(folder, *patterns):
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _train_small():
    """A tiny network: no good classifier, but all of the way to an endpoint can be walked with it."""
    from cnnlab.training import Trial
    from sagemaker_scripts import train

    options = {"filters": [8, 16], "dense": 32}
    trial = Trial("tiny", options=options, epochs=1, train_images=5_000, eval_images=1_000, batch_size=50)
    train.train(trial, MADE / "tiny")
    return MADE / "tiny" / "model.keras"
