"""launch_training.py: what AWS is asked to run is what would run here, and its results come home."""

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import aws_rehearsal
import numpy as np
import pytest

from cnnlab import data, studies
from cnnlab.studies import Store
from sagemaker_scripts import aws, common, launch_training, train
from sagemaker_scripts.account import jobs

BUCKET = f"sagemaker-{aws_rehearsal.REGION}-{aws_rehearsal.NUMBER}"
ARGUMENTS = ["--yes", "--role", aws_rehearsal.ROLE]
ACCESS = aws.Access(role=aws_rehearsal.ROLE)
# Import names of what launch_training.PACKAGES installs under other ones, and what the image brings along.
IMPORTED_AS = {"sklearn": "scikit-learn", "PIL": "pillow"}
# Of the image; what Keras and scikit-learn bring with them; what one shape of a copy of CIFAR-10 asks for, if it comes.
IN_THE_IMAGE = {"numpy", "tensorflow", "h5py", "threadpoolctl", "pyarrow"}


@pytest.fixture
def account(monkeypatch):
    with aws_rehearsal.account(monkeypatch) as rehearsal:
        yield rehearsal


@pytest.fixture
def small_source(monkeypatch):
    """Jobs that carry two files: what all of them is, has a test of its own."""

    def stage(folder):
        (folder / "sagemaker_scripts").mkdir(parents=True)
        (folder / launch_training.ENTRY).touch()
        (folder / "requirements.txt").touch()

    monkeypatch.setattr(launch_training, "stage_source", stage)


def launched(account):
    """Descriptions of all training jobs in the account, in order."""
    client = account.client("sagemaker")
    names = [job["TrainingJobName"] for job in client.list_training_jobs()["TrainingJobSummaries"]]
    return [client.describe_training_job(TrainingJobName=name) for name in sorted(names)]


@functools.cache
def driver():
    """The module of the SDK's driver that makes a command line of hyperparameters."""
    sdk = Path(importlib.util.find_spec("sagemaker.train").origin).parent
    spec = importlib.util.spec_from_file_location("utils", sdk / "container_drivers" / "common" / "utils.py")
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    return utils


def trial_of(hyperparameters):
    """The Trial that a job would train: through the SDK driver's own code, as in the container."""
    words = driver().hyperparameters_to_cli_args(hyperparameters)
    return train.make_trial(train.make_parser().parse_args([train._spelled(word) for word in words]))


def test_one_job_carries_the_trial_the_code_and_the_limits(account, capsys):
    flags = [
        "--filters",
        "16,32",
        "--learning-rate",
        "0.002",
        "--class-weights",
        "true",
        "--label",
        "mine",
        "--seed",
        "2",
    ]
    account.client("s3").create_bucket(Bucket="copies")
    account.client("s3").put_object(Bucket="copies", Key="cifar/a.npz", Body=b"x")
    assert launch_training.main([*ARGUMENTS, *flags, "--hours", "2", "--data", "s3://copies/cifar", "--spot"]) == 0
    (job,) = launched(account)
    expected = train.make_trial(train.make_parser().parse_args(flags))
    assert trial_of(job["HyperParameters"]) == expected and expected.class_weights
    assert job["AlgorithmSpecification"]["TrainingImage"].endswith("/tensorflow-training:2.21-cpu-py312")
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 14400}
    assert job["EnableManagedSpotTraining"]
    channels = {c["ChannelName"]: c["DataSource"]["S3DataSource"]["S3Uri"] for c in job["InputDataConfig"]}
    assert set(channels) == {"training", "code", "sm_drivers"} and channels["training"] == "s3://copies/cifar"
    assert job["CheckpointConfig"]["LocalPath"] == str(train.JOB_CHECKPOINTS)
    assert account.client("sagemaker").list_tags(ResourceArn=job["TrainingJobArn"])["Tags"] == aws.TAGS
    uploaded = " ".join(account.left())
    assert "input/code/train.py" in uploaded and "input/code/cnnlab/training/loop.py" in uploaded
    printed = capsys.readouterr().out
    assert "ml.m5.xlarge costs about $0.230 an hour" in printed and "at most $0.46 in all" in printed
    assert f"next: python sagemaker_scripts/launch_training.py --collect {aws.PREFIX}mine-" in printed


def test_a_key_and_a_vpc_reach_the_job_and_every_upload_names_the_buckets_owner(monkeypatch, small_source):
    with aws_rehearsal.account(monkeypatch, fresh=True) as account:
        access = aws.Access(None, None, None, aws_rehearsal.ROLE, "1234abcd", ("subnet-0a",), ("sg-0a",))
        launch_training.launch(train.make_parser().parse_args(["--epochs", "1"]), access, yes=True)
        (job,) = launched(account)
        launch_training.launch(train.make_parser().parse_args(["--study", "epochs"]), access, seeds=1, yes=True)
        puts = [arguments for _, call, arguments in account.record if call == "PutObject"]
    assert job["VpcConfig"] == {"Subnets": ["subnet-0a"], "SecurityGroupIds": ["sg-0a"]}
    assert job["OutputDataConfig"]["KmsKeyId"] == job["ResourceConfig"]["VolumeKmsKeyId"] == "1234abcd"
    # By the SDK's own clients, of which a tuning job has another one.
    assert any(put["Key"].endswith("sourcedir.tar.gz") for put in puts) and len(puts) > 10
    for put in puts:
        assert (put["ExpectedBucketOwner"], put["SSEKMSKeyId"]) == (aws_rehearsal.NUMBER, "1234abcd"), put["Key"]


@pytest.fixture(scope="module")
def lab_cache(tmp_path_factory):
    """A cache as `make data` leaves it: a (tiny) CIFAR-10, Mars at two sizes, and what is no data."""
    root = tmp_path_factory.mktemp("cache")
    for folder, names in {
        "cifar10": ("x_train", "y_train", "x_test", "y_test"), "mars-224-letterbox": ("images", "listing"),
        "mars-64-letterbox": ("images", "listing"),
    }.items():  # fmt: skip
        (root / folder).mkdir()
        manifest = {"origin": {"pillow": "1"}} if folder.startswith("mars") else {}
        for number, name in enumerate(names):
            array = np.full((2, 3), number, "uint8")
            np.save(root / folder / f"{name}.npy", array)
            manifest[name] = {"sha256": hashlib.sha256(array.tobytes()).hexdigest()}
        (root / folder / "manifest.json").write_text(json.dumps(manifest))
        (root / folder / "verified.json").write_text("{}")
    (root / "pip").mkdir()
    (root / "pip" / "large.whl").write_bytes(b"0" * 1000)
    return root


@pytest.mark.parametrize(
    ("given", "study", "folders"),
    [
        (".", "epochs", {"cifar10"}),
        ("cifar10", "epochs", {"cifar10"}),
        (".", "mars_kernels", {"mars-64-letterbox"}),
        ("mars-64-letterbox", "mars_ladder", {"mars-64-letterbox", "mars-224-letterbox"}),
    ],
)
def test_of_the_labs_cache_only_the_data_set_is_uploaded_and_train_finds_it(
    given, study, folders, account, small_source, lab_cache, tmp_path, monkeypatch
):
    arguments = [*ARGUMENTS, "--study", study, "--seeds", "1", "--data", str(lab_cache / given)]
    assert launch_training.main(arguments) == 0
    keys = [line.removeprefix("object ") for line in account.left() if "/data/" in line]
    assert {key.split("/data/")[1].split("/")[0] for key in keys} == folders
    names = {Path(key).name for key in keys}
    assert "manifest.json" in names and "verified.json" not in names
    (name,) = {key.split("/")[1] for key in keys}
    definition = json.loads(account.sent["CreateHyperParameterTuningJob"]["body"])["TrainingJobDefinition"]
    channels = {c["ChannelName"]: c["DataSource"]["S3DataSource"]["S3Uri"] for c in definition["InputDataConfig"]}
    assert channels["training"] == f"s3://{BUCKET}/cnnlab/{name}/data"

    seen, trial = [], studies.find_study(study).trials[0]
    variable = data.path_variable(trial.dataset)
    monkeypatch.setenv("CNNLAB_CACHE", "before")
    monkeypatch.setenv(variable, "before")
    monkeypatch.setattr(data, "load", lambda name, seed: seen.append(os.environ["CNNLAB_CACHE"]))
    train.load_data(trial, {"SM_CHANNEL_TRAINING": str(lab_cache)})
    assert seen == [str(lab_cache)] and variable not in os.environ


def damaged(root, folder):
    (root / folder / "x_train.npy").write_bytes(b"\x93NUMPY")
    return root / folder


def changed(root, folder):
    np.save(root / folder / "x_train.npy", np.zeros((2, 3), "uint8") + 9)
    return root / folder


def not_a_copy(root, folder):
    (root / "notes").mkdir()
    (root / "notes" / "a.txt").write_text("hello")
    return root / "notes"


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (damaged, "x_train.npy is missing or damaged"),
        (changed, "do not match its manifest.json"),
        (not_a_copy, "--data is not a copy of cifar10"),
        (lambda root, folder: root / "nowhere", "neither a local path nor an s3:// address"),
        (lambda root, folder: f"s3://{BUCKET}/none", "is empty; expected a copy of the data set"),
    ],
)
def test_data_that_no_job_could_read_is_refused_before_anything_is_uploaded(
    make, words, dry, account, small_source, lab_cache, tmp_path, capsys
):
    account.client("s3").create_bucket(Bucket=BUCKET)
    shutil.copytree(lab_cache, tmp_path / "cache")
    given = make(tmp_path / "cache", "cifar10")
    arguments = [*ARGUMENTS, "--study", "epochs", "--data", str(given), *(["--dry-run"] if dry else [])]
    assert common.run(launch_training.main, arguments) == common.EXIT_BAD_ARGUMENTS
    shown = capsys.readouterr().err
    assert words in shown and shown.count("\n") == 1
    assert account.left() == [f"bucket {BUCKET}"]


def test_of_data_that_are_no_copy_it_is_said_what_is_wrong_with_them_where_the_cache_is_empty(
    account, small_source, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CNNLAB_CACHE", str(tmp_path / "empty"))
    arguments = [*ARGUMENTS, "--study", "epochs", "--data", str(not_a_copy(tmp_path, "cifar10")), "--dry-run"]
    assert common.run(launch_training.main, arguments) == common.EXIT_BAD_ARGUMENTS
    shown = capsys.readouterr().err
    assert f"not a copy of cifar10: the path that you named, {tmp_path / 'notes'}: " in shown
    assert "holds no CIFAR-10 among 1 file\n" in shown


def test_a_copy_in_another_shape_is_checked_as_a_job_would_read_it_and_uploaded(
    account, small_source, tmp_path, monkeypatch
):
    (tmp_path / "copy").mkdir()
    np.savez(tmp_path / "copy" / "cifar10.npz", x_train=np.zeros((1, 32, 32, 3), "uint8"))
    (tmp_path / "copy" / ".hidden").touch()
    seen = []
    monkeypatch.setattr(data, "load", lambda name, seed=0: seen.append((name, os.environ["CNNLAB_CIFAR10"])))
    monkeypatch.delenv("CNNLAB_CIFAR10", raising=False)
    assert launch_training.main([*ARGUMENTS, "--epochs", "1", "--data", str(tmp_path / "copy")]) == 0
    assert seen == [("cifar10", str(tmp_path / "copy"))] and "CNNLAB_CIFAR10" not in os.environ
    assert sum("/data/" in line for line in account.left()) == 1


@pytest.mark.parametrize("call", ["CreateBucket", "PutObject", "CreateTrainingJob"])
def test_credentials_that_expire_half_way_leave_what_is_said(call, account, small_source, capsys):
    account.expire(call)
    with pytest.raises(common.DeniedError, match="expired"):
        launch_training.main([*ARGUMENTS, "--epochs", "1"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOT deleted: ")]
    named = {line.split(" (")[0].removeprefix("NOT deleted: ") for line in lines}
    sure = {line for line in named if "if there are any" not in line}
    assert sure == {line for line in account.left() if line.startswith("bucket")}
    if any(line.startswith("object") for line in account.left()):
        assert any(line.startswith("objects") for line in named)


@pytest.mark.parametrize("name", studies.STUDIES)
def test_every_trial_of_every_study_survives_the_way_into_a_job(name):
    arguments = train.make_parser().parse_args(["--study", name])
    runs, _ = launch_training.plan_runs(arguments, seeds=2)
    assert [trial_of(run) for run in runs] == studies.find_study(name).runs(2)


def test_a_study_is_a_grid_of_variants_and_seeds(account, small_source):
    arguments = [*ARGUMENTS, "--study", "sample_size", "--seeds", "3", "--parallel", "4", "--epochs", "1"]
    assert launch_training.main(arguments) == 0
    client = account.client("sagemaker")
    (name,) = [
        job["HyperParameterTuningJobName"]
        for job in client.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"]
    ]
    assert len(name) <= 32
    job = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    config, definition = job["HyperParameterTuningJobConfig"], job["TrainingJobDefinition"]
    grid = {item["Name"]: item["Values"] for item in config["ParameterRanges"]["CategoricalParameterRanges"]}
    assert config["Strategy"] == "Grid" and config["ResourceLimits"] == {"MaxParallelTrainingJobs": 4}
    fixed = {k: v for k, v in definition["StaticHyperParameters"].items() if not k.startswith("sagemaker_")}
    trials = [trial_of({**fixed, "variant": v, "seed": s}) for s in grid["seed"] for v in grid["variant"]]
    assert trials == [dataclasses.replace(trial, epochs=1) for trial in studies.find_study("sample_size").runs(3)]
    objective = config["HyperParameterTuningJobObjective"]["MetricName"]
    assert objective in {item["Name"] for item in definition["AlgorithmSpecification"]["MetricDefinitions"]}
    assert definition["StaticHyperParameters"]["sagemaker_program"] == launch_training.ENTRY


def test_parallel_jobs_wait_for_each_other(account, small_source):
    running, most = [2, 2, 1, 0], []

    def busy(answer):
        answer["TrainingJobSummaries"] = answer["TrainingJobSummaries"][: running[0] if running else 0]
        for job in answer["TrainingJobSummaries"]:
            job["TrainingJobStatus"] = "InProgress"
        most.append(running.pop(0) if running else 0)

    account.change("ListTrainingJobs", busy)
    arguments = train.make_parser().parse_args(["--study", "epochs"])
    launch_training.launch(arguments, ACCESS, 2, as_jobs=True, parallel=2, yes=True, poll=0)
    account.changes.clear()
    assert most[:3] == [2, 2, 1]  # the third job waited twice
    assert [trial_of(job["HyperParameters"]) for job in launched(account)] == studies.find_study("epochs").runs(2)


@pytest.mark.parametrize("kind", ["denied", "interrupted"])
@pytest.mark.parametrize("call", ["CreateTrainingJob", "CreateHyperParameterTuningJob", "PutObject"])
def test_a_launch_that_fails_leaves_nothing(call, kind, account, small_source):
    account.fail(call, kind)
    arguments = [
        *ARGUMENTS,
        "--study",
        "epochs",
        "--seeds",
        "1",
        *(["--as-jobs"] if call == "CreateTrainingJob" else []),
    ]
    code = common.run(launch_training.main, arguments)
    assert code == {"denied": common.EXIT_DENIED, "interrupted": common.EXIT_INTERRUPTED}.get(kind, common.EXIT_FAILED)
    assert call in account.calls
    assert [item for item in account.left() if not item.startswith("bucket")] == []


def test_a_job_whose_answer_was_lost_is_stopped(account, small_source):
    account.fail("CreateTrainingJob", "throttled", after=True)
    account.replies["StopTrainingJob"] = {}
    account.change(
        "ListTrainingJobs", lambda a: [j.update(TrainingJobStatus="InProgress") for j in a["TrainingJobSummaries"]]
    )
    assert common.run(launch_training.main, [*ARGUMENTS, "--epochs", "1"]) == common.EXIT_FAILED
    assert "StopTrainingJob" in account.calls


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--study", "none"], "no study is called 'none'"),
        (["--study", "epochs", "--seed", "1"], "a whole study takes --seeds COUNT"),
        (["--epochs", "0"], "epochs is 0"),
        (["--parallel", "0"], "must be positive"),
    ],
)
def test_bad_arguments_start_nothing(flags, message, account, capsys):
    assert common.run(launch_training.main, [*ARGUMENTS, *flags]) == common.EXIT_BAD_ARGUMENTS
    assert message in capsys.readouterr().err
    assert account.left() == []


def test_a_flag_that_nobody_knows_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        launch_training.main(["--epoch-count", "3"])
    assert ended.value.code == common.EXIT_BAD_ARGUMENTS


def test_the_plan_starts_nothing(account, capsys):
    assert launch_training.main(["--role", "r", "--study", "filters", "--seeds", "2", "--dry-run"]) == 0
    assert "8 runs as a grid tuning job, 2 at a time" in capsys.readouterr().out
    assert account.left() == []


def test_results_come_home_as_local_rows(account, small_source, tmp_path, bars_dataset, capsys):
    flags = ["--dataset", "bars", "--model", "dense", "--units", "8,4", "--epochs", "1"]
    assert launch_training.main([*ARGUMENTS, *flags]) == 0
    (job,) = launched(account)
    trial = trial_of(job["HyperParameters"])
    row = train.train(trial, tmp_path / "output", tmp_path / "model", tmp_path / "checkpoints", bars_dataset)
    for part in ("output", "model"):
        upload(account, job, tmp_path / part)
    name = capsys.readouterr().out.split("--collect ")[1].split()[0]
    home = tmp_path / "home"
    arguments = ["--collect", name, "--store", str(home / "trials"), "--models", str(home / "models")]
    assert launch_training.main(arguments) == 0
    assert "trials: 1\n" in capsys.readouterr().out

    made, store = Store(tmp_path / "output" / "trials"), Store(home / "trials")
    assert store.row(trial) == made.row(trial) == row
    for name, values in made.predictions(row["key"]).items():
        np.testing.assert_array_equal(store.predictions(row["key"])[name], values)
    assert (home / "models" / f"{row['key']}.keras").read_bytes() == (tmp_path / "model" / "model.keras").read_bytes()


def test_jobs_that_gave_nothing_are_named(account, small_source, tmp_path, capsys):
    launch = launch_training.launch(train.make_parser().parse_args(["--epochs", "1"]), ACCESS, yes=True)
    account.change(
        "ListTrainingJobs", lambda a: [j.update(TrainingJobStatus="Failed") for j in a["TrainingJobSummaries"]]
    )
    account.change("DescribeTrainingJob", lambda answer: answer.update(FailureReason="kernel_size 2 is even"))
    assert jobs.collect(launch, store=tmp_path) == []
    assert "Failed: kernel_size 2 is even" in capsys.readouterr().out
    with pytest.raises(common.BadArgumentsError, match="no training job in us-east-1 is called cnnlab-none"):
        jobs.collect("cnnlab-none", store=tmp_path)


def upload(account, job, folder):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder, arcname=".")
    place = f"{job['OutputDataConfig']['S3OutputPath']}/{job['TrainingJobName']}/output/{folder.name}.tar.gz"
    key = place.removeprefix(f"s3://{BUCKET}/")
    account.client("s3").put_object(Bucket=BUCKET, Key=key, Body=packed.getvalue())


def test_a_job_installs_all_that_training_imports(tmp_path):
    launch_training.stage_source(tmp_path / "source")
    required = {line.split("==")[0] for line in (tmp_path / "source" / "requirements.txt").read_text().split()}
    needed = third_party(tmp_path / "source", Path(launch_training.ENTRY).stem)
    assert {IMPORTED_AS.get(name, name) for name in needed} - IN_THE_IMAGE <= required
    assert {"keras", "pydantic", "scipy"} <= needed, "it did not look into the rooms"


def test_a_job_finds_the_packages_beside_its_script_with_nothing_installed(tmp_path):
    launch_training.stage_source(tmp_path / "source")
    # Without the site module no editable install of the packages is seen, only the libraries named here.
    libraries = os.pathsep.join(folder for folder in sys.path if folder.endswith("-packages"))
    run = subprocess.run(
        [sys.executable, "-S", tmp_path / "source" / launch_training.ENTRY, "--study", "none"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": libraries}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == common.EXIT_BAD_ARGUMENTS
    assert "error: no study is called 'none'" in run.stderr


def third_party(source, module):
    """Top-level packages that `module` and all it imports from `source` import, at any depth."""
    seen, waiting, found = set(), [module], set()
    while waiting:
        name = waiting.pop()
        path = source / Path(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not path.is_file():
            continue
        seen.add(name)
        text = path.read_text(encoding="utf-8")
        if "lazy_loader" in text and name != "cnnlab":  # A room's front, which loads its files when they are asked for.
            waiting += [f"{name}.{each.stem}" for each in path.parent.glob("*.py")]
        for node in ast.walk(ast.parse(text)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            waiting += [name for name in names if (source / name.split(".")[0]).is_dir()]
            found |= {name.split(".")[0] for name in names if not (source / name.split(".")[0]).is_dir()}
    return found - set(sys.stdlib_module_names)


def test_hyperparameters_are_text_as_aws_demands():
    arguments = train.make_parser().parse_args(["--units", "[64, 32]", "--model", "dense", "--dropout", "0.5"])
    (run,), _ = launch_training.plan_runs(arguments)
    assert run == {"model": "dense", "units": "64,32", "dropout": "0.5"}
    assert json.loads(json.dumps(run)) == run
