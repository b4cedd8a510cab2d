"""Put a packaged model behind a SageMaker endpoint, ask it once, and leave nothing behind.

The endpoint is deleted after its first answer, or after --minutes; only --keep leaves it running,
and paid for, until AWS deletes it at the scheduled time. If a step fails, is denied or is
interrupted, everything created so far is deleted and listed. Without credentials, or if the
account may not create an endpoint (as in an AWS Academy Learner Lab), the rest is rehearsed on a
local server with the same archive.

With --batch, a folder of pictures is classified without an endpoint, and the answers are saved as a table.
"""

import argparse
import dataclasses
import re
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from sagemaker_scripts import aws, common, errors, package_model, test_endpoint
from sagemaker_scripts.account import batch, hosting, policy
from sagemaker_scripts.account import ledger as ledgers
from sagemaker_scripts.serving import archive as archives

RUNS = Path("runs")
MADE = RUNS / "deploy"
POLL_SECONDS = 15
TIMEOUT_MINUTES = 30
SERVERLESS_MEMORY = 2048
# For the tiny model that is trained if there is none.
SMALL_TRAIN_IMAGES, SMALL_EVAL_IMAGES = 5_000, 1_000
KEPT_HOURS, MOST_HOURS = 8.0, 30 * 24
# What may stay in the account after a denial: it costs next to nothing.
FREE = ("bucket", "object", "model", "model package group")


@dataclasses.dataclass
class Outcome(ledgers.Outcome):
    """The result of a deployment.

    `answer`: the first prediction, a dict, from the local server if it was rehearsed;
    `endpoint`: name of the endpoint that was kept, or None.
    """

    archive: Path | None = None
    answer: dict | None = None
    endpoint: str | None = None


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What to deploy: a package (`archive`), a `model` to be packaged first, or, with neither, a tiny model."""

    archive: Path | None = None
    model: Path | None = None

    @classmethod
    def choose(cls, archive=None, model=None):
        """From `archive` or `model` (.keras) if given, else the newest package in runs/, else the newest model there.

        Raises BadArgumentsError if a given file does not exist.
        """
        for path in (archive, model):
            if path is not None and not Path(path).is_file():
                raise common.BadArgumentsError(f"{path} is not a file; expected a model.tar.gz or a .keras model")
        if archive or model:
            return cls(Path(archive)) if archive else cls(model=Path(model))
        if found := _newest(RUNS, "*/model.tar.gz"):
            return cls(found)
        return cls(model=_newest(RUNS, "*/cnn.keras", "train/*/model.keras"))

    def __str__(self):
        if self.archive:
            return f"the package {self.archive}"
        if self.model:
            return f"the model {self.model}, packaged"
        return "a tiny model, trained now because runs/ has none (use yours with --model MODEL.keras)"

    def make(self):
        """Path of its model.tar.gz; trains a tiny model if there is none."""
        if self.archive:
            return self.archive
        model = self.model or _train_small()
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
    """A tiny network: not a good classifier, but enough to go all the way to an endpoint."""
    from cnnlab.training import Trial
    from sagemaker_scripts import train

    options = {"filters": [8, 16], "dense": 32}
    trial = Trial(
        "tiny", options=options, epochs=1, train_images=SMALL_TRAIN_IMAGES, eval_images=SMALL_EVAL_IMAGES, batch_size=50
    )  # fmt: skip
    train.train(trial, MADE / "tiny")
    return MADE / "tiny" / "model.keras"


def deploy(
    archive=None, model=None, access=None, hardware=None, minutes=0, keep=0, alarm=None, register=False, yes=False,
    dry_run=False, poll=POLL_SECONDS, timeout=TIMEOUT_MINUTES * 60,
):  # fmt: skip
    """Deploy `archive` (or `model`, a .keras file; default: see `Candidate.choose`) and ask it once.

    `access`: an `aws.Access`, if the account's defaults do not fit; `hardware`: a
    `hosting.Hardware`; `minutes`: how long the endpoint stays; `keep`: hours after which AWS
    deletes the endpoint, which stays until then; `alarm`: ARN of an SNS topic to notify when
    nobody uses it; `register`: add the model to the registry too; `yes`: agree to the price;
    `dry_run`: only print the plan; `poll`, `timeout`: of the wait for the endpoint, in seconds.
    Returns an Outcome. Raises common.ScriptError with one line.
    """
    aws.quieten_sdk()
    access, hardware = access or aws.Access(), hardware or hosting.Hardware()
    if hardware.memory and access.subnets:
        raise common.BadArgumentsError("a serverless endpoint cannot be in a VPC: leave out --subnets or --serverless")
    candidate = Candidate.choose(archive, model)
    if not aws.has_credentials(access.session()):
        print(f"no AWS credentials here ({errors.Kind.NO_CREDENTIALS.value}): this is a rehearsal on this machine")
        print(f"model: {candidate}", flush=True)
        return Outcome() if dry_run else _rehearse(candidate.make())
    account = aws.check_account(access)
    if not hardware.memory:
        hosting.check_quota(account, hardware.instance, hardware.scale[1] if hardware.scale else 1)
    name = aws.unique_name()
    _print_plan(account, name, candidate, hardware, minutes, keep, alarm, register)
    if dry_run:
        print("dry run: nothing was created")
        return Outcome()
    common.confirm("Create this endpoint?", yes)
    archive = candidate.make()
    outcome, shape = Outcome(archive=archive), archives.read_card(archive)["input_shape"]
    with errors.plain_errors(), ledgers.Ledger(account) as ledger:
        with ledger.falling_back():
            hosting.create_endpoint(ledger, name, archive, hardware, keep, alarm, register, poll, timeout)
            outcome.answer = test_endpoint.ask_endpoint(account.client("sagemaker-runtime"), name, shape)
            print(f"answer: {_sentence(outcome.answer)}", flush=True)
            _hold(minutes)
            outcome.endpoint = name if keep else None
        if ledger.denied and ledger.denied.operation == "CreateSchedule":
            print("no endpoint is kept without a deletion date: add --alarm TOPIC, or use --minutes", flush=True)
        if keep:
            # An endpoint that may not be invoked would only cost money.
            for kind, kept in ledger.keep(FREE) if ledger.denied else ledger.keep():
                print(f"kept: {kind} {kept}", flush=True)
    outcome.denied, outcome.left = ledger.denied, ledger.left
    if outcome.denied:
        outcome.answer, outcome.rehearsed = _rehearse(archive).answer, True
    elif outcome.endpoint:
        region = f"--region {account.region}"
        common.print_next(f"python sagemaker_scripts/test_endpoint.py --endpoint {name} {region}")
        common.print_next(f"python sagemaker_scripts/cleanup.py {region}", "ends the bill")
    elif not outcome.left:
        print("nothing of it is left in the account")
    return outcome


def _rehearse(archive):
    """Put the same archive behind the local server; returns an Outcome with its answer."""
    from sagemaker_scripts import serve_local

    shape = archives.read_card(archive)["input_shape"]
    print(f"rehearsal: this starts {archive} here and runs its code; give only archives that you trust", flush=True)
    with serve_local.start(archive) as url:
        answer = test_endpoint.ask_server(url, shape)
        print(f"rehearsal: the same archive on {url} answers {_sentence(answer)}", flush=True)
    common.print_next(f"python sagemaker_scripts/serve_local.py {archive}", "a page to drop pictures on")
    return Outcome(archive=archive, answer=answer, rehearsed=True)


def _print_plan(account, name, candidate, hardware, minutes, keep, alarm, register):
    until = f"{keep:g} h" if keep else f"{minutes:g} min" if minutes else "for one answer"
    account.print_place()
    print(f"model:    {candidate}")
    print(f"endpoint: {name} on {hardware}, {until}; requests up to {hardware.payload_bytes / 1024**2:.0f} MB")
    print(f"price:    {hardware.price(account.region)}", flush=True)
    for wanted, words in (
        (keep, f"AWS deletes the endpoint {keep:g} h from now (EventBridge Scheduler: no cost)"),
        (alarm, f"an alarm to {alarm} after an hour without a request ({hosting.ALARM_PRICE})"),
        (hardware.scale, f"the number of instances follows the load, with two more alarms ({hosting.ALARM_PRICE})"),
        (hardware.capture, f"{hardware.capture}% of the requests are kept in the bucket ({hosting.STORAGE_PRICE})"),
        (register, "a version in the model registry (no cost)"),
    ):
        if wanted:
            print(f"          {words}", flush=True)


def _sentence(answer):
    return f"{answer['predicted_class']} with probability {answer['confidence']:.3f}, for a made-up grey gradient"


def _hold(minutes):
    if not minutes:
        return
    end = datetime.now() + timedelta(minutes=minutes)
    print(f"the endpoint stays until {end:%H:%M:%S}; Ctrl-C ends it early", flush=True)
    try:
        time.sleep(minutes * 60)
    except KeyboardInterrupt:
        print("ended early", flush=True)


def make_parser():
    parser = common.parser(__doc__)
    parser.add_argument("--archive", help="a model.tar.gz from package_model.py (default: the newest in runs/)")
    parser.add_argument("--model", help="a .keras model, packaged first")
    aws.Access.add_flags(parser)
    parser.add_argument("--instance", default=hosting.ANY_CPU_INSTANCE, help="default: %(default)s")
    parser.add_argument("--serverless", action="store_true", help="no instance: pay per request")
    parser.add_argument(
        "--memory", type=int, choices=range(1024, 6145, 1024), default=SERVERLESS_MEMORY, metavar="MB",
        help="for --serverless, 1024 to 6144 in steps of 1024; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--max-concurrency", type=int, default=hosting.Hardware.concurrency, metavar="N",
        help="requests at once with --serverless; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--scale", type=_bounds, metavar="1-3", help="number of instances, adjusted to the load")
    parser.add_argument("--capture", type=int, metavar="PERCENT", help="of requests to keep in S3, with their answers")
    parser.add_argument("--register", action="store_true", help="add the model to the model registry too")
    stay = parser.add_mutually_exclusive_group()
    stay.add_argument("--minutes", type=float, default=0, help="how long the endpoint stays; default: for one answer")
    stay.add_argument(
        "--keep", type=float, nargs="?", default=0, const=KEPT_HOURS, metavar="HOURS",
        help=f"leave the endpoint running, and paid for, until AWS deletes it; {KEPT_HOURS:g} if no number is given",
    )  # fmt: skip
    stay.add_argument("--batch", metavar="SOURCE", help="classify a folder or s3://BUCKET/PREFIX without an endpoint")
    parser.add_argument("--table", type=Path, help="where --batch writes the answers; default: under runs/batch/")
    parser.add_argument("--alarm", metavar="TOPIC", help="ARN of an SNS topic to notify when nobody uses the endpoint")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_MINUTES, help="minutes to wait; default: %(default)s")
    parser.add_argument("--yes", action="store_true", help="agree to the price")
    parser.add_argument("--dry-run", action="store_true", help="only print the plan")
    parser.add_argument(
        "--print-policy", nargs="?", const="all", choices=("all", *policy.DOCUMENTS), metavar="WHOSE",
        help="only print, as JSON, the permissions that caller and role need; caller, role or trust: one of them",
    )  # fmt: skip
    return parser


def _bounds(text):
    """(1, 3) from "1-3"."""
    if not re.fullmatch(r"\d+(-\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range; expected one like 1-3")
    fewest, _, most = text.partition("-")
    return int(fewest), int(most or fewest)


def main(argv=None):
    given = make_parser().parse_args(argv)
    access, seconds = aws.Access.of(given), given.timeout * 60
    hardware = hosting.Hardware(
        given.instance, given.memory if given.serverless else None, given.max_concurrency, given.scale, given.capture
    )
    _check(given)
    if given.print_policy:
        policy.show(given.print_policy, access)
        return common.EXIT_DONE
    if given.batch:
        candidate = Candidate.choose(given.archive, given.model)
        return batch.transform(
            given.batch, given.table, candidate, access, given.instance, given.yes, given.dry_run, timeout=seconds
        ).exit_code
    return deploy(
        given.archive, given.model, access, hardware, given.minutes, given.keep, given.alarm, given.register,
        given.yes, given.dry_run, timeout=seconds,
    ).exit_code  # fmt: skip


def _check(given):
    """Raise BadArgumentsError for flags that do not go together or are out of range."""
    if given.batch and (given.serverless or given.scale or given.capture or given.register or given.alarm):
        raise common.BadArgumentsError("--batch creates no endpoint: leave out the flags for endpoints")
    if given.table and not given.batch:
        raise common.BadArgumentsError("--table needs --batch SOURCE, which writes it")
    if given.alarm and not re.fullmatch(r"arn:[\w-]+:sns:[\w-]+:\d{12}:[\w-]+", given.alarm):
        raise common.BadArgumentsError(f"--alarm is {given.alarm!r}; expected the ARN of an SNS topic")
    if not (0 <= given.keep <= MOST_HOURS and 0 <= given.minutes <= MOST_HOURS * 60 and 0 < given.timeout < 24 * 60):
        raise common.BadArgumentsError(
            f"--keep takes up to {MOST_HOURS} hours, --minutes no longer than that, and --timeout less than a day"
        )


if __name__ == "__main__":
    sys.exit(common.run(main))
