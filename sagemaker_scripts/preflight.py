"""What is known before anything is made: account, role, bucket, quota, image, limits, and what an instance costs."""

import dataclasses
import re
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
ALARM_PRICE = "$0.10 a month each, beyond ten"
STORAGE_PRICE = "about $0.023 a GB and month"
# Versions of AWS's TensorFlow images: the pair that it supports.
IMAGE_VERSIONS = {"training": "2.21", "inference": "2.20"}
# Serverless endpoints take no instance; the image's registry is the same for all CPU instances.
ANY_CPU_INSTANCE = "ml.m5.large"
# Bytes of one request. Real-time: the maximum of BodyBlob in InvokeEndpoint's model in botocore; serverless:
# "Invoke a serverless endpoint", batch: MaxPayloadInMB of CreateTransformJob, both in SageMaker's documentation.
PAYLOAD_BYTES = {"real-time": 6 * 1024**2, "serverless": 4 * 1024**2, "batch": 100 * 1024**2}
SERVERLESS_MOST = 200
# A client is shared, and gets its handler once however often it is asked for.
OWN_HANDLER = "cnnlab"
# Instances with a disk of their own, which AWS encrypts itself: a key for it is refused.
OWN_DISK = re.compile(r"ml\.(?:g[5-9]\w*|p5\w*|trn\w+|[a-z]+\d\w*d\w*)\.")


@dataclasses.dataclass(frozen=True)
class Protection:
    """The KMS key that encrypts what is stored, and the VPC that containers work in; nothing where none is named."""

    kms_key: str | None = None
    subnets: tuple = ()
    security_groups: tuple = ()

    def __post_init__(self):
        if bool(self.subnets) != bool(self.security_groups):
            raise common.BadArgumentsError("a VPC takes both --subnets and --security-groups")
        for names, start in ((self.subnets, "subnet-"), (self.security_groups, "sg-")):
            for name in names:
                if not re.fullmatch(rf"{start}[0-9a-f]+", name):
                    raise common.BadArgumentsError(f"{name!r} is none; expected one such as {start}0123456789abcdef0")
        if self.kms_key is not None and not re.fullmatch(r"[\w:/-]+", self.kms_key, re.ASCII):
            raise common.BadArgumentsError(f"no key is called {self.kms_key!r}; expected its ID, ARN or alias/NAME")

    def vpc(self):
        """The VpcConfig that SageMaker's calls take, or None."""
        return {"Subnets": list(self.subnets), "SecurityGroupIds": list(self.security_groups)} if self.subnets else None

    def volume_key(self, instance):
        """The key for the disk of `instance`; None where it must not be named."""
        return None if OWN_DISK.match(instance) else self.kms_key


@dataclasses.dataclass(frozen=True)
class Account:
    """Where and as whom the scripts work.

    `session`: a boto3 Session; `number`: 12 digits; `bucket`: name; `is_lab`: an AWS Academy
    Learner Lab; `role`: ARN of the role that SageMaker takes on, and `bucket_exists`, both None
    where nobody has looked yet; `protection`: a Protection.
    """

    session: Any
    number: str
    region: str
    bucket: str
    is_lab: bool
    role: str | None = None
    bucket_exists: bool | None = None
    protection: Protection = Protection()

    def client(self, service):
        """boto3's client of `service`; S3's as `guarded`."""
        client = aws.client(self.session, service, self.region)
        return self.guarded(client) if service == "s3" else client

    def guarded(self, client):
        """`client`, of S3: it refuses a bucket of another account, whose name a stranger can have, and encrypts."""
        event = {"event_name": "before-parameter-build.s3", "unique_id": OWN_HANDLER}
        client.meta.events.unregister(**event)
        client.meta.events.register(handler=self._complete, **event)
        return client

    def _complete(self, params, model, **_):
        members = model.input_shape.members
        for owner in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
            if owner in members:
                params.setdefault(owner, self.number)
        if self.protection.kms_key and "SSEKMSKeyId" in members:
            params.setdefault("ServerSideEncryption", "aws:kms")
            params.setdefault("SSEKMSKeyId", self.protection.kms_key)


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What an endpoint runs on: `instance`, or, where `memory` (MB) is given, serverless.

    `concurrency`: answers at once of a serverless one; `scale`: (fewest, most) instances where
    their number follows the load; `capture`: the percentage of requests that is kept in S3.
    """

    instance: str = ANY_CPU_INSTANCE
    memory: int | None = None
    concurrency: int = 2
    scale: tuple | None = None
    capture: int | None = None

    def __post_init__(self):
        if self.memory and (self.scale or self.capture):
            raise common.BadArgumentsError("a serverless endpoint takes neither --scale nor --capture")
        if not 1 <= self.concurrency <= SERVERLESS_MOST:
            raise common.BadArgumentsError(f"--max-concurrency is {self.concurrency}; expected 1 to {SERVERLESS_MOST}")
        if self.scale and not 1 <= self.scale[0] <= self.scale[1]:
            raise common.BadArgumentsError(f"--scale is {self.scale[0]}-{self.scale[1]}; expected such as 1-3")
        if self.scale and self.instance.startswith("ml.t"):
            raise common.BadArgumentsError(f"AWS scales no {self.instance}; take another --instance")
        if self.capture is not None and not 1 <= self.capture <= 100:
            raise common.BadArgumentsError(f"--capture is {self.capture}; expected a percentage from 1 to 100")

    def __str__(self):
        if self.memory:
            return f"serverless with {self.memory} MB, {self.concurrency} answers at once"
        return f"{self.scale[0]} to {self.scale[1]} {self.instance}" if self.scale else self.instance

    @property
    def payload_bytes(self):
        """The largest request."""
        return PAYLOAD_BYTES["serverless" if self.memory else "real-time"]

    def price(self, region):
        """The price in one sentence."""
        if self.memory:
            second = self.memory / 1024 * SERVERLESS_GB_SECOND
            return f"{self} costs nothing while idle and about ${second:.6f} a second of work ({PRICES_REGION})"
        each = f"{price_sentence(self.instance, region)}, also while nobody asks it anything"
        return f"{each}; up to {self.scale[1]} times that" if self.scale else each


def identify(session, bucket=None, protection=None):
    """The Account behind `session`, as far as its credentials tell; `bucket` where the default does not fit.

    `protection`: a Protection (default: none). Raises common.ScriptError with one line: expired
    or wrong credentials, an ended lab, no region.
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
    return Account(session, identity["Account"], region, bucket, is_lab, protection=protection or Protection())


def check_account(session, role=None, bucket=None, protection=None):
    """The Account behind `session`, its role and its bucket looked up; `role` is a name or an ARN.

    `protection`: as for `identify`. Only reads. Raises common.ScriptError as `identify` does, and
    for a missing role or a bucket of somebody else.
    """
    account = identify(session, bucket, protection)
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


def check_quota(account, instance, count=1, use="endpoint"):
    """Raise ScriptError where the account may not have `count` of `instance` for `use`, or "transform job"."""
    name = f"{instance} for {use} usage"
    try:
        pages = account.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
        found = (quota["Value"] for page in pages for quota in page["Quotas"] if quota["QuotaName"] == name)
        quota = next(found, None)
    except (ClientError, BotoCoreError):  # Many accounts may not look: the creation itself will tell.
        return
    if quota is not None and quota < count:
        raise common.ScriptError(
            f"this account may have {quota:.0f} {instance} for {use}s, and {count} are asked for: take another "
            "--instance or fewer, --serverless, or ask for more in the Service Quotas console"
        )


def print_place(account):
    """The first lines of a plan: where it happens, and as whom."""
    lab = " (AWS Academy Learner Lab)" if account.is_lab else ""
    bucket = account.bucket if account.bucket_exists else f"{account.bucket} (is made)"
    print(f"account:  {account.number}{lab} in {account.region}")
    print(f"role:     {account.role}")
    print(f"bucket:   {bucket}", flush=True)


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
