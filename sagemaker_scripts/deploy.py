"""Put a packaged model behind a SageMaker endpoint, ask it once, and leave nothing behind.

The endpoint is deleted again after its first answer, or after --minutes; only --keep leaves it
running, and paid for. Whatever fails, is denied or is interrupted on the way: what was made is
deleted and listed. Without credentials, and where the account may not make an endpoint (as in
an AWS Academy Learner Lab), the rest is rehearsed on a local server with the same archive.
"""

import dataclasses
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from sagemaker_scripts import archive as archives
from sagemaker_scripts import aws, common, package_model, preflight, resources, test_endpoint

RUNS = Path("runs")
MADE = RUNS / "deploy"
INTENTION = {
    "archive": "the package {path}",
    "model": "the model {path}, packaged",
    "nothing": "a tiny model, trained now because runs/ holds none (--model MODEL.keras takes yours)",
}
POLL_SECONDS = 15
TIMEOUT_MINUTES = 30
SERVERLESS_MEMORY = 2048
# What may stay in the account after a denial, because it costs next to nothing.
FREE = ("bucket", "object", "model")
# The calls that make what was noted last: denied, there is nothing of it.
MAKERS = ("CreateBucket", "PutObject", "CreateModel", "CreateEndpointConfig", "CreateEndpoint")


@dataclasses.dataclass
class Outcome:
    """What became of a deployment.

    `answer`: the first prediction, a dict; `endpoint`: the name of the one that was kept, or
    None; `rehearsed`: whether the answer is the local server's; `denied`: the `aws.Problem` of
    the call that the account may not make; `left`: [(kind, name), ...] that could not be deleted.
    """

    archive: Path | None = None
    answer: dict | None = None
    endpoint: str | None = None
    rehearsed: bool = False
    denied: aws.Problem | None = None
    left: list = dataclasses.field(default_factory=list)

    @property
    def exit_code(self):
        if self.left:
            return common.EXIT_FAILED
        return common.EXIT_DENIED if self.denied else common.EXIT_DONE


def deploy(
    archive=None, model=None, region=None, profile=None, role=None, bucket=None, hardware=None,
    minutes=0, keep=False, yes=False, dry_run=False, poll=POLL_SECONDS, timeout=TIMEOUT_MINUTES * 60,
):  # fmt: skip
    """Deploy `archive` (or `model`, a .keras file; default: see `choose`) and ask it once.

    `region`, `profile`, `role`, `bucket`: where the account's defaults do not fit; `hardware`:
    a `preflight.Hardware`; `minutes`: how long the endpoint stays; `keep`: it stays until
    cleanup.py; `yes`: agree to the price; `dry_run`: only print the plan; `poll`, `timeout`: of
    the wait for the endpoint, in seconds.
    Returns an Outcome. Raises common.ScriptError with one line.
    """
    aws.quieten_sdk()
    hardware = hardware or preflight.Hardware()
    kind, path = choose(archive, model)
    intention = INTENTION[kind].format(path=path)
    session = aws.make_session(region, profile)
    if not aws.has_credentials(session):
        print(f"no AWS credentials here ({aws.Kind.NO_CREDENTIALS.value}): this is a rehearsal on this machine")
        print(f"model: {intention}", flush=True)
        return Outcome() if dry_run else _rehearse(make(kind, path))
    account = preflight.check_account(session, role, bucket)
    _check_quota(account, hardware)
    name = aws.unique_name()
    _print_plan(account, name, intention, hardware, minutes, keep)
    if dry_run:
        print("dry run: nothing was made")
        return Outcome()
    if not common.confirm("Make this endpoint?", yes):
        raise common.ScriptError("not agreed; nothing was made")
    return _deploy(account, name, make(kind, path), hardware, minutes, keep, poll, timeout)


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


def _deploy(account, name, archive, hardware, minutes, keep, poll, timeout):
    outcome = Outcome(archive)
    shape = archives.read_card(archive)["input_shape"]
    with aws.plain_errors(), resources.Ledger(account) as ledger:
        try:
            _create(account, ledger, name, archive, hardware, poll, timeout)
            outcome.answer = test_endpoint.ask_endpoint(account.client("sagemaker-runtime"), name, shape)
            print(f"answer: {_sentence(outcome.answer)}", flush=True)
            _hold(minutes)
            outcome.endpoint = name if keep else None
        except Exception as error:
            outcome.denied = _denial(error)
            if outcome.denied is None:
                raise
            print(f"denied: {outcome.denied}", flush=True)
            if keep:
                # An endpoint that may not be asked would only cost money.
                _print_kept(ledger.keep(FREE, unmade=outcome.denied.operation in MAKERS))
        if outcome.endpoint:
            _print_kept(ledger.keep())
    outcome.left = [(kind, left) for kind, left, _ in ledger.failed]
    if outcome.denied:
        rehearsal = _rehearse(archive)
        outcome.answer, outcome.rehearsed = rehearsal.answer, True
    elif outcome.endpoint:
        region = f"--region {account.region}"
        common.print_next(f"python sagemaker_scripts/test_endpoint.py --endpoint {name} {region}")
        common.print_next(f"python sagemaker_scripts/cleanup.py {region}", "ends the bill")
    elif not outcome.left:
        print("nothing of it is left in the account")
    return outcome


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


def _create(account, ledger, name, archive, hardware, poll, timeout):
    print(f"1/4 upload {archive} to {account.bucket}", flush=True)
    address = resources.upload(account, ledger, archive, name)
    print(f"2/4 model {name}", flush=True)
    resources.create_model(account, ledger, name, address, hardware)
    print(f"3/4 endpoint config: {hardware}", flush=True)
    resources.create_config(account, ledger, name, hardware)
    print("4/4 endpoint; this takes some minutes, and Ctrl-C ends it cleanly", flush=True)
    resources.create_endpoint(account, ledger, name, poll, timeout)


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


def _check_quota(account, hardware):
    if hardware.memory:
        return
    quota = preflight.endpoint_quota(account, hardware.instance)
    if quota is not None and quota < 1:
        raise common.ScriptError(
            f"this account may have no {hardware.instance} behind an endpoint (its quota is {quota:.0f}): take "
            "another --instance, --serverless, or ask for more in the Service Quotas console"
        )


def _print_plan(account, name, intention, hardware, minutes, keep):
    lab = " (AWS Academy Learner Lab)" if account.is_lab else ""
    bucket = account.bucket if account.bucket_exists else f"{account.bucket} (is made)"
    until = "until cleanup.py" if keep else f"{minutes:g} minutes" if minutes else "for one answer"
    print(f"account:  {account.number}{lab} in {account.region}")
    print(f"role:     {account.role}")
    print(f"model:    {intention}")
    print(f"bucket:   {bucket}")
    print(f"endpoint: {name} on {hardware}, {until}")
    print(f"price:    {hardware.price(account.region)}", flush=True)


def _sentence(answer):
    return f"{answer['predicted_class']} with probability {answer['confidence']:.3f}, for a made-up grey gradient"


def _print_kept(kept):
    for kind, name in kept:
        print(f"kept: {kind} {name}", flush=True)


def _denial(error):
    problem = aws.explain(error)
    return problem if problem and problem.kind is aws.Kind.DENIED else None


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
    stay = parser.add_mutually_exclusive_group()
    stay.add_argument("--minutes", type=float, default=0, help="how long the endpoint stays; default: for one answer")
    stay.add_argument("--keep", action="store_true", help="leave the endpoint running, and paid for, until cleanup.py")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_MINUTES, help="minutes to wait; default: %(default)s")
    parser.add_argument("--yes", action="store_true", help="agree to the price")
    parser.add_argument("--dry-run", action="store_true", help="only print the plan")
    return parser


def main(argv=None):
    arguments = make_parser().parse_args(argv)
    return deploy(
        arguments.archive, arguments.model, arguments.region, arguments.profile, arguments.role, arguments.bucket,
        preflight.Hardware(arguments.instance, arguments.memory if arguments.serverless else None),
        arguments.minutes, arguments.keep, arguments.yes, arguments.dry_run, timeout=int(arguments.timeout * 60),
    ).exit_code  # fmt: skip


if __name__ == "__main__":
    sys.exit(common.run(main))
