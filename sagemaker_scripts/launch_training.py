"""Train in AWS: one trial as a training job, or a whole study as a grid tuning job or as parallel jobs.

  launch_training.py --study filters --variant cnn_32_64_128 --seed 0     one job
  launch_training.py --study filters --seeds 5                            a tuning job, a grid
  launch_training.py --study filters --seeds 5 --as-jobs --parallel 4     training jobs, four at a time
  launch_training.py --collect NAME --store results/trials                download the results

Every flag of train.py that is not listed here is passed on to it. Nothing starts until you have
seen and agreed to the most that it can cost; AWS itself stops each job after --hours.
"""

import functools
import importlib.metadata
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from cnnlab.wording import plural
from sagemaker_scripts import aws, common, errors, train
from sagemaker_scripts.account import hosting, jobs
from sagemaker_scripts.account.ledger import Ledger
from sagemaker_scripts.resources import UNFINISHED, job_states

ROOT = Path(__file__).resolve().parents[1]
INSTANCE = "ml.m5.xlarge"
# A job starts this file at the top of its code. The lab is not installed there: Python finds it beside this file.
ENTRY = "train.py"
# What ENTRY imports from this folder.
SCRIPTS = ("__init__.py", "common.py")
# What training imports and the image may lack or have in another version; TensorFlow comes with the image.
PACKAGES = ("keras", "scikit-learn", "scipy", "pandas", "pydantic", "lazy_loader", "filelock", "tqdm", "pillow")
CHANNEL = "training"
# AWS allows 32 characters for a tuning job's name, and appends its own to those of its jobs.
LABEL_CHARACTERS = 12
POLL_SECONDS = 30


def plan_runs(arguments, seeds=None):
    """What to ask of train.py, from its parsed `arguments`: [{hyperparameter: text}, ...], one dict per run.

    With a study and no variant: every variant for seeds 0 to `seeds` - 1 (None: the study's own
    number, even for variants that the record has fewer of). Returns that, and the names of the data
    sets that the runs read. Raises BadArgumentsError for whatever train.py would refuse.
    """
    names = {"study", "variant", "label", *train.TRIAL_FIELDS, *train.MODEL_OPTIONS}
    given = {name: _text(value) for name, value in vars(arguments).items() if name in names and value is not None}
    if arguments.study is None or arguments.variant is not None:
        return [given], {train.make_trial(arguments).dataset}
    from cnnlab import studies

    try:
        study = studies.find_study(arguments.study)
    except ValueError as error:
        raise common.BadArgumentsError(str(error)) from error
    if arguments.seed is not None:
        raise common.BadArgumentsError("--seed is for one run; a whole study takes --seeds COUNT")
    trials = study.runs(seeds or study.seeds)
    runs = [{**given, "variant": trial.label, "seed": str(trial.seed)} for trial in trials]
    return runs, {arguments.dataset or trial.dataset for trial in trials}


def launch(
    arguments, access=None, seeds=None, as_jobs=False, parallel=2, data=None, instance=INSTANCE, hours=1.0, spot=False,
    yes=False, dry_run=False, poll=POLL_SECONDS,
):  # fmt: skip
    """Start what `arguments` (parsed by train.py's parser) describe; see `plan_runs`.

    `access`: an `aws.Access`; `as_jobs`: several runs as training jobs instead of one tuning job;
    `parallel`: how many at a time; `data`: a local file or folder in a layout that cnnlab knows,
    the lab's cache, or an s3:// address (None: each job downloads it); `hours`: after which AWS
    stops a job; `spot`: on spare capacity, cheaper, stopped and resumed as AWS sees fit.
    Returns the launch's name, or None after a dry run. Raises common.ScriptError with one line.
    """
    runs, datasets = plan_runs(arguments, seeds)
    grid = len(runs) > 1 and not as_jobs
    account = aws.check_account(access or aws.Access())
    images = jobs.find_images(data, datasets, account)
    name = launch_name(arguments.study or arguments.label or train.LABEL)
    _print_plan(account, name, runs, grid, parallel, images, instance, hours)
    if dry_run:
        print("dry run: nothing was started")
        return None
    common.confirm("Start this?", yes, "nothing was started")
    with tempfile.TemporaryDirectory() as source, errors.plain_errors(), Ledger(account) as ledger:
        stage_source(Path(source) / "source")
        ledger.ensure_bucket()
        # Deleted again unless a job that needs them starts.
        ledger.note("objects", f"{account.bucket}/{name}")
        ledger.note("objects", f"{account.bucket}/{aws.OBJECT_PREFIX}{name}")
        address = images.upload(account, name)
        trainer = functools.partial(make_trainer, account, name, Path(source) / "source", instance, hours, spot)
        if grid:
            ledger.note("tuning job", name)
            fixed = {key: value for key, value in runs[0].items() if key not in ("variant", "seed")}
            values = {key: list(dict.fromkeys(run[key] for run in runs)) for key in ("variant", "seed")}
            start_grid(trainer(fixed), name, values, parallel, address)
            ledger.keep()
        else:
            _start_jobs(ledger, name, runs, parallel, trainer, address, poll)
    jobs.print_collect(name, "when the jobs have ended")
    return name


def launch_name(label):
    """A name for one launch, at most 30 characters, with which all its jobs' names start."""
    slug = "".join(letter if letter.isalnum() else "-" for letter in label.lower())[:LABEL_CHARACTERS].strip("-")
    return f"{aws.PREFIX}{slug}-{datetime.now(UTC):%m%d%H%M%S}"


def stage_source(folder):
    """Copy what a job runs into `folder`, which is created.

    train.py, the packages cnnlab and sagemaker_scripts beside it, and requirements.txt with this
    machine's versions.
    """
    folder = Path(folder)
    shutil.copytree(ROOT / "cnnlab", folder / "cnnlab", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "sagemaker_scripts").mkdir()
    for name in SCRIPTS:
        shutil.copy(ROOT / "sagemaker_scripts" / name, folder / "sagemaker_scripts")
    shutil.copy(ROOT / "sagemaker_scripts" / "train.py", folder / ENTRY)
    lines = [f"{name}=={importlib.metadata.version(name)}\n" for name in PACKAGES]
    (folder / "requirements.txt").write_text("".join(lines), encoding="utf-8")


def make_trainer(account, name, source, instance, hours, spot, hyperparameters, job=""):
    """A ModelTrainer for the launch `name`, with `source` (see `stage_source`) and `hyperparameters`, {name: text}.

    `instance`, `hours`, `spot`: as in `launch`; `job`: tells this job from the launch's others.
    """
    os.environ.setdefault("SAGEMAKER_VALIDATE_ROLE", "false")  # Validation asks IAM, which labs do not allow.
    from sagemaker.core.training import configs
    from sagemaker.train import ModelTrainer

    aws.quieten_sdk()
    seconds, access = int(hours * 3600), account.access
    place = f"s3://{account.bucket}/{aws.OBJECT_PREFIX}{name}"
    trainer = ModelTrainer(
        sagemaker_session=_sdk_session(account),
        role=account.role,
        base_job_name=f"{name}-{job}" if job else name,
        training_image=hosting.image_uri("training", account.region, instance),
        source_code=configs.SourceCode(source_dir=str(source), entry_script=ENTRY, requirements="requirements.txt"),
        compute=configs.Compute(
            instance_type=instance, instance_count=1, enable_managed_spot_training=spot or None,
            volume_kms_key_id=access.volume_key(instance),
        ),
        networking=configs.Networking(
            subnets=list(access.subnets), security_group_ids=list(access.security_groups)
        ) if access.subnets else None,
        stopping_condition=configs.StoppingCondition(
            max_runtime_in_seconds=seconds, **({"max_wait_time_in_seconds": 2 * seconds} if spot else {})
        ),
        output_data_config=configs.OutputDataConfig(s3_output_path=place, kms_key_id=access.kms_key),
        checkpoint_config=configs.CheckpointConfig(
            s3_uri="/".join(filter(None, [place, "checkpoints", job])), local_path=str(train.JOB_CHECKPOINTS)
        ),
        hyperparameters=dict(hyperparameters),
        tags=[configs.Tag(key=aws.TAG["Key"], value=aws.TAG["Value"])],
    )  # fmt: skip
    return trainer.with_metric_definitions(
        [configs.MetricDefinition(name=item["Name"], regex=item["Regex"]) for item in train.METRIC_DEFINITIONS]
    )


def start_job(trainer, data=None):
    """Start one training job, reading its images from `data` (s3://...); returns its name."""
    trainer.train(input_data_config=_inputs(data), wait=False, logs=False)
    if trainer._latest_training_job is None:  # The SDK swallows Ctrl-C, and returns as if nothing had happened.
        raise KeyboardInterrupt
    return trainer._latest_training_job.training_job_name


def start_grid(trainer, name, grid, parallel, data=None):
    """Start the tuning job `name`: every combination in `grid`, {hyperparameter: [text, ...]}, once.

    `parallel`: jobs at a time.
    """
    from sagemaker.core.parameter import CategoricalParameter
    from sagemaker.train.tuner import HyperparameterTuner

    tuner = HyperparameterTuner(
        trainer,
        objective_metric_name=train.OBJECTIVE,
        metric_definitions=train.METRIC_DEFINITIONS,
        hyperparameter_ranges={key: CategoricalParameter(values) for key, values in grid.items()},
        strategy="Grid",
        max_parallel_jobs=parallel,
        tags=list(aws.TAGS),
    )
    tuner.tune(inputs=_inputs(data), job_name=name, wait=False)


def _start_jobs(ledger, name, runs, parallel, trainer, address, poll):
    """Start `runs` as training jobs, `parallel` at a time; after an error, jobs that have started go on."""
    ledger.note("training jobs", name)
    try:
        for number, run in enumerate(runs):
            while number >= parallel and _running(ledger.account, name) >= parallel:
                time.sleep(poll)
            job = start_job(trainer(run, f"{number:03d}"), address)
            ledger.keep()
            print(f"started {number + 1}/{len(runs)}: {job}", flush=True)
    except BaseException:
        if not ledger.entries:
            print("the jobs that have started go on; cleanup.py stops them", flush=True)
            jobs.print_collect(name, "when they have ended")
        raise


def _running(account, name):
    return sum(state in UNFINISHED for state in job_states(account.client("sagemaker"), name).values())


@functools.lru_cache(maxsize=4)
def _sdk_session(account):
    from sagemaker.core.helper.session_helper import Session

    # The SDK creates its own clients, which would not check the bucket's owner.
    account.guard(account.session.events)
    return Session(
        boto_session=account.session, sagemaker_config=aws.SDK_CONFIG,
        default_bucket=account.bucket, default_bucket_prefix=aws.OBJECT_PREFIX.rstrip("/"),
    )  # fmt: skip


def _inputs(data):
    from sagemaker.core.training.configs import InputData

    return [InputData(channel_name=CHANNEL, data_source=data)] if data else None


def _print_plan(account, name, runs, grid, parallel, images, instance, hours):
    form = "a grid tuning job" if grid else "training jobs" if len(runs) > 1 else "a training job"
    at_once = f", {min(parallel, len(runs))} at a time" if len(runs) > 1 else ""
    account.print_place()
    print(f"launch:   {name}: {plural(len(runs), 'run')} as {form}{at_once}, stopped after {hours:g} h each")
    print(f"data:     {images}")
    print(f"price:    {hosting.price(instance, account.region, hours * len(runs), 'in all')}", flush=True)


def _text(value):
    """A hyperparameter's value as train.py reads it back."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def make_parser():
    parser = common.parser(__doc__)
    parser.add_argument("--seeds", type=int, help="seeds of a whole study; default: the study's own, for all variants")
    parser.add_argument("--as-jobs", action="store_true", help="a whole study as training jobs, not as a tuning job")
    parser.add_argument("--parallel", type=int, default=2, help="jobs at a time; default: %(default)s")
    parser.add_argument(
        "--data", help="path of a copy or of the cache, or an s3:// address; default: each job downloads it"
    )
    parser.add_argument("--instance", default=INSTANCE, help="default: %(default)s")
    parser.add_argument("--hours", type=float, default=1.0, help="hours until AWS stops a job; default: %(default)s")
    parser.add_argument("--spot", action="store_true", help="on spare capacity: cheaper, may be stopped and resumed")
    aws.Access.add_flags(parser)
    parser.add_argument("--yes", action="store_true", help="agree to the price")
    parser.add_argument("--dry-run", action="store_true", help="only print the plan")
    parser.add_argument("--collect", metavar="NAME", help="download the results of a launch, and start nothing")
    parser.add_argument(
        "--store", type=Path, default=jobs.STORE, help="where --collect puts rows; default: %(default)s"
    )
    parser.add_argument("--models", type=Path, help="where --collect puts models; default: nowhere")
    return parser


def main(argv=None):
    own, rest = make_parser().parse_known_args(argv)
    access = aws.Access.of(own)
    if own.collect:
        jobs.collect(own.collect, access, own.store, own.models)
        return common.EXIT_DONE
    if own.parallel < 1 or own.hours <= 0 or (own.seeds is not None and own.seeds < 1):
        raise common.BadArgumentsError("--parallel, --hours and --seeds must be positive")
    launch(
        train.make_parser().parse_args(rest), access, own.seeds, own.as_jobs, own.parallel, own.data, own.instance,
        own.hours, own.spot, own.yes, own.dry_run,
    )  # fmt: skip
    return common.EXIT_DONE


if __name__ == "__main__":
    sys.exit(common.run(main))
