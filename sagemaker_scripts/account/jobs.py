"""The data that training jobs read, checked and uploaded; and the results that they leave, downloaded."""

import dataclasses
import shutil
import tarfile
import tempfile
from pathlib import Path

from cnnlab.machine import atomic_file, variables_set
from cnnlab.wording import plural
from sagemaker_scripts import aws, common, errors
from sagemaker_scripts.resources import job_states

STORE = Path("runs") / "collected" / "trials"


@dataclasses.dataclass(frozen=True)
class Images:
    """Where the images are: at an `address` in S3, or `files` here, under `root`; with neither, jobs download them."""

    address: str | None = None
    root: Path | None = None
    files: tuple = ()

    def __str__(self):
        if self.root:
            size = sum(file.stat().st_size for file in self.files)
            return f"{plural(len(self.files), 'file')} of {self.root}, {size / 1e6:.1f} MB, checked"
        return self.address or "downloaded by each job"

    def upload(self, account, name):
        """Their s3:// address for the launch `name`, uploaded if they are local; None if there is none."""
        if not self.root:
            return self.address
        client, prefix = account.client("s3"), f"{aws.OBJECT_PREFIX}{name}/data"
        for file in self.files:
            print(f"uploading {file}", flush=True)
            client.upload_file(str(file), account.bucket, f"{prefix}/{file.relative_to(self.root).as_posix()}")
        return f"s3://{account.bucket}/{prefix}"


def find_images(given, datasets, account):
    """Images of `given`: a path, an s3:// address or None, for jobs that train on `datasets` (names).

    A path is read as a job would read it: a copy in any layout that cnnlab.data knows, or the
    lab's cache, of which only the folders of `datasets` are used. Raises BadArgumentsError, in one
    line, if that does not work, or if there is nothing at the address.
    """
    if given is None:
        return Images()
    if str(given).startswith("s3://"):
        _check_address(str(given), account)
        return Images(str(given))
    from cnnlab import data

    path = Path(given).expanduser().resolve()
    if not path.exists():
        raise common.BadArgumentsError(f"--data {given} is neither a local path nor an s3:// address")
    folders = {data.cache_name(name) for name in datasets}
    root = path.parent if path.name in folders else path
    if all((root / folder / "manifest.json").is_file() for folder in folders):
        for folder in folders:
            try:
                data.check_cached(root / folder)
            except data.BadDataError as error:
                raise common.BadArgumentsError(f"--data {root / folder}: {error}; run make data again") from None
        # Other files beside these concern this machine only.
        kinds = ("manifest.json", "*.npy")
        files = sorted(file for folder in folders for kind in kinds for file in (root / folder).glob(kind))
    else:
        for name in datasets:
            _check_copy(path, name)
        root, files = common.visible_files(path)
    return Images(root=root, files=tuple(files))


def _check_copy(path, name):
    """Load the data set `name` from the copy at `path`, as a job does."""
    from cnnlab import data

    with variables_set({data.path_variable(name): str(path)}):
        try:
            data.load(name)
        except (data.DataUnavailableError, ValueError) as error:
            # The copy comes last: an empty cache may have been tried before it.
            tried = getattr(error, "attempts", [])
            said = f"--data is not a copy of {name}: {': '.join(tried[-1])}" if tried else str(error)
            raise common.BadArgumentsError(said.splitlines()[0]) from None


def _check_address(address, account):
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    with errors.plain_errors():
        if not bucket or not account.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get(
            "Contents"
        ):
            raise common.BadArgumentsError(f"--data {address} is empty; expected a copy of the data set there")


def collect(name, access=None, store=STORE, models=None):
    """Download the rows and predictions of the launch `name` to the folder `store`; returns the rows' keys.

    `models`: where to put the models too, as <key>.keras (None: nowhere). Only completed jobs
    count; the others are named. Raises ScriptError if the launch has no jobs.
    """
    account = aws.identify(access or aws.Access())
    client = account.client("sagemaker")
    keys, without = [], {}
    with errors.plain_errors():
        states = job_states(client, name)
        if not states:
            raise common.BadArgumentsError(
                f"no training job in {account.region} is called {name}...; see the last lines of launch_training.py"
            )
        for job, state in sorted(states.items()):
            description = client.describe_training_job(TrainingJobName=job)
            if state == "Completed":
                keys += _fetch(account, job, description, Path(store), models)
            else:
                without[job] = f"{state}: {errors.failure(description)}"
    print(f"rows in {store}: {len(keys)}")
    for job, reason in without.items():
        print(f"nothing from {job}: {reason}")
    if without:
        print_collect(name, "again, when more have ended")
    return keys


def _fetch(account, job, description, store, models):
    """Download one job's output to `store`; returns the keys of its rows."""
    place = f"{description['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job}/output"
    with tempfile.TemporaryDirectory() as folder:
        trials = _unpack(account, f"{place}/output.tar.gz", Path(folder) / "output") / "trials"
        rows = sorted(trials.glob("*.json"))
        store.mkdir(parents=True, exist_ok=True)
        # Like Store.save: predictions first, because a row says that everything is there.
        for path in [*sorted(trials.glob("*.npz")), *rows]:
            _place(path, store / path.name)
        if models is not None and rows:
            model = _unpack(account, f"{place}/model.tar.gz", Path(folder) / "model") / "model.keras"
            Path(models).mkdir(parents=True, exist_ok=True)
            _place(model, Path(models) / f"{rows[0].stem}.keras")
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


def print_collect(name, when):
    """Print the command that downloads the results of the launch `name`, and `when` to run it."""
    common.print_next(f"python sagemaker_scripts/launch_training.py --collect {name}", when)
