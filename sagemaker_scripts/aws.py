"""Who works where in AWS, and with which client."""

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

# Everything that the scripts make has this prefix in its name and this tag, so that cleanup finds it.
PREFIX = "cnnlab-"
# Objects lie below the first; the SDK puts a tuning job's code at the top of the bucket, below its name.
OBJECT_PREFIX = "cnnlab/"
OBJECT_PREFIXES = (OBJECT_PREFIX, PREFIX)
TAG = {"Key": "project", "Value": "cnnlab"}
TAGS = [TAG]
# The identity, the role and the region of an AWS Academy Learner Lab.
LAB_IDENTITY, LAB_ROLE, LAB_REGION = "/voclabs/", "LabRole", "us-east-1"
# Instances with a disk of their own, which AWS encrypts itself: a key for it is refused.
OWN_DISK = re.compile(r"ml\.(?:g[5-9]\w*|p5\w*|trn\w+|[a-z]+\d\w*d\w*)\.")
# A client is shared, and gets its handler once however often it is asked for.
OWN_HANDLER = "cnnlab"
# The SDK reports its use to AWS unless it is told not to.
SDK_CONFIG = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}


def has_credentials(session):
    """Whether `session` finds any, without asking AWS whether they are good."""
    return session.get_credentials() is not None


@functools.lru_cache(maxsize=64)
def client(session, service, region=None):
    """The one client of `service` that retries throttling by itself, and gives up a dead connection soon."""
    config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10)
    return session.client(service, region_name=region, config=config)


@dataclasses.dataclass(frozen=True)
class Access:
    """How the scripts come into an account and what they shall use there; None: the account's default.

    `region` and `profile` (of ~/.aws/config); `bucket`: its name; `role`: name or ARN of the one
    that SageMaker takes on; `kms_key`: ID, ARN or alias of the key that encrypts what is stored;
    `subnets` and `security_groups`: IDs, of the VPC that containers work in.
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
            raise common.BadArgumentsError("a VPC takes both --subnets and --security-groups")
        for names, start in ((self.subnets, "subnet-"), (self.security_groups, "sg-")):
            for name in names:
                if not re.fullmatch(rf"{start}[0-9a-f]+", name):
                    raise common.BadArgumentsError(f"{name!r} is none; expected one such as {start}0123456789abcdef0")
        if self.kms_key is not None and not re.fullmatch(r"[\w:/-]+", self.kms_key, re.ASCII):
            raise common.BadArgumentsError(f"no key is called {self.kms_key!r}; expected its ID, ARN or alias/NAME")

    @staticmethod
    def add_flags(parser, role=True):
        """Add --region, --profile, --bucket and, where SageMaker works under one, --role, the key and the VPC."""
        parser.add_argument("--region", help="default: the profile's; us-east-1 in a lab")
        parser.add_argument("--profile", help="of ~/.aws/config")
        parser.add_argument("--bucket", help="default: sagemaker-REGION-ACCOUNT")
        if role:
            text = "name or ARN of SageMaker's role (default: LabRole in a lab, or the caller's)"
            parser.add_argument("--role", help=text)
            text = "ID, ARN or alias of the key that encrypts what is stored"
            parser.add_argument("--kms-key", metavar="KEY", help=text)
            text = "of the VPC that containers work in"
            parser.add_argument("--subnets", type=_words, default=(), metavar="A,B", help=text)
            parser.add_argument("--security-groups", type=_words, default=(), metavar="A,B", help="of that VPC")

    @classmethod
    def of(cls, given):
        """From parsed arguments."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: getattr(given, name) for name in names if hasattr(given, name)})

    def session(self):
        """A boto3 Session. Raises BadArgumentsError for a profile or a region that cannot be."""
        try:
            session = boto3.Session(region_name=self.region, profile_name=self.profile)
        except exceptions.ProfileNotFound as error:
            raise common.BadArgumentsError(f"{error}; see the names in ~/.aws/config") from error
        name = session.region_name
        if name and not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", name):
            raise common.BadArgumentsError(f"no region is called {name!r}; expected one such as {LAB_REGION}")
        return session

    def vpc(self):
        """The VpcConfig that SageMaker's calls take, or None."""
        return {"Subnets": list(self.subnets), "SecurityGroupIds": list(self.security_groups)} if self.subnets else None

    def volume_key(self, instance):
        """The key for the disk of `instance`; None where it must not be named."""
        return None if OWN_DISK.match(instance) else self.kms_key


@dataclasses.dataclass(frozen=True)
class Account:
    """Where and as whom the scripts work, as far as `access` leads.

    `session`: a boto3 Session; `number`: 12 digits; `bucket`: name; `is_lab`: an AWS Academy
    Learner Lab; `role`: ARN of the role that SageMaker takes on, and `bucket_exists`, both None
    where nobody has looked yet.
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
        """boto3's client of `service`, as `guard` makes it."""
        found = client(self.session, service, self.region)
        self.guard(found.meta.events)
        return found

    def guard(self, events):
        """Let the calls to S3 of a client or a session (its `events`) encrypt, and refuse another account's bucket.

        A stranger can have the name of a bucket.
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
        """The first lines of a plan: where it happens, and as whom."""
        print(f"account:  {self.number}{' (AWS Academy Learner Lab)' if self.is_lab else ''} in {self.region}")
        print(f"role:     {self.role}")
        print(f"bucket:   {self.bucket}{'' if self.bucket_exists else ' (is made)'}", flush=True)


def identify(access):
    """The Account that `access` leads to, as far as its credentials tell.

    Raises common.ScriptError with one line: expired or wrong credentials, an ended lab, no region.
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
                "Press Start Lab, wait for the green light, copy the credentials anew and run this again"
            )
    # The managed policy of SageMaker's roles opens buckets that have "sagemaker" in their name.
    bucket = access.bucket or f"sagemaker-{region}-{identity['Account']}"
    return Account(access, session, identity["Account"], region, bucket, is_lab)


def check_account(access):
    """The Account that `access` leads to, its role and its bucket looked up; only reads.

    Raises common.ScriptError as `identify` does, and for a missing role or a bucket of somebody else.
    """
    account = identify(access)
    with errors.plain_errors():
        return dataclasses.replace(account, role=_find_role(account), bucket_exists=bucket_exists(account))


def bucket_exists(account):
    """Whether its bucket is there. Raises DeniedError where that is not its own: a stranger can have the name."""
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
    except ValueError as error:  # A user, not a role, is asking.
        raise common.BadArgumentsError(
            "the credentials are a user's: name the role that SageMaker shall take on with --role"
        ) from error


def quieten_sdk():
    """Leave the words to the scripts: the SDK logs every request."""
    for name in ("sagemaker", "sagemaker.core", "botocore", "boto3"):
        logging.getLogger(name).setLevel(logging.WARNING)


def unique_name():
    """A name for the resources of one deployment: prefix, time in UTC, a few random hex digits."""
    return f"{PREFIX}{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _words(text):
    return tuple(word.strip() for word in text.split(",") if word.strip())
