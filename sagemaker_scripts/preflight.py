"""What a deployment or a training job needs to know of the account, found before anything is made."""

import dataclasses
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sagemaker_scripts import aws, common

# The identity and the role of an AWS Academy Learner Lab.
LAB_IDENTITY = "/voclabs/"
LAB_ROLE = "LabRole"


@dataclasses.dataclass(frozen=True)
class Account:
    """Where and as whom the scripts work.

    `session`: a boto3 Session; `number`: 12 digits; `role`: ARN of the role that SageMaker
    takes on; `bucket`: name, and `bucket_exists`; `is_lab`: an AWS Academy Learner Lab.
    """

    session: Any
    number: str
    region: str
    role: str
    bucket: str
    bucket_exists: bool
    is_lab: bool

    def client(self, service):
        return aws.client(self.session, service, self.region)


def check_account(session, role=None, bucket=None):
    """The Account behind `session`; `role` (name or ARN) and `bucket` where the defaults do not fit.

    Only reads. Raises common.ScriptError with one line: expired or wrong credentials, an ended
    lab, no region, no role, a bucket of somebody else.
    """
    try:
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
        number = identity["Account"]
        # The managed policy of SageMaker's roles opens buckets that have "sagemaker" in their name.
        bucket = bucket or f"sagemaker-{region}-{number}"
        role = _find_role(session, identity, role, is_lab)
        return Account(session, number, region, role, bucket, _bucket_exists(session, region, bucket, number), is_lab)
    except (ClientError, BotoCoreError) as error:
        raise aws.explain(error).error() from error


def endpoint_quota(account, instance):
    """How many `instance` an account may have behind endpoints, or None where AWS does not tell."""
    name = f"{instance} for endpoint usage"
    try:
        pages = account.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
        return next((quota["Value"] for page in pages for quota in page["Quotas"] if quota["QuotaName"] == name), None)
    except (ClientError, BotoCoreError):  # Many accounts may not look: the creation itself will tell.
        return None


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


def _find_role(session, identity, role, is_lab):
    number, partition = identity["Account"], identity["Arn"].split(":")[1]
    if role or is_lab:
        role = role or LAB_ROLE
        return role if role.startswith("arn:") else f"arn:{partition}:iam::{number}:role/{role}"
    from sagemaker.core.helper.session_helper import Session, get_execution_role

    try:
        return get_execution_role(Session(boto_session=session, sagemaker_config=aws.SDK_CONFIG))
    except ValueError as error:  # A user, not a role, is asking.
        raise common.BadArgumentsError(
            "the credentials are a user's: name the role that SageMaker shall take on with --role"
        ) from error


def _bucket_exists(session, region, bucket, number):
    """Whether `bucket` is there and the account's own (a name can be taken by a stranger)."""
    try:
        aws.client(session, "s3", region).head_bucket(Bucket=bucket, ExpectedBucketOwner=number)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchBucket"):
            return False
        if aws.explain(error).kind is aws.Kind.DENIED:
            raise common.DeniedError(
                f"the bucket {bucket} belongs to somebody else, or may not be read: give another one with --bucket"
            ) from error
        raise
    return True
