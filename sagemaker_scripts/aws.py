"""The AWS account that the scripts work in: identity, region, role, bucket and clients."""

import dataclasses
import functools
import logging
import re
import secrets
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore import exceptions
from botocore.config import Config

from sagemaker_scripts import common, errors

# Everything that the scripts create has this prefix in its name and this tag, so that cleanup finds it.
PREFIX = "cnnlab-"
# Objects lie under the first; the SDK puts a tuning job's code at the top of the bucket, under the job's name.
OBJECT_PREFIX = "cnnlab/"
OBJECT_PREFIXES = (OBJECT_PREFIX, PREFIX)
TAG = {"Key": "project", "Value": "cnnlab"}
TAGS = [TAG]
# The identity, the role and the region of an AWS Academy Learner Lab.
LAB_IDENTITY, LAB_ROLE, LAB_REGION = "/voclabs/", "LabRole", "us-east-1"
# Instances with a local disk, which AWS encrypts itself: a key for it is refused.
OWN_DISK = re.compile(r"ml\.(?:g[5-9]\w*|p5\w*|trn\w+|[a-z]+\d\w*d\w*)\.")
# A client is shared; this ID keeps its handler from being registered more than once.
OWN_HANDLER = "cnnlab"
# The SDK reports its use to AWS unless it is told not to.
SDK_CONFIG = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}


def has_credentials(session):
    """Whether `session` finds any credentials, without asking AWS whether they are valid."""
    return session.get_credentials() is not None


@functools.lru_cache(maxsize=64)
def client(session, service, region=None):
    """The one shared client of `service`; it retries when throttled, and soon gives up on a dead connection."""
    config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10)
    return session.client(service, region_name=region, config=config)


@dataclasses.dataclass(frozen=True)
class Access:
    """How the scripts get into an account and what they use there; None: the account's default.

    `region` and `profile` (of ~/.aws/config); `bucket`: its name; `role`: name or ARN of the role
    that SageMaker assumes; `kms_key`: ID, ARN or alias of the key that encrypts what is stored;
    `subnets` and `security_groups`: IDs in the VPC that containers run in.
    """

    region: str | None = None
    profile: str | None = None
    bucket: str | None = None
    role: str | None = None
    kms_key: str | None = None
    subnets: tuple = ()
    security_groups: tuple = ()

    def __post_init__(self):
        if bool(self.subnets) != bool(self.security_groups):
            raise common.BadArgumentsError("a VPC needs both --subnets and --security-groups")
        for names, start in ((self.subnets, "subnet-"), (self.security_groups, "sg-")):
            for name in names:
                if not re.fullmatch(rf"{start}[0-9a-f]+", name):
                    raise common.BadArgumentsError(f"{name!r} is not an ID; expected one like {start}0123456789abcdef0")
        if self.kms_key is not None and not re.fullmatch(r"[\w:/-]+", self.kms_key, re.ASCII):
            raise common.BadArgumentsError(f"--kms-key is {self.kms_key!r}; expected a key's ID, ARN or alias/NAME")

    @staticmethod
    def add_flags(parser, role=True):
        """Add --region, --profile, --bucket and, with `role`, the flags of the role, the key and the VPC."""
        parser.add_argument("--region", help="default: the profile's; us-east-1 in a lab")
        parser.add_argument("--profile", help="a profile in ~/.aws/config")
        parser.add_argument("--bucket", help="default: sagemaker-REGION-ACCOUNT")
        if role:
            text = "name or ARN of SageMaker's role (default: LabRole in a lab, or the caller's)"
            parser.add_argument("--role", help=text)
            text = "ID, ARN or alias of the key that encrypts what is stored"
            parser.add_argument("--kms-key", metavar="KEY", help=text)
            text = "IDs in the VPC that containers run in"
            parser.add_argument("--subnets", type=_words, default=(), metavar="A,B", help=text)
            parser.add_argument("--security-groups", type=_words, default=(), metavar="A,B", help="IDs in that VPC")

    @classmethod
    def of(cls, given):
        """From parsed arguments."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: getattr(given, name) for name in names if hasattr(given, name)})

    def session(self):
        """A boto3 Session. Raises BadArgumentsError for a missing profile or an impossible region."""
        try:
            session = boto3.Session(region_name=self.region, profile_name=self.profile)
        except exceptions.ProfileNotFound as error:
            raise common.BadArgumentsError(f"{error}; see the names in ~/.aws/config") from error
        name = session.region_name
        if name and not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", name):
            raise common.BadArgumentsError(f"{name!r} is not a region; expected one such as {LAB_REGION}")
        return session

    def vpc(self):
        """The VpcConfig that SageMaker's calls take, or None."""
        return {"Subnets": list(self.subnets), "SecurityGroupIds": list(self.security_groups)} if self.subnets else None

    def volume_key(self, instance):
        """The key for the disk of `instance`; None if AWS refuses one there."""
        return None if OWN_DISK.match(instance) else self.kms_key


@dataclasses.dataclass(frozen=True)
class Account:
    """Where and as whom the scripts work, given `access`.

    `session`: a boto3 Session; `number`: 12 digits; `bucket`: name; `is_lab`: whether it is an AWS
    Academy Learner Lab; `role`: ARN of the role that SageMaker assumes; it and `bucket_exists` are
    None until they have been looked up.
    """

    access: Access
    session: Any
    number: str
    region: str
    bucket: str
    is_lab: bool
    role: str | None = None
    bucket_exists: bool | None = None

    def client(self, service):
        """boto3's client of `service`, with the handler that `guard` registers."""
        found = client(self.session, service, self.region)
        self.guard(found.meta.events)
        return found

    def guard(self, events):
        """Make S3 calls of a client or session (its `events`) encrypt, and fail on another account's bucket.

        A stranger may own the bucket of that name.
        """
        event = {"event_name": "before-parameter-build.s3", "unique_id": OWN_HANDLER}
        events.unregister(**event)
        events.register(handler=self._complete, **event)

    def _complete(self, params, model, **_):
        members = model.input_shape.members
        for owner in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
            if owner in members:
                params.setdefault(owner, self.number)
        if self.access.kms_key and "SSEKMSKeyId" in members:
            params.setdefault("ServerSideEncryption", "aws:kms")
            params.setdefault("SSEKMSKeyId", self.access.kms_key)

    def print_place(self):
        """Print the first lines of a plan: where it happens, and as whom."""
        print(f"account:  {self.number}{' (AWS Academy Learner Lab)' if self.is_lab else ''} in {self.region}")
        print(f"role:     {self.role}")
        print(f"bucket:   {self.bucket}{'' if self.bucket_exists else ' (to be created)'}", flush=True)


def identify(access):
    """The Account behind `access`, as far as its credentials tell.

    Raises common.ScriptError with one line for expired or wrong credentials, an ended lab or a missing region.
    """
    session = access.session()
    if not has_credentials(session):
        raise common.ScriptError(f"no AWS credentials on this machine; {errors.Kind.NO_CREDENTIALS.value}")
    with errors.plain_errors():
        identity = client(session, "sts", session.region_name or LAB_REGION).get_caller_identity()
        is_lab = LAB_IDENTITY in identity["Arn"]
        region = session.region_name or (LAB_REGION if is_lab else None)
        if region is None:
            raise common.BadArgumentsError("no region: give --region us-east-1, or set AWS_DEFAULT_REGION")
        if is_lab and _everything_is_denied(session, region):
            raise common.DeniedError(
                "the lab session has ended: AWS still knows the credentials but denies everything. "
                "Press Start Lab, wait for the green light, copy the new credentials and run this again"
            )
    # The managed policy of SageMaker's roles gives access to buckets with "sagemaker" in their name.
    bucket = access.bucket or f"sagemaker-{region}-{identity['Account']}"
    return Account(access, session, identity["Account"], region, bucket, is_lab)


def check_account(access):
    """The Account behind `access`, with its role and its bucket looked up; only reads.

    Raises common.ScriptError as `identify` does, and for a missing role or somebody else's bucket.
    """
    account = identify(access)
    with errors.plain_errors():
        return dataclasses.replace(account, role=_find_role(account), bucket_exists=bucket_exists(account))


def bucket_exists(account):
    """Whether the account's bucket exists. Raises DeniedError if it is not its own: a stranger may have the name."""
    try:
        account.client("s3").head_bucket(Bucket=account.bucket)
    except exceptions.ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchBucket"):
            return False
        if errors.denial(error):
            raise common.DeniedError(
                f"the bucket {account.bucket} belongs to somebody else, or may not be read: give another one with "
                "--bucket"
            ) from error
        raise
    return True


def _everything_is_denied(session, region):
    for service, call in (("sagemaker", "list_endpoints"), ("s3", "list_buckets")):
        try:
            getattr(client(session, service, region), call)()
        except exceptions.ClientError as error:
            if not errors.denial(error):
                raise
        else:
            return False
    return True


def _find_role(account):
    if role := account.access.role or (LAB_ROLE if account.is_lab else None):
        partition = account.session.get_partition_for_region(account.region)
        return role if role.startswith("arn:") else f"arn:{partition}:iam::{account.number}:role/{role}"
    from sagemaker.core.helper.session_helper import Session, get_execution_role

    try:
        return get_execution_role(Session(boto_session=account.session, sagemaker_config=SDK_CONFIG))
    except ValueError as error:  # The caller is a user, not a role.
        raise common.BadArgumentsError(
            "the credentials are a user's: name the role that SageMaker is to assume with --role"
        ) from error


def quieten_sdk():
    """Leave the printing to the scripts: the SDK logs every request."""
    for name in ("sagemaker", "sagemaker.core", "botocore", "boto3"):
        logging.getLogger(name).setLevel(logging.WARNING)


def unique_name():
    """A name for the resources of one deployment: prefix, time in UTC, a few random hex digits."""
    return f"{PREFIX}{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _words(text):
    return tuple(word.strip() for word in text.split(",") if word.strip())
