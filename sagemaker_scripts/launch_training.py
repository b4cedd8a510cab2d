"""Train in AWS: one trial as a training job, or a whole study as a grid tuning job or as parallel jobs.

  launch_training.py --study filters --variant cnn_32_64_128 --seed 0     one job
  launch_training.py --study filters --seeds 5                            a tuning job, a grid
  launch_training.py --study filters --seeds 5 --as-jobs --parallel 4     training jobs, four at a time
  launch_training.py --collect NAME --store results/trials                bring the results home

Every flag of train.py that is not listed here is passed on to it. Nothing starts before the
most that it can cost was shown and agreed to; AWS itself stops each job after --hours.
"""

import sys
import tempfile
import time
from pathlib import Path

if __package__ in (None, ""):  # Started as a file: the packages lie one folder up.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from sagemaker_scripts import aws, collect, common, jobs, preflight, resources, train

POLL_SECONDS = 30
STORE = Path("runs") / "collected" / "trials"


def plan_runs(arguments, seeds=None):
    """Hyperparameters for train.py, one dict {name: text} a run, from its parsed `arguments`.

    With a study and no variant: every variant for seeds 0 to `seeds` - 1 (None: as many as the
    study records). Raises BadArgumentsError for what train.py would refuse.
    """
    given = {name: _text(value) for name, value in vars(arguments).items() if _is_hyperparameter(name, value)}
    if arguments.study is None or arguments.variant is not None:
        train.make_trial(arguments)
        return [given]
    from cnnlab import studies

    try:
        study = studies.find(arguments.study)
    except ValueError as error:
        raise common.BadArgumentsError(str(error)) from error
    if arguments.seed is not None:
        raise common.BadArgumentsError("--seed is for one run; a whole study takes --seeds, how many")
    return [{**given, "variant": trial.label, "seed": str(trial.seed)} for trial in study.runs(seeds or study.seeds)]


def launch(
    arguments, seeds=None, as_jobs=False, parallel=2, data=None, instance="ml.m5.xlarge", hours=1.0, spot=False,
    region=None, profile=None, role=None, bucket=None, yes=False, dry_run=False, poll=POLL_SECONDS,
):  # fmt: skip
    """Start what `arguments` (parsed by train.py's parser) describe; see `plan_runs`.

    `as_jobs`: several runs as training jobs and not as one tuning job; `parallel`: how many at
    a time; `data`: a local file or folder in a layout that cnnlab knows, or an s3:// address
    (None: each job downloads it); `hours`: after which AWS stops a job.
    Returns the launch's name, or None after a dry run. Raises common.ScriptError with one line.
    """
    runs = plan_runs(arguments, seeds)
    if data is not None and not str(data).startswith("s3://") and not Path(data).exists():
        raise common.BadArgumentsError(f"--data {data} is neither a local path nor an s3:// address")
    grid = len(runs) > 1 and not as_jobs
    account = preflight.check_account(aws.make_session(region, profile), role, bucket)
    name = jobs.launch_name(arguments.study or arguments.label or train.LABEL)
    _print_plan(account, name, runs, grid, parallel, data, instance, hours)
    if dry_run:
        print("dry run: nothing was started")
        return None
    if not common.confirm("Start this?", yes):
        raise common.ScriptError("not agreed; nothing was started")
    with tempfile.TemporaryDirectory() as source, aws.plain_errors(), resources.Ledger(account) as ledger:
        jobs.stage_source(Path(source) / "source")
        resources.ensure_bucket(account, ledger)
        # Deleted again unless a job starts that needs them.
        ledger.note("objects", f"{account.bucket}/{name}")
        ledger.note("objects", f"{account.bucket}/{aws.OBJECT_PREFIX}{name}")
        address = _upload_data(account, name, data)

        def trainer(hyperparameters, job=""):
            return jobs.make_trainer(
                account, name, Path(source) / "source", hyperparameters, job, instance, hours, spot
            )

        if grid:
            ledger.note("tuning job", name)
            fixed = {key: value for key, value in runs[0].items() if key not in ("variant", "seed")}
            values = {key: list(dict.fromkeys(run[key] for run in runs)) for key in ("variant", "seed")}
            jobs.start_grid(trainer(fixed), name, values, parallel, address)
            ledger.keep()
        else:
            _start_jobs(account, ledger, name, runs, parallel, trainer, address, poll)
    common.print_next(f"python sagemaker_scripts/launch_training.py --collect {name}", "when the jobs have ended")
    return name


def bring_home(name, store=STORE, models=None, region=None, profile=None, bucket=None):
    """Collect the results of the launch `name` into the folder `store`; returns the keys of their rows."""
    account = preflight.identify(aws.make_session(region, profile), bucket)
    keys, without = collect.collect(account, name, store, models)
    print(f"rows in {store}: {len(keys)}")
    for job, reason in without.items():
        print(f"nothing from {job}: {reason}")
    if without:
        common.print_next(
            f"python sagemaker_scripts/launch_training.py --collect {name}", "again, when more have ended"
        )
    return keys


def _start_jobs(account, ledger, name, runs, parallel, trainer, address, poll):
    """Start `runs` as training jobs, `parallel` at a time; once one was started, those that run go on."""
    ledger.note("training jobs", name)
    try:
        for number, run in enumerate(runs):
            while number >= parallel and _running(account, name) >= parallel:
                time.sleep(poll)
            job = jobs.start_job(trainer(run, f"{number:03d}"), address)
            ledger.keep()
            print(f"started {number + 1}/{len(runs)}: {job}", flush=True)
    except BaseException:
        if not ledger.entries:
            print("the jobs that were started go on; cleanup.py stops them", flush=True)
            common.print_next(f"python sagemaker_scripts/launch_training.py --collect {name}", "when they have ended")
        raise


def _running(account, name):
    return sum(state in resources.UNFINISHED for state in resources.job_states(account, name).values())


def _upload_data(account, name, data):
    """The s3:// address of `data`, which is uploaded where it is a local path."""
    if data is None or str(data).startswith("s3://"):
        return data
    path, prefix = Path(data), f"{aws.OBJECT_PREFIX}{name}/data"
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    root = path if path.is_dir() else path.parent
    for file in files:
        print(f"uploading {file}", flush=True)
        account.client("s3").upload_file(str(file), account.bucket, f"{prefix}/{file.relative_to(root).as_posix()}")
    return f"s3://{account.bucket}/{prefix}"


def _print_plan(account, name, runs, grid, parallel, data, instance, hours):
    form = "a grid tuning job" if grid else "training jobs" if len(runs) > 1 else "a training job"
    at_once = f", {min(parallel, len(runs))} at a time" if len(runs) > 1 else ""
    price = preflight.hourly_price(instance, account.region)
    most = f"at most ${price * hours * len(runs):.2f} in all" if price else "the most in all is unknown too"
    print(f"account: {account.number} in {account.region}, role {account.role}")
    print(f"launch:  {name}: {len(runs)} runs as {form}{at_once}, stopped after {hours:g} h each")
    print(f"data:    {data or 'downloaded by each job'}")
    print(f"price:   {preflight.price_sentence(instance, account.region)}; {most}", flush=True)


def _is_hyperparameter(name, value):
    return value is not None and name in {"study", "variant", "label", *train.TRIAL_FIELDS, *train.MODEL_OPTIONS}


def _text(value):
    """A hyperparameter's value as train.py reads it back."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def make_parser():
    parser = common.parser(__doc__)
    parser.add_argument("--seeds", type=int, help="of a whole study; default: as many as its record has")
    parser.add_argument("--as-jobs", action="store_true", help="a whole study as training jobs, not as a tuning job")
    parser.add_argument("--parallel", type=int, default=2, help="jobs at a time; default: %(default)s")
    parser.add_argument("--data", help="local path or s3:// address of the images; default: each job downloads them")
    parser.add_argument("--instance", default="ml.m5.xlarge", help="default: %(default)s")
    parser.add_argument("--hours", type=float, default=1.0, help="after which AWS stops a job; default: %(default)s")
    parser.add_argument("--spot", action="store_true", help="on spare capacity: cheaper, may be stopped and resumed")
    parser.add_argument("--region", help="default: the profile's; us-east-1 in a lab")
    parser.add_argument("--profile", help="of ~/.aws/config")
    parser.add_argument("--role", help="name or ARN of SageMaker's role (default: LabRole in a lab, or the caller's)")
    parser.add_argument("--bucket", help="default: sagemaker-REGION-ACCOUNT")
    parser.add_argument("--yes", action="store_true", help="agree to the price")
    parser.add_argument("--dry-run", action="store_true", help="only print the plan")
    parser.add_argument("--collect", metavar="NAME", help="bring the results of a launch home, and start nothing")
    parser.add_argument("--store", type=Path, default=STORE, help="where --collect puts rows; default: %(default)s")
    parser.add_argument("--models", type=Path, help="where --collect puts models; default: nowhere")
    return parser


def main(argv=None):
    own, rest = make_parser().parse_known_args(argv)
    if own.collect:
        bring_home(own.collect, own.store, own.models, own.region, own.profile, own.bucket)
        return common.EXIT_DONE
    if own.parallel < 1 or own.hours <= 0 or (own.seeds is not None and own.seeds < 1):
        raise common.BadArgumentsError("--parallel, --hours and --seeds have to be positive")
    launch(
        train.make_parser().parse_args(rest), own.seeds, own.as_jobs, own.parallel, own.data, own.instance, own.hours,
        own.spot, own.region, own.profile, own.role, own.bucket, own.yes, own.dry_run,
    )  # fmt: skip
    return common.EXIT_DONE


if __name__ == "__main__":
    sys.exit(common.run(main))
