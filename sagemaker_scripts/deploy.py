"""Put a packaged model behind a SageMaker endpoint, ask it once, and leave nothing behind.

The endpoint is deleted again after its first answer, or after --minutes; only --keep leaves it
running, and paid for, until AWS deletes it on the date that is set. Whatever fails, is denied or
is interrupted on the way: what was made is deleted and listed. Without credentials, and where
the account may not make an endpoint (as in an AWS Academy Learner Lab), the rest is rehearsed on
a local server with the same archive.

With --batch a folder of pictures is answered without an endpoint, and the answers come home as a table.
"""

import dataclasses
import re
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from sagemaker_scripts import archive as archives
from sagemaker_scripts import aws, batch, candidates, common, policy, preflight, resources, test_endpoint
from sagemaker_scripts.ledger import Ledger

POLL_SECONDS = 15
TIMEOUT_MINUTES = 30
SERVERLESS_MEMORY = 2048
KEPT_HOURS, MOST_HOURS = 8.0, 30 * 24
# What may stay in the account after a denial, because it costs next to nothing.
FREE = ("bucket", "object", "model", "model package group")


@dataclasses.dataclass
class Outcome(common.Outcome):
    """What became of a deployment.

    `answer`: the first prediction, a dict, of the local server where it was rehearsed;
    `endpoint`: the name of the one that was kept, or None.
    """

    archive: Path | None = None
    answer: dict | None = None
    endpoint: str | None = None


def deploy(
    archive=None, model=None, region=None, profile=None, role=None, bucket=None, hardware=None, minutes=0, keep=0,
    yes=False, dry_run=False, poll=POLL_SECONDS, timeout=TIMEOUT_MINUTES * 60, protection=None, alarm=None,
    register=False,
):  # fmt: skip
    """Deploy `archive` (or `model`, a .keras file; default: see `candidates.choose`) and ask it once.

    `region`, `profile`, `role`, `bucket`, `protection`: where the account's defaults do not fit;
    `hardware`: a `preflight.Hardware`; `minutes`: how long the endpoint stays; `keep`: it stays,
    and AWS deletes it after so many hours; `alarm`: ARN of an SNS topic that is told when nobody
    asks it; `register`: into the model registry, too; `yes`: agree to the price; `dry_run`: only
    print the plan; `poll`, `timeout`: of the wait for the endpoint, in seconds.
    Returns an Outcome. Raises common.ScriptError with one line.
    """
    aws.quieten_sdk()
    hardware, protection = hardware or preflight.Hardware(), protection or preflight.Protection()
    if hardware.memory and protection.subnets:
        raise common.BadArgumentsError("a serverless endpoint is in no VPC: leave --subnets or --serverless out")
    kind, path = candidates.choose(archive, model)
    intention = candidates.intention(kind, path)
    session = aws.make_session(region, profile)
    if not aws.has_credentials(session):
        print(f"no AWS credentials here ({aws.Kind.NO_CREDENTIALS.value}): this is a rehearsal on this machine")
        print(f"model: {intention}", flush=True)
        return Outcome() if dry_run else _rehearse(candidates.make(kind, path))
    account = preflight.check_account(session, role, bucket, protection)
    if not hardware.memory:
        preflight.check_quota(account, hardware.instance, hardware.scale[1] if hardware.scale else 1)
    name = aws.unique_name()
    _print_plan(account, name, intention, hardware, minutes, keep, alarm, register)
    if dry_run:
        print("dry run: nothing was made")
        return Outcome()
    if not common.confirm("Make this endpoint?", yes):
        raise common.ScriptError("not agreed; nothing was made")
    steps = resources.Steps(account, name, candidates.make(kind, path), hardware, keep, alarm, register, poll, timeout)
    return _deploy(steps, minutes)


def _deploy(steps, minutes):
    outcome, account, name = Outcome(steps.archive), steps.account, steps.name
    shape = archives.read_card(steps.archive)["input_shape"]
    with aws.plain_errors(), Ledger(account) as ledger:
        try:
            steps.create(ledger)
            outcome.answer = test_endpoint.ask_endpoint(account.client("sagemaker-runtime"), name, shape)
            print(f"answer: {_sentence(outcome.answer)}", flush=True)
            _hold(minutes)
            outcome.endpoint = name if steps.keep else None
        except Exception as error:
            outcome.denied = aws.denial(error)
            if outcome.denied is None:
                raise
            print(f"denied: {outcome.denied}", flush=True)
            ledger.refused(error)
            if outcome.denied.operation == "CreateSchedule":
                print("no endpoint is kept without an end: give --alarm TOPIC too, or --minutes instead", flush=True)
            if steps.keep:
                # An endpoint that may not be asked would only cost money.
                _print_kept(ledger.keep(FREE))
        if outcome.endpoint:
            _print_kept(ledger.keep())
    outcome.left = [(kind, left) for kind, left, _ in ledger.failed]
    if outcome.denied:
        rehearsal = _rehearse(steps.archive)
        outcome.answer, outcome.rehearsed = rehearsal.answer, True
    elif outcome.endpoint:
        region = f"--region {account.region}"
        common.print_next(f"python sagemaker_scripts/test_endpoint.py --endpoint {name} {region}")
        common.print_next(f"python sagemaker_scripts/cleanup.py {region}", "ends the bill")
    elif not outcome.left:
        print("nothing of it is left in the account")
    return outcome


def _rehearse(archive):
    """The same archive behind the local server: an Outcome with its answer."""
    from sagemaker_scripts import serve_local

    shape = archives.read_card(archive)["input_shape"]
    print(f"rehearsal: {archive} is started here, its own code with it; give only archives that you trust", flush=True)
    with serve_local.start(archive) as url:
        answer = test_endpoint.ask_server(url, shape)
        print(f"rehearsal: the same archive on {url} answers {_sentence(answer)}", flush=True)
    common.print_next(f"python sagemaker_scripts/serve_local.py {archive}", "a page to drop pictures on")
    return Outcome(archive, answer, rehearsed=True)


def _print_plan(account, name, intention, hardware, minutes, keep, alarm, register):
    until = f"{keep:g} hours" if keep else f"{minutes:g} minutes" if minutes else "for one answer"
    preflight.print_place(account)
    print(f"model:    {intention}")
    print(f"endpoint: {name} on {hardware}, {until}; a request takes {hardware.payload_bytes / 1024**2:.0f} MB")
    print(f"price:    {hardware.price(account.region)}", flush=True)
    for wanted, words in (
        (keep, f"AWS deletes the endpoint {keep:g} hours from now (EventBridge Scheduler: no cost)"),
        (alarm, f"an alarm to {alarm} after an hour without a request ({preflight.ALARM_PRICE})"),
        (hardware.scale, f"the number of instances follows the load, by two more alarms ({preflight.ALARM_PRICE})"),
        (hardware.capture, f"{hardware.capture}% of the requests are kept in the bucket ({preflight.STORAGE_PRICE})"),
        (register, "a version in the model registry (no cost)"),
    ):
        if wanted:
            print(f"          {words}", flush=True)


def _sentence(answer):
    return f"{answer['predicted_class']} with probability {answer['confidence']:.3f}, for a made-up grey gradient"


def _print_kept(kept):
    for kind, name in kept:
        print(f"kept: {kind} {name}", flush=True)


def _hold(minutes):
    if not minutes:
        return
    end = datetime.now() + timedelta(minutes=minutes)
    print(f"the endpoint stays until {end:%H:%M:%S}; Ctrl-C ends it sooner", flush=True)
    try:
        time.sleep(minutes * 60)
    except KeyboardInterrupt:
        print("ended sooner", flush=True)


def make_parser():
    parser = common.parser(__doc__)
    parser.add_argument("--archive", help="a model.tar.gz of package_model.py (default: the newest in runs/)")
    parser.add_argument("--model", help="a .keras model, packaged first")
    common.add_account_flags(parser)
    parser.add_argument("--instance", default=preflight.ANY_CPU_INSTANCE, help="default: %(default)s")
    parser.add_argument("--serverless", action="store_true", help="no instance: paid by the request")
    parser.add_argument(
        "--memory", type=int, choices=range(1024, 6145, 1024), default=SERVERLESS_MEMORY, metavar="MB",
        help="of --serverless, 1024 to 6144 in steps of 1024; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--max-concurrency", type=int, default=preflight.Hardware.concurrency, metavar="N",
        help="answers at once of --serverless; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--scale", type=_bounds, metavar="1-3", help="instances: their number follows the load")
    parser.add_argument("--capture", type=int, metavar="PERCENT", help="of the requests, kept in S3 with their answers")
    parser.add_argument("--register", action="store_true", help="into the model registry, too")
    stay = parser.add_mutually_exclusive_group()
    stay.add_argument("--minutes", type=float, default=0, help="how long the endpoint stays; default: for one answer")
    stay.add_argument(
        "--keep", type=float, nargs="?", default=0, const=KEPT_HOURS, metavar="HOURS",
        help=f"leave the endpoint running, and paid for, until AWS deletes it; {KEPT_HOURS:g} where no number is given",
    )  # fmt: skip
    stay.add_argument("--batch", metavar="SOURCE", help="answer a folder or s3://BUCKET/PREFIX without an endpoint")
    parser.add_argument("--table", type=Path, help="where --batch writes the answers; default: below runs/batch/")
    parser.add_argument("--alarm", metavar="TOPIC", help="ARN of an SNS topic to tell when nobody asks the endpoint")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_MINUTES, help="minutes to wait; default: %(default)s")
    parser.add_argument("--yes", action="store_true", help="agree to the price")
    parser.add_argument("--dry-run", action="store_true", help="only print the plan")
    parser.add_argument(
        "--print-policy", nargs="?", const="all", choices=("all", *policy.DOCUMENTS), metavar="WHOSE",
        help="only print, as JSON, what the caller and the role have to be allowed; caller, role or trust: one of them",
    )  # fmt: skip
    return parser


def _bounds(text):
    """(1, 3) of "1-3"."""
    fewest, _, most = text.partition("-")
    return int(fewest), int(most or fewest)


def main(argv=None):
    given = make_parser().parse_args(argv)
    place = given.region, given.profile, given.role, given.bucket
    protection = preflight.Protection(given.kms_key, given.subnets, given.security_groups)
    hardware = preflight.Hardware(
        given.instance, given.memory if given.serverless else None, given.max_concurrency, given.scale, given.capture
    )
    _check(given)
    if given.print_policy:
        policy.show(given.print_policy, *place, protection)
        return common.EXIT_DONE
    seconds = given.timeout * 60
    if given.batch:
        return batch.transform(
            given.batch, given.table, given.archive, given.model, *place, given.instance, given.yes, given.dry_run,
            timeout=seconds, protection=protection,
        ).exit_code  # fmt: skip
    return deploy(
        given.archive, given.model, *place, hardware, given.minutes, given.keep, given.yes, given.dry_run,
        timeout=seconds, protection=protection, alarm=given.alarm, register=given.register,
    ).exit_code  # fmt: skip


def _check(given):
    """Raise BadArgumentsError for flags that do not go together or are out of range."""
    if given.batch and (given.serverless or given.scale or given.capture or given.register or given.alarm):
        raise common.BadArgumentsError("--batch makes no endpoint: leave out what is said of one")
    if given.table and not given.batch:
        raise common.BadArgumentsError("--table is written by --batch SOURCE")
    if given.alarm and not re.fullmatch(r"arn:[\w-]+:sns:[\w-]+:\d{12}:[\w-]+", given.alarm):
        raise common.BadArgumentsError(f"--alarm is {given.alarm!r}; expected the ARN of an SNS topic")
    if not (0 <= given.keep <= MOST_HOURS and 0 <= given.minutes <= MOST_HOURS * 60 and 0 < given.timeout < 24 * 60):
        raise common.BadArgumentsError(
            f"--keep takes up to {MOST_HOURS} hours, --minutes as many, and --timeout less than a day"
        )


if __name__ == "__main__":
    sys.exit(common.run(main))
