"""Find everything that these scripts created in an account, show it, and delete it after asking.

What counts: SageMaker endpoints, endpoint configs, models and model package groups whose name
starts with "cnnlab-" and that carry the tag project=cnnlab; what belongs to them and has such a
name: deletion schedules, alarms and scaling targets; running training, tuning and transform jobs
with that prefix, which are stopped; objects under cnnlab/ and cnnlab-* in the bucket; and the
bucket itself, if the scripts created it and nothing else is in it. Safe to run twice.
"""

import contextlib
import dataclasses
import sys

from botocore.exceptions import ClientError

from sagemaker_scripts import aws, common, errors
from sagemaker_scripts.account.ledger import Ledger
from sagemaker_scripts.resources import KINDS, listed_objects

# These cost next to nothing, and many accounts may not list them: not listing them is no failure.
HARMLESS = ("scalable target", "alarm", "schedule", "model package group")


@dataclasses.dataclass
class Found:
    """What was found.

    `ours`: [(kind, name), ...] in the order of deletion; `foreign`: the same, with our prefix but
    without our tag; `unseen`: [(kind, reason), ...] that the account did not let us list;
    `objects`: {bucket/prefix: (how many, bytes)}.
    """

    ours: list = dataclasses.field(default_factory=list)
    foreign: list = dataclasses.field(default_factory=list)
    unseen: list = dataclasses.field(default_factory=list)
    objects: dict = dataclasses.field(default_factory=dict)


def find(account, objects=True):
    """Everything of this project in `account` (an `aws.Account`), as Found; only reads.

    `objects`: False leaves S3 out.
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
    """Whether `arn` has this project's tag; also true if AWS does not let us look: a bill would be worse."""
    try:
        return aws.TAG in account.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]
    except ClientError as error:
        return errors.denial(error) is not None


def _find_objects(s3, found, bucket):
    for prefix in aws.OBJECT_PREFIXES:
        if objects := listed_objects(s3, bucket, prefix):
            found.ours.append(("objects", f"{bucket}/{prefix}"))
            found.objects[f"{bucket}/{prefix}"] = len(objects), sum(size for _, size in objects)
    top = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    names = [item["Prefix"] for item in top.get("CommonPrefixes", [])] + [
        item["Key"] for item in top.get("Contents", [])
    ]
    if all(name.startswith(aws.OBJECT_PREFIXES) for name in names) and _is_our_bucket(s3, bucket):
        found.ours.append(("bucket", bucket))


def _is_our_bucket(s3, bucket):
    try:
        return aws.TAG in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    except ClientError:  # It has no tags, or we may not read them: then it is not ours to delete.
        return False


@contextlib.contextmanager
def _noting(kind, found):
    """Record a refused listing as a gap in what was found, and go on."""
    try:
        with errors.plain_errors():
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
        raise common.ScriptError(f"not deleted or not listed: {len(left)}; see the lines above")
    return common.EXIT_DONE


if __name__ == "__main__":
    sys.exit(common.run(main))
