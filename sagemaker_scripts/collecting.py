"""The results of training jobs brought home: the rows, predictions and models that local runs would have left."""

import shutil
import tarfile
import tempfile
from pathlib import Path

from cnnlab.machine import atomic_file
from sagemaker_scripts import aws, common, preflight
from sagemaker_scripts.ledger import job_states

STORE = Path("runs") / "collected" / "trials"


def bring_home(name, store=STORE, models=None, region=None, profile=None, bucket=None):
    """Collect the results of the launch `name` into the folder `store`; returns the keys of their rows."""
    account = preflight.identify(aws.make_session(region, profile), bucket)
    keys, without = collect(account, name, store, models)
    print(f"rows in {store}: {len(keys)}")
    for job, reason in without.items():
        print(f"nothing from {job}: {reason}")
    if without:
        common.print_next(
            f"python sagemaker_scripts/launch_training.py --collect {name}", "again, when more have ended"
        )
    return keys


def collect(account, name, store_folder, models_folder=None):
    """Copy the rows and predictions of the completed jobs of the launch `name` into `store_folder`.

    `models_folder`: where to put the models too, as <key>.keras (None: not at all).
    Returns (keys of the rows, {job name: why nothing came from it}). Raises ScriptError where
    the launch has no jobs.
    """
    with aws.plain_errors():
        states = job_states(account, name)
        if not states:
            raise common.BadArgumentsError(
                f"no training job in {account.region} is called {name}...; see launch_training.py's last lines"
            )
        keys, without = [], {}
        for job, state in sorted(states.items()):
            description = account.client("sagemaker").describe_training_job(TrainingJobName=job)
            if state == "Completed":
                keys += _fetch(account, job, description, Path(store_folder), models_folder)
            else:
                without[job] = f"{state}: {description.get('FailureReason', 'no reason given')}".rstrip(": ")
    return keys, without


def _fetch(account, job, description, store_folder, models_folder):
    """Keys of the rows in one job's output, now in `store_folder`."""
    place = f"{description['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job}/output"
    with tempfile.TemporaryDirectory() as folder:
        trials = _unpack(account, f"{place}/output.tar.gz", Path(folder) / "output") / "trials"
        rows = sorted(trials.glob("*.json"))
        store_folder.mkdir(parents=True, exist_ok=True)
        # As Store.save does: predictions first, because the row says that all is there.
        for path in [*sorted(trials.glob("*.npz")), *rows]:
            _place(path, store_folder / path.name)
        if models_folder is not None and rows:
            model = _unpack(account, f"{place}/model.tar.gz", Path(folder) / "model") / "model.keras"
            Path(models_folder).mkdir(parents=True, exist_ok=True)
            _place(model, Path(models_folder) / f"{rows[0].stem}.keras")
    return [path.stem for path in rows]


def _unpack(account, address, folder):
    """Download and unpack the tar.gz at `address` (s3://...); returns `folder`."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    folder.mkdir()
    packed = folder.with_suffix(".tar.gz")
    account.client("s3").download_file(bucket, key, str(packed))
    with tarfile.open(packed) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _place(source, target):
    with atomic_file(target) as partial:
        shutil.copyfile(source, partial)
