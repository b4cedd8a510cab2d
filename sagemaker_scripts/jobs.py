"""Training jobs in AWS: the code that they carry, one job, and a grid of them as a tuning job."""

import functools
import importlib.metadata
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from sagemaker_scripts import aws, preflight
from sagemaker_scripts.train import JOB_CHECKPOINTS, METRIC_DEFINITIONS, OBJECTIVE

ROOT = Path(__file__).resolve().parents[1]
ENTRY = "sagemaker_scripts/train.py"
SCRIPTS = ("__init__.py", "common.py", "train.py")
# What the training path imports and the image may lack or have in another version; TensorFlow is the image's.
PACKAGES = ("keras", "scikit-learn", "pandas", "filelock", "tqdm", "pillow")
CHANNEL = "training"
# AWS allows 32 characters for a tuning job, and adds its own to the jobs within.
LABEL_CHARACTERS = 12


def launch_name(label):
    """A name for one launch, at most 30 characters: its jobs' names all start with it."""
    slug = "".join(letter if letter.isalnum() else "-" for letter in label.lower())[:LABEL_CHARACTERS].strip("-")
    return f"{aws.PREFIX}{slug}-{datetime.now(UTC):%m%d%H%M%S}"


def stage_source(folder):
    """Copy what a job runs into `folder`: cnnlab, train.py, and requirements with the versions of this machine."""
    folder = Path(folder)
    shutil.copytree(ROOT / "cnnlab", folder / "cnnlab", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "sagemaker_scripts").mkdir()
    for name in SCRIPTS:
        shutil.copy(ROOT / "sagemaker_scripts" / name, folder / "sagemaker_scripts")
    lines = [f"{name}=={importlib.metadata.version(name)}\n" for name in PACKAGES]
    (folder / "requirements.txt").write_text("".join(lines), encoding="utf-8")


def make_trainer(account, launch, source, hyperparameters, job="", instance="ml.m5.xlarge", hours=1.0, spot=False):
    """A ModelTrainer for `source` (see `stage_source`) with `hyperparameters`, {name: text}.

    `job`: what tells this job from others of the launch; `hours`: after which AWS stops it;
    `spot`: on spare capacity, cheaper, stopped and resumed as AWS likes.
    """
    os.environ.setdefault("SAGEMAKER_VALIDATE_ROLE", "false")  # It asks IAM, which labs do not allow.
    from sagemaker.core.training import configs
    from sagemaker.train import ModelTrainer

    aws.quieten_sdk()
    seconds = int(hours * 3600)
    place = f"s3://{account.bucket}/{aws.OBJECT_PREFIX}{launch}"
    trainer = ModelTrainer(
        sagemaker_session=_sdk_session(account),
        role=account.role,
        base_job_name=f"{launch}-{job}" if job else launch,
        training_image=preflight.image_uri("training", account.region, instance),
        source_code=configs.SourceCode(source_dir=str(source), entry_script=ENTRY, requirements="requirements.txt"),
        compute=configs.Compute(instance_type=instance, instance_count=1, enable_managed_spot_training=spot or None),
        stopping_condition=configs.StoppingCondition(
            max_runtime_in_seconds=seconds, **({"max_wait_time_in_seconds": 2 * seconds} if spot else {})
        ),
        output_data_config=configs.OutputDataConfig(s3_output_path=place),
        checkpoint_config=configs.CheckpointConfig(
            s3_uri="/".join(filter(None, [place, "checkpoints", job])), local_path=str(JOB_CHECKPOINTS)
        ),
        hyperparameters=dict(hyperparameters),
        tags=[configs.Tag(**tag) for tag in aws.tags(upper=False)],
    )  # fmt: skip
    return trainer.with_metric_definitions(
        [configs.MetricDefinition(name=item["Name"], regex=item["Regex"]) for item in METRIC_DEFINITIONS]
    )


def start_job(trainer, data=None):
    """Start one training job, reading its images from `data` (s3://...); returns its name."""
    trainer.train(input_data_config=_inputs(data), wait=False, logs=False)
    if trainer._latest_training_job is None:  # The SDK swallows Ctrl-C, and returns as if nothing had happened.
        raise KeyboardInterrupt
    return trainer._latest_training_job.training_job_name


def start_grid(trainer, launch, grid, parallel, data=None):
    """Start a tuning job that trains every combination in `grid`, {hyperparameter: [text, ...]}, once.

    `parallel`: jobs at a time. Returns its name, which is `launch`.
    """
    from sagemaker.core.parameter import CategoricalParameter
    from sagemaker.train.tuner import HyperparameterTuner

    tuner = HyperparameterTuner(
        trainer,
        objective_metric_name=OBJECTIVE,
        metric_definitions=METRIC_DEFINITIONS,
        hyperparameter_ranges={name: CategoricalParameter(values) for name, values in grid.items()},
        strategy="Grid",
        max_parallel_jobs=parallel,
        tags=aws.tags(),
    )
    tuner.tune(inputs=_inputs(data), job_name=launch, wait=False)
    return launch


@functools.lru_cache(maxsize=4)
def _sdk_session(account):
    from sagemaker.core.helper.session_helper import Session

    return Session(
        boto_session=account.session, sagemaker_config=aws.SDK_CONFIG,
        default_bucket=account.bucket, default_bucket_prefix=aws.OBJECT_PREFIX.rstrip("/"),
    )  # fmt: skip


def _inputs(data):
    from sagemaker.core.training.configs import InputData

    return [InputData(channel_name=CHANNEL, data_source=data)] if data else None
