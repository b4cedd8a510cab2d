"""What one run creates in an account: noted as it is created, and deleted unless it is to stay."""

import contextlib
import dataclasses
import signal
import threading

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

from sagemaker_scripts import aws, common, errors
from sagemaker_scripts.resources import KINDS, is_missing

# Calls that list what was noted before any of it existed; if they fail, nobody knows whether there is any.
LOOKS = ("ListObjectsV2", "ListTrainingJobs")
# AWS answers these before it does anything: they cannot hide the success of an earlier try whose answer was lost.
REFUSALS = (errors.Kind.DENIED, errors.Kind.EXPIRED, errors.Kind.BAD_CREDENTIALS, errors.Kind.QUOTA, errors.Kind.ROLE)
# A `kill`, and a closed terminal, if the system has that signal.
ENDINGS = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


@dataclasses.dataclass(kw_only=True)
class Outcome:
    """The result of a run in an account.

    `rehearsed`: whether it was done on this machine instead; `denied`: the `errors.Problem` of a
    call that the account may not make; `left`: [(kind, name), ...] that could not be deleted.
    """

    rehearsed: bool = False
    denied: errors.Problem | None = None
    left: list = dataclasses.field(default_factory=list)

    @property
    def exit_code(self):
        if self.left:
            return common.EXIT_FAILED
        return common.EXIT_DENIED if self.denied else common.EXIT_DONE


class Ledger:
    """What one run is about to create, in order; leaving the block deletes it in reverse, unless kept.

    A name is noted before the call that creates it: the creation can succeed in the account and
    its answer still get lost. Within the block a closed terminal (SIGHUP) or a `kill` (SIGTERM)
    counts as Ctrl-C; while the ledger deletes, none of the three can stop it. A killed process
    (kill -9) leaves what it created to cleanup.py.
    """

    def __init__(self, account):
        self.account, self.entries = account, []
        # [(kind, name, errors.Problem), ...] that could not be deleted; the Problem that `falling_back` met.
        self.failed, self.denied = [], None
        self._unmade = set()

    def note(self, kind, name):
        """Note that `name` of `kind` is about to be created."""
        self.entries.append((kind, name))

    def make(self, kind, name, **arguments):
        """Note `name` of `kind`, then create it with the kind's call and `arguments`."""
        self.note(kind, name)
        return getattr(self.account.client(KINDS[kind].service), xform_name(KINDS[kind].maker))(**arguments)

    def ensure_bucket(self):
        """Create the account's bucket, with this project's tag, if it is missing."""
        account = self.account
        if account.bucket_exists:
            return
        # S3's oldest region is the only one that must not be named.
        place = {} if account.region == "us-east-1" else {"LocationConstraint": account.region}
        options = {"CreateBucketConfiguration": place} if place else {}
        self.make("bucket", account.bucket, Bucket=account.bucket, **options)
        account.client("s3").put_bucket_tagging(Bucket=account.bucket, Tagging={"TagSet": aws.TAGS})

    def upload(self, archive, name):
        """Upload `archive` for the deployment `name`; returns its s3:// address."""
        self.ensure_bucket()
        bucket, key = self.account.bucket, f"{aws.OBJECT_PREFIX}{name}/model.tar.gz"
        self.note("object", f"{bucket}/{key}")
        self.account.client("s3").upload_file(str(archive), bucket, key)
        return f"s3://{bucket}/{key}"

    def refused(self, error):
        """Take note of a call's exception: if AWS refused to create the last entry, that does not exist."""
        problem = errors.explain(error) if isinstance(error, Exception) else None
        if problem and problem.kind in REFUSALS and self.entries:
            kind, name = self.entries[-1]
            if problem.operation and KINDS[kind].maker == problem.operation:
                self._unmade.add((kind, name))

    @contextlib.contextmanager
    def falling_back(self):
        """End the block, without an error, at a call that the account may not make; print it and set `denied`."""
        try:
            yield
        except Exception as error:
            self.denied = errors.denial(error)
            if self.denied is None:
                raise
            self.refused(error)
            print(f"denied: {self.denied}", flush=True)

    @property
    def left(self):
        """[(kind, name), ...] that could not be deleted."""
        return [(kind, name) for kind, name, _ in self.failed]

    def keep(self, kinds=tuple(KINDS)):
        """Keep what was created so far of `kinds`; returns it as a list of (kind, name)."""
        kept = [entry for entry in self.entries if entry[0] in kinds and entry not in self._unmade]
        self.entries = [entry for entry in self.entries if entry not in kept]
        return kept

    def __enter__(self):
        self._signals = contextlib.ExitStack()
        self._signals.enter_context(_handled(signal.default_int_handler, *ENDINGS))
        return self

    def __exit__(self, kind, error, traceback):
        self.refused(error)
        with self._signals, _handled(_refuse, signal.SIGINT, *ENDINGS):
            self._delete_all()

    def _delete_all(self):
        """Delete what is noted, the last first, and print it; `failed` gets what cannot be deleted, with the reason."""
        while self.entries:
            kind, name = self.entries.pop()
            try:
                if self._delete(kind, name):
                    print(f"{'stopped' if ' job' in kind else 'deleted'}: {kind} {name}", flush=True)
            except (ClientError, BotoCoreError) as error:
                if (kind, name) in self._unmade:
                    continue
                problem = errors.explain(error)
                self.failed.append((kind, name, problem))
                there = ", if there are any" if problem.operation in LOOKS else ""
                print(f"NOT deleted: {kind} {name}{there} ({problem})", flush=True)
        if self.failed:
            common.print_next("python sagemaker_scripts/cleanup.py", "something is left behind and may cost money")

    def _delete(self, kind, name):
        """Delete it; returns whether it existed. Raises what boto3 raises."""
        try:
            return KINDS[kind].delete(self.account.client(KINDS[kind].service), name) is not False
        except ClientError as error:
            if is_missing(error):
                return False
            raise


@contextlib.contextmanager
def _handled(handler, *signals):
    """Send `signals` to `handler` within the block; outside the main thread Python does not allow it."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _refuse(*_):
    print("still deleting what was created, so that nothing is left to pay for; please wait", flush=True)
