"""Find everything that these scripts made in an account, show it, and delete it after asking.

What counts: SageMaker endpoints, endpoint configs, models and groups of model packages whose name
starts with "cnnlab-" and that carry the tag project=cnnlab; what hangs on them and has such a
name: dates of deletion, alarms, and what scales endpoints; running training, tuning and transform
jobs of that prefix, which are stopped; objects below cnnlab/ and cnnlab-* in the bucket; and the
bucket itself where the scripts made it and nothing else is in it. Safe to run twice.
"""

import contextlib
import dataclasses
import sys
from typing import NamedTuple

from botocore.exceptions import ClientError

from sagemaker_scripts import aws, common, preflight
from sagemaker_scripts.ledger import Ledger


class Listing(NamedTuple):
    """How the things of one kind are listed: service, boto3's call and its arguments, and the keys of its answer.

    `arn`: the key of an ARN whose tags decide; None where the name alone does.
    """

    kind: str
    service: str
    call: str
    arguments: dict
    items: str
    name: str
    arn: str | None


def _of_sagemaker(kind, call, items, name, arn=None):
    return Listing(kind, "sagemaker", call, {"NameContains": aws.PREFIX}, items, name, arn)


# In the order of deletion: jobs and what hangs on an endpoint go before it, a model last.
LISTINGS = (
    _of_sagemaker("tuning job", "list_hyper_parameter_tuning_jobs", "HyperParameterTuningJobSummaries",
                  "HyperParameterTuningJobName"),
    _of_sagemaker("training job", "list_training_jobs", "TrainingJobSummaries", "TrainingJobName"),
    _of_sagemaker("transform job", "list_transform_jobs", "TransformJobSummaries", "TransformJobName"),
    Listing("alarm", "cloudwatch", "describe_alarms", {"AlarmNamePrefix": aws.PREFIX}, "MetricAlarms", "AlarmName",
            None),
    Listing("scalable target", "application-autoscaling", "describe_scalable_targets",
            {"ServiceNamespace": "sagemaker"}, "ScalableTargets", "ResourceId", None),
    _of_sagemaker("endpoint", "list_endpoints", "Endpoints", "EndpointName", "EndpointArn"),
    Listing("schedule", "scheduler", "list_schedules", {"NamePrefix": aws.PREFIX}, "Schedules", "Name", None),
    _of_sagemaker("endpoint config", "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName",
                  "EndpointConfigArn"),
    _of_sagemaker("model package group", "list_model_package_groups", "ModelPackageGroupSummaryList",
                  "ModelPackageGroupName", "ModelPackageGroupArn"),
    _of_sagemaker("model", "list_models", "Models", "ModelName", "ModelArn"),
)  # fmt: skip
# A job that has ended costs nothing and cannot be deleted; an endpoint that goes needs no second push.
ENDED = {"Completed", "Failed", "Stopped", "Stopping", "Deleting", "DeleteFailed"}
OVER = {
    "tuning job": ("HyperParameterTuningJobStatus", ENDED),
    "training job": ("TrainingJobStatus", ENDED),
    "transform job": ("TransformJobStatus", ENDED),
    "endpoint": ("EndpointStatus", {"Deleting"}),
}
# These cost next to nothing, and many accounts may not list them: that alone is no failure.
HARMLESS = ("scalable target", "alarm", "schedule", "model package group")
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
    for listing in LISTINGS:
        with _noting(listing.kind, found):
            _find_listed(account, found, listing)
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
    left = [(kind, "", reason) for kind, reason in found.unseen if kind not in HARMLESS]
    if not found.ours or dry_run:
        return left
    if not common.confirm("Delete all of this?", yes):
        raise common.ScriptError("not agreed; nothing was deleted")
    with Ledger(account) as ledger:
        for kind, name in reversed(found.ours):
            ledger.note(kind, name)
    return left + ledger.failed


def _find_listed(account, found, listing):
    pages = account.client(listing.service).get_paginator(listing.call).paginate(**listing.arguments)
    for item in (item for page in pages for item in page[listing.items]):
        # An endpoint's instances are called endpoint/NAME/variant/VARIANT.
        name = item[listing.name].removeprefix("endpoint/").partition("/")[0]
        status, over = OVER.get(listing.kind, (None, ()))
        if name.startswith(aws.PREFIX) and item.get(status) not in over:
            ours = listing.arn is None or _is_tagged(account.client("sagemaker"), item[listing.arn])
            (found.ours if ours else found.foreign).append((listing.kind, name))


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
