"""Find everything that these scripts made in an account, show it, and delete it after asking.

What counts: SageMaker endpoints, endpoint configs, models and groups of model packages whose name
starts with "cnnlab-" and that carry the tag project=cnnlab; what hangs on them and has such a
name: dates of deletion, alarms, and what scales endpoints; running training, tuning and transform
jobs of that prefix, which are stopped; objects below cnnlab/ and cnnlab-* in the bucket; and the
bucket itself where the scripts made it and nothing else is in it. Safe to run twice.
"""

import contextlib
import dataclasses
import signal
import sys
import threading

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

from sagemaker_scripts import aws, common
from sagemaker_scripts.resources import KINDS, is_missing

# These cost next to nothing, and many accounts may not list them: that alone is no failure.
HARMLESS = ("scalable target", "alarm", "schedule", "model package group")
# Noted before it is known whether there will be any; where these calls fail, nobody knows.
LOOKS = ("ListObjectsV2", "ListTrainingJobs")
# What AWS says before it does anything: a lost answer to an earlier try is not behind it.
REFUSALS = (aws.Kind.DENIED, aws.Kind.EXPIRED, aws.Kind.BAD_CREDENTIALS, aws.Kind.QUOTA, aws.Kind.ROLE)
# A `kill`, and a closed terminal, where the system knows one.
ENDINGS = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


@dataclasses.dataclass(kw_only=True)
class Outcome:
    """What became of a run in an account.

    `rehearsed`: whether it was done on this machine instead; `denied`: the `aws.Problem` of the
    call that the account may not make; `left`: [(kind, name), ...] that could not be deleted.
    """

    rehearsed: bool = False
    denied: aws.Problem | None = None
    left: list = dataclasses.field(default_factory=list)

    @property
    def exit_code(self):
        if self.left:
            return common.EXIT_FAILED
        return common.EXIT_DENIED if self.denied else common.EXIT_DONE


class Ledger:
    """What one run is about to make, in order; leaving the block deletes it in reverse, unless kept.

    A name is noted before the call that makes it: a creation can succeed in the account and
    fail on its way back. Within the block a closed terminal (SIGHUP) or a `kill` (SIGTERM)
    counts as Ctrl-C; while it deletes, none of the three can stop it. A killed process
    (kill -9) leaves what it made to cleanup.py.
    """

    def __init__(self, account):
        self.account, self.entries = account, []
        # [(kind, name, aws.Problem), ...] of what could not be deleted; the Problem that `falling_back` met.
        self.failed, self.denied = [], None
        self._unmade = set()

    def note(self, kind, name):
        """Note that `name` of `kind` is about to be made."""
        self.entries.append((kind, name))

    def make(self, kind, name, **arguments):
        """Note `name` of `kind`, then make it by the kind's call with `arguments`."""
        self.note(kind, name)
        return getattr(self.account.client(KINDS[kind].service), xform_name(KINDS[kind].maker))(**arguments)

    def ensure_bucket(self):
        """Make the account's bucket where it is missing, with this project's tag on it."""
        account = self.account
        if account.bucket_exists:
            return
        # S3's oldest region is the one that must not be named.
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
        """Take notice of the exception of a call: what was noted last is not there where AWS refused to make it."""
        problem = aws.explain(error) if isinstance(error, Exception) else None
        if problem and problem.kind in REFUSALS and self.entries:
            kind, name = self.entries[-1]
            if problem.operation and KINDS[kind].maker == problem.operation:
                self._unmade.add((kind, name))

    @contextlib.contextmanager
    def falling_back(self):
        """A call that the account may not make ends the block without an error, and is in `denied` and printed."""
        try:
            yield
        except Exception as error:
            self.denied = aws.denial(error)
            if self.denied is None:
                raise
            self.refused(error)
            print(f"denied: {self.denied}", flush=True)

    @property
    def left(self):
        """[(kind, name), ...] that could not be deleted."""
        return [(kind, name) for kind, name, _ in self.failed]

    def keep(self, kinds=tuple(KINDS)):
        """What was made so far of `kinds` stays; returns it, as a list of (kind, name)."""
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
        """Delete what is noted, the last first, and print it. What resists is in `failed`, with the reason."""
        while self.entries:
            kind, name = self.entries.pop()
            try:
                if self._delete(kind, name):
                    print(f"{'stopped' if ' job' in kind else 'deleted'}: {kind} {name}", flush=True)
            except (ClientError, BotoCoreError) as error:
                if (kind, name) in self._unmade:
                    continue
                problem = aws.explain(error)
                self.failed.append((kind, name, problem))
                there = ", if there are any" if problem.operation in LOOKS else ""
                print(f"NOT deleted: {kind} {name}{there} ({problem})", flush=True)
        if self.failed:
            common.print_next("python sagemaker_scripts/cleanup.py", "something is left behind and may cost money")

    def _delete(self, kind, name):
        """Whether it was there, before it was deleted; raises what boto3 raises."""
        try:
            return KINDS[kind].delete(self.account.client(KINDS[kind].service), name) is not False
        except ClientError as error:
            if is_missing(error):
                return False
            raise


@contextlib.contextmanager
def _handled(handler, *signals):
    """`signals` go to `handler` within the block; outside of the main thread Python allows none of it."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _refuse(*_):
    print("still deleting what was made, so that nothing is left to pay for; please wait", flush=True)


@dataclasses.dataclass
class Found:
    """What was found.

    `ours`: [(kind, name), ...] in the order of deletion; `foreign`: the same, of our prefix but
    without our tag; `unseen`: [(kind, reason), ...] that the account did not let us list;
    `objects`: {name of objects: (how many, bytes)}.
    """

    ours: list = dataclasses.field(default_factory=list)
    foreign: list = dataclasses.field(default_factory=list)
    unseen: list = dataclasses.field(default_factory=list)
    objects: dict = dataclasses.field(default_factory=dict)


def find(account, objects=True):
    """Everything of this project in `account` (an `aws.Account`), as Found; only reads.

    `objects`: False leaves what lies in S3 out of it.
    """
    found = Found()
    for kind, resource in KINDS.items():
        if resource.listing:
            with _noting(kind, found):
                _find_listed(account, found, kind, resource)
    if objects:
        with _noting("objects", found):
            if aws.bucket_exists(account):
                _find_objects(account.client("s3"), found, account.bucket)
    return found


def cleanup(access, objects=True, yes=False, dry_run=False):
    """Delete what `find` finds, after showing it; `access`: an `aws.Access`.

    Returns what is left, [(kind, name, reason), ...]: what could not be deleted and, with an
    empty name, what could not be listed. Raises common.ScriptError with one line.
    """
    account = aws.identify(access)
    found = find(account, objects)
    _show(account, found)
    left = [(kind, "", reason) for kind, reason in found.unseen if kind not in HARMLESS]
    if not found.ours or dry_run:
        return left
    common.confirm("Delete all of this?", yes, "nothing was deleted")
    with Ledger(account) as ledger:
        for kind, name in reversed(found.ours):
            ledger.note(kind, name)
    return left + ledger.failed


def _find_listed(account, found, kind, resource):
    arguments = resource.filter if isinstance(resource.filter, dict) else {resource.filter: aws.PREFIX}
    pages = account.client(resource.service).get_paginator(resource.listing).paginate(**arguments)
    for item in (item for page in pages for item in page[resource.items]):
        # An endpoint's instances are called endpoint/NAME/variant/VARIANT.
        name = item[resource.name].removeprefix("endpoint/").partition("/")[0]
        # SageMaker's answers have a ...Status and an ...Arn beside each ...Name.
        if name.startswith(aws.PREFIX) and item.get(resource.name.replace("Name", "Status")) not in resource.over:
            ours = not resource.tagged or _is_tagged(account, item[resource.name.replace("Name", "Arn")])
            (found.ours if ours else found.foreign).append((kind, name))


def _is_tagged(account, arn):
    """Whether `arn` has this project's tag; also yes where AWS does not let us look: a bill is worse."""
    try:
        return aws.TAG in account.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]
    except ClientError as error:
        return aws.denial(error) is not None


def _find_objects(s3, found, bucket):
    for prefix in aws.OBJECT_PREFIXES:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        if sizes := [item["Size"] for page in pages for item in page.get("Contents", [])]:
            found.ours.append(("objects", f"{bucket}/{prefix}"))
            found.objects[f"{bucket}/{prefix}"] = len(sizes), sum(sizes)
    top = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    names = [item["Prefix"] for item in top.get("CommonPrefixes", [])] + [
        item["Key"] for item in top.get("Contents", [])
    ]
    if all(name.startswith(aws.OBJECT_PREFIXES) for name in names) and _is_our_bucket(s3, bucket):
        found.ours.append(("bucket", bucket))


def _is_our_bucket(s3, bucket):
    try:
        return aws.TAG in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    except ClientError:  # It has no tags, or may not be asked for them: then it is not ours to delete.
        return False


@contextlib.contextmanager
def _noting(kind, found):
    """A listing that is refused is a gap in what was found, and not the end of it."""
    try:
        with aws.plain_errors():
            yield
    except common.ScriptError as error:
        found.unseen.append((kind, str(error)))


def _show(account, found):
    if not found.ours:
        print(f"found: nothing of this project in account {account.number}, region {account.region}")
    for kind, name in found.ours:
        count, size = found.objects.get(name, (0, 0))
        print(f"found: {kind} {name}" + (f" ({count} of them, {size / 1e6:.1f} MB)" if count else ""))
    for kind, name in found.foreign:
        print(f"left alone: {kind} {name} lacks the tag {aws.TAG['Key']}={aws.TAG['Value']}")
    for kind, reason in found.unseen:
        print(f"NOT listed: {kind} ({reason})")


def make_parser():
    parser = common.parser(__doc__)
    aws.Access.add_flags(parser, role=False)
    parser.add_argument("--keep-objects", action="store_true", help="leave archives, results and checkpoints in S3")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument("--dry-run", action="store_true", help="only show what there is")
    return parser


def main(argv=None):
    given = make_parser().parse_args(argv)
    left = cleanup(aws.Access.of(given), not given.keep_objects, given.yes, given.dry_run)
    if left:
        raise common.ScriptError(f"{len(left)} could not be deleted or listed; see the lines above")
    return common.EXIT_DONE


if __name__ == "__main__":
    sys.exit(common.run(main))
