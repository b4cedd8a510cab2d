"""What is known before anything is made: account, role, bucket, quota, image, and what an instance costs."""

import dataclasses
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sagemaker_scripts import aws, common

# The identity and the role of an AWS Academy Learner Lab.
LAB_IDENTITY = "/voclabs/"
LAB_ROLE = "LabRole"
# US dollars an hour, on demand, for endpoints and training alike, as AWS lists them on this page:
# a small table, so that nobody starts a clock without having seen it. Other regions differ, and prices change.
PRICES_PAGE, PRICES_REGION, PRICES_NOTED = "https://aws.amazon.com/sagemaker/ai/pricing/", "us-east-1", "2025"
HOURLY = {
    "ml.t2.medium": 0.056,
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.m5.2xlarge": 0.461,
    "ml.m5.4xlarge": 0.922,
    "ml.c5.large": 0.102,
    "ml.c5.xlarge": 0.204,
    "ml.c5.2xlarge": 0.408,
    "ml.c5.4xlarge": 0.816,
    "ml.g4dn.xlarge": 0.7364,
    "ml.g5.xlarge": 1.408,
}
# US dollars for a second of work with 1 GB, likewise.
SERVERLESS_GB_SECOND = 0.00002
# Versions of AWS's TensorFlow images: the pair that it supports.
IMAGE_VERSIONS = {"training": "2.21", "inference": "2.20"}
# Serverless endpoints take no instance; the image's registry is the same for all CPU instances.
ANY_CPU_INSTANCE = "ml.m5.large"


@dataclasses.dataclass(frozen=True)
class Account:
    """Where and as whom the scripts work.

    `session`: a boto3 Session; `number`: 12 digits; `bucket`: name; `is_lab`: an AWS Academy
    Learner Lab; `role`: ARN of the role that SageMaker takes on, and `bucket_exists`, both None
    where nobody has looked yet.
    """

    session: Any
    number: str
    region: str
    bucket: str
    is_lab: bool
    role: str | None = None
    bucket_exists: bool | None = None

    def client(self, service):
        """boto3's client of `service`; S3's refuses a bucket of another account, whose name a stranger can have."""
        client = aws.client(self.session, service, self.region)
        if service == "s3":
            client.meta.events.register("before-parameter-build.s3", self._name_owner)
        return client

    def _name_owner(self, params, model, **_):
        if "ExpectedBucketOwner" in model.input_shape.members:
            params.setdefault("ExpectedBucketOwner", self.number)


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What an endpoint runs on: one `instance`, or, where `memory` (MB) is given, serverless."""

    instance: str = ANY_CPU_INSTANCE
    memory: int | None = None
    concurrency: int = 2

    def __str__(self):
        return f"serverless with {self.memory} MB" if self.memory else self.instance

    def price(self, region):
        """The price in one sentence."""
        if self.memory:
            second = self.memory / 1024 * SERVERLESS_GB_SECOND
            return f"{self} costs nothing while idle and about ${second:.6f} a second of work ({PRICES_REGION})"
        return f"{price_sentence(self.instance, region)}, also while nobody asks it anything"


def identify(session, bucket=None):
    """The Account behind `session`, as far as its credentials tell; `bucket` where the default does not fit.

    Raises common.ScriptError with one line: expired or wrong credentials, an ended lab, no region.
    """
    if not aws.has_credentials(session):
        raise common.ScriptError(f"no AWS credentials on this machine; {aws.Kind.NO_CREDENTIALS.value}")
    with aws.plain_errors():
        identity = aws.client(session, "sts", session.region_name or aws.LAB_REGION).get_caller_identity()
        is_lab = LAB_IDENTITY in identity["Arn"]
        region = session.region_name or (aws.LAB_REGION if is_lab else None)
        if region is None:
            raise common.BadArgumentsError("no region: give --region us-east-1, or set AWS_DEFAULT_REGION")
        if is_lab and _everything_is_denied(session, region):
            raise common.DeniedError(
                "the lab session has ended: AWS still knows the credentials but denies everything. "
                "Press Start Lab, wait for the green light, copy the credentials anew and run this again"
            )
    # The managed policy of SageMaker's roles opens buckets that have "sagemaker" in their name.
    bucket = bucket or f"sagemaker-{region}-{identity['Account']}"
    return Account(session, identity["Account"], region, bucket, is_lab)


def check_account(session, role=None, bucket=None):
    """The Account behind `session`, its role and its bucket looked up; `role` is a name or an ARN.

    Only reads. Raises common.ScriptError as `identify` does, and for a missing role or a bucket
    of somebody else.
    """
    account = identify(session, bucket)
    with aws.plain_errors():
        return dataclasses.replace(
            account, role=_find_role(account, role), bucket_exists=bucket_exists(account, account.bucket)
        )


def bucket_exists(account, bucket):
    """Whether `bucket` is there. Raises DeniedError where it is not the account's own: a stranger can have the name."""
    try:
        account.client("s3").head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchBucket"):
            return False
        if aws.explain(error).kind is aws.Kind.DENIED:
            raise common.DeniedError(
                f"the bucket {bucket} belongs to somebody else, or may not be read: give another one with --bucket"
            ) from error
        raise
    return True


def endpoint_quota(account, instance):
    """How many `instance` an account may have behind endpoints, or None where AWS does not tell."""
    name = f"{instance} for endpoint usage"
    try:
        pages = account.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
        return next((quota["Value"] for page in pages for quota in page["Quotas"] if quota["QuotaName"] == name), None)
    except (ClientError, BotoCoreError):  # Many accounts may not look: the creation itself will tell.
        return None


def image_uri(scope, region, instance):
    """Address of AWS's TensorFlow image for `scope`, "training" or "inference"; with CUDA where `instance` has it."""
    from sagemaker.core import image_uris

    return image_uris.retrieve(
        "tensorflow", region, version=IMAGE_VERSIONS[scope], instance_type=instance, image_scope=scope
    )


def hourly_price(instance, region):
    """US dollars an hour of one `instance`; None where the table does not know."""
    return HOURLY.get(instance) if region == PRICES_REGION else None


def price_sentence(instance, region):
    """What `instance` costs an hour, or that this is unknown."""
    price = hourly_price(instance, region)
    if price is None:
        return f"the price of {instance} in {region} is unknown here; see {PRICES_PAGE}"
    return f"{instance} costs about ${price:.3f} an hour ({region}, noted {PRICES_NOTED})"


def _everything_is_denied(session, region):
    calls = (
        lambda: aws.client(session, "sagemaker", region).list_endpoints(MaxResults=1),
        lambda: aws.client(session, "s3", region).list_buckets(),
    )
    return all(_is_denied(call) for call in calls)


def _is_denied(call):
    try:
        call()
    except ClientError as error:
        if aws.explain(error).kind is not aws.Kind.DENIED:
            raise
        return True
    return False


def _find_role(account, role):
    if role or account.is_lab:
        role = role or LAB_ROLE
        partition = account.session.get_partition_for_region(account.region)
        return role if role.startswith("arn:") else f"arn:{partition}:iam::{account.number}:role/{role}"
    from sagemaker.core.helper.session_helper import Session, get_execution_role

    try:
        return get_execution_role(Session(boto_session=account.session, sagemaker_config=aws.SDK_CONFIG))
    except ValueError as error:  # A user, not a role, is asking.
        raise common.BadArgumentsError(
            "the credentials are a user's: name the role that SageMaker shall take on with --role"
        ) from error
