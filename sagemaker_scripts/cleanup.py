"""Find everything that these scripts made in an account, show it, and delete it after asking.

What counts: SageMaker endpoints, endpoint configs and models whose name starts with "cnnlab-"
and that carry the tag project=cnnlab; running training and tuning jobs of that prefix, which
are stopped; objects below cnnlab/ and cnnlab-* in the bucket; and the bucket itself where the scripts made it
and nothing else is in it. Safe to run twice.
"""

import contextlib
import dataclasses
import sys

from botocore.exceptions import ClientError

from sagemaker_scripts import aws, common, preflight, resources

# (kind, name of boto3's list call, key of its answer, key of a name, key of an ARN)
LISTINGS = (
    ("tuning job", "list_hyper_parameter_tuning_jobs", "HyperParameterTuningJobSummaries",
     "HyperParameterTuningJobName", "HyperParameterTuningJobArn"),
    ("training job", "list_training_jobs", "TrainingJobSummaries", "TrainingJobName", "TrainingJobArn"),
    ("endpoint", "list_endpoints", "Endpoints", "EndpointName", "EndpointArn"),
    ("endpoint config", "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName", "EndpointConfigArn"),
    ("model", "list_models", "Models", "ModelName", "ModelArn"),
)  # fmt: skip
JOBS = ("tuning job", "training job")
ENDED = {"Completed", "Failed", "Stopped", "Stopping", "Deleting", "DeleteFailed"}
OUR_TAG = {"Key": aws.TAG_KEY, "Value": aws.TAG_VALUE}


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
    """Everything of this project in `account` (a `preflight.Account`), as Found; only reads.

    `objects`: False leaves what lies in S3 out of it.
    """
    found = Found()
    client = account.client("sagemaker")
    for listing in LISTINGS:
        with _noting(listing[0], found):
            _find_listed(client, found, *listing)
    if objects:
        with _noting("objects", found):
            if preflight.bucket_exists(account, account.bucket):
                _find_objects(account.client("s3"), found, account.bucket)
    return found


def cleanup(region=None, profile=None, bucket=None, objects=True, yes=False, dry_run=False):
    """Delete what `find` finds, after showing it; arguments as the flags of --help.

    Returns what is left, [(kind, name, reason), ...]: what could not be deleted and, with an
    empty name, what could not be listed. Raises common.ScriptError with one line.
    """
    account = preflight.identify(aws.make_session(region, profile), bucket)
    found = find(account, objects)
    _show(account, found)
    left = [(kind, "", reason) for kind, reason in found.unseen]
    if not found.ours or dry_run:
        return left
    if not common.confirm("Delete all of this?", yes):
        raise common.ScriptError("not agreed; nothing was deleted")
    with resources.Ledger(account) as ledger:
        for kind, name in reversed(found.ours):
            ledger.note(kind, name)
    return left + ledger.failed


def _find_listed(client, found, kind, call, items, name, arn):
    for page in client.get_paginator(call).paginate(NameContains=aws.PREFIX):
        for item in page[items]:
            if item[name].startswith(aws.PREFIX) and not _is_over(kind, item):
                ours = kind in JOBS or _is_tagged(client, item[arn])
                (found.ours if ours else found.foreign).append((kind, item[name]))


def _is_over(kind, item):
    """A job that has ended costs nothing and cannot be deleted; an endpoint that goes needs no second push."""
    if kind in JOBS:
        return (item.get("TrainingJobStatus") or item.get("HyperParameterTuningJobStatus")) in ENDED
    return item.get("EndpointStatus") == "Deleting"


def _is_tagged(client, arn):
    """Whether `arn` has this project's tag; also yes where AWS does not let us look: a bill is worse."""
    try:
        return OUR_TAG in client.list_tags(ResourceArn=arn)["Tags"]
    except ClientError as error:
        return aws.explain(error).kind is aws.Kind.DENIED


def _find_objects(s3, found, bucket):
    for prefix in aws.OBJECT_PREFIXES:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        if sizes := [item["Size"] for page in pages for item in page.get("Contents", [])]:
            found.ours.append(("objects", f"{bucket}/{prefix}"))
            found.objects[f"{bucket}/{prefix}"] = len(sizes), sum(sizes)
    others = [name for name in _top_level(s3, bucket) if not name.startswith(aws.OBJECT_PREFIXES)]
    if not others and _is_our_bucket(s3, bucket):
        found.ours.append(("bucket", bucket))


def _top_level(s3, bucket):
    """Keys and folders that lie directly in `bucket`."""
    answer = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    return [item["Prefix"] for item in answer.get("CommonPrefixes", [])] + [
        item["Key"] for item in answer.get("Contents", [])
    ]


def _is_our_bucket(s3, bucket):
    try:
        return OUR_TAG in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
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
    where = f"account {account.number}, region {account.region}"
    if not found.ours:
        print(f"found: nothing of this project in {where}")
    for kind, name in found.ours:
        count, size = found.objects.get(name, (0, 0))
        print(f"found: {kind} {name}" + (f" ({count} of them, {size / 1e6:.1f} MB)" if count else ""))
    for kind, name in found.foreign:
        print(f"left alone: {kind} {name} lacks the tag {aws.TAG_KEY}={aws.TAG_VALUE}")
    for kind, reason in found.unseen:
        print(f"NOT listed: {kind} ({reason})")


def make_parser():
    parser = common.parser(__doc__)
    common.add_account_flags(parser, role=False)
    parser.add_argument("--keep-objects", action="store_true", help="leave archives, results and checkpoints in S3")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument("--dry-run", action="store_true", help="only show what there is")
    return parser


def main(argv=None):
    arguments = make_parser().parse_args(argv)
    left = cleanup(
        arguments.region, arguments.profile, arguments.bucket, not arguments.keep_objects,
        arguments.yes, arguments.dry_run,
    )  # fmt: skip
    if left:
        raise common.ScriptError(f"{len(left)} could not be deleted or listed; see the lines above")
    return common.EXIT_DONE


if __name__ == "__main__":
    sys.exit(common.run(main))
