"""AWS errors, explained to the person who has to fix them."""

import contextlib
import dataclasses
import enum
import re

import boto3.exceptions
from botocore import exceptions

from sagemaker_scripts import common


class Kind(enum.Enum):
    """What went wrong, grouped by remedy; the value is the advice to give."""

    NO_CREDENTIALS = "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or run `aws configure`"
    BAD_CREDENTIALS = "the credentials were mistyped or have been deleted: copy all of them again"
    EXPIRED = "the credentials have expired: start the lab again (or log in again) and copy the new ones"
    DENIED = "the account or its role does not allow it: ask its owner, or use another account"
    THROTTLED = "AWS is throttling requests: wait a minute and run the same command again"
    QUOTA = "a quota of the account is used up: clean up, choose another --instance, or ask AWS for more"
    ROLE = "this role cannot be assumed: give --role one that trusts sagemaker.amazonaws.com"
    CONTAINER = "this is the container's own message; its log is in CloudWatch, under /aws/sagemaker/Endpoints/"
    UNREACHABLE = "AWS cannot be reached: check the network, the proxy and the region's name"
    OTHER = "see AWS_SAGEMAKER_GUIDE.md"


CODES = {
    Kind.BAD_CREDENTIALS: {
        "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch",
        "AuthFailure", "IncompleteSignature", "InvalidSignatureException",
    },
    Kind.EXPIRED: {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"},
    Kind.DENIED: {
        "AccessDenied", "AccessDeniedException", "403", "Forbidden", "UnauthorizedOperation", "NotAuthorized",
        "AuthorizationError", "OptInRequired",
    },
    Kind.THROTTLED: {
        "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException",
        "RequestLimitExceeded", "SlowDown", "RequestThrottled",
    },
    Kind.CONTAINER: {"ModelError"},
    Kind.QUOTA: {"ResourceLimitExceeded", "ServiceQuotaExceededException", "LimitExceededException"},
}  # fmt: skip

SECRETS = (
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), "<access key>"),
    (re.compile(r"(?i)((?:X-Amz-[\w-]*(?:Signature|Credential|Token)|AWSAccessKeyId|Signature)=)[^&\s\"']+"),
     r"\1<hidden>"),
    (re.compile(r"(?i)((?:secret|session|security)[\w-]*[ _-]?(?:key|token)\w*['\"]?\s*[:=]\s*['\"]?)[\w/+=.-]{8,}"),
     r"\1<hidden>"),
    # Session tokens: nothing else in AWS's answers is this long without a space.
    (re.compile(r"[A-Za-z0-9/+=]{100,}"), "<hidden>"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Problem:
    """One failed call: its `kind`, the `operation` (such as CreateEndpoint; "" if unknown), AWS's own `message`."""

    kind: Kind
    operation: str
    message: str

    def __str__(self):
        call = f"{self.operation}: " if self.operation else ""
        return f"{call}{self.message.rstrip('.')}; {self.kind.value}"

    def error(self):
        """This problem as a ScriptError with the matching exit code."""
        denied = self.kind in (Kind.DENIED, Kind.EXPIRED, Kind.BAD_CREDENTIALS)
        return (common.DeniedError if denied else common.ScriptError)(str(self))


def explain(error):
    """The Problem behind an exception of boto3, botocore or sagemaker; None for any other exception."""
    if isinstance(error, boto3.exceptions.S3UploadFailedError) and isinstance(
        error.__context__, exceptions.ClientError
    ):
        error = error.__context__  # It wraps AWS's answer in a sentence; only the answer has the code.
    if isinstance(error, exceptions.ClientError):
        details = error.response.get("Error", {})
        code, words = details.get("Code", ""), details.get("Message", "")
        return Problem(_kind(code, words), error.operation_name, hide_secrets(words or code))
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return Problem(Kind.NO_CREDENTIALS, "", "no AWS credentials on this machine")
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return Problem(Kind.UNREACHABLE, "", hide_secrets(str(error)))
    if isinstance(error, exceptions.BotoCoreError | boto3.exceptions.Boto3Error):
        return Problem(Kind.OTHER, "", hide_secrets(str(error)))
    if type(error).__module__.startswith("sagemaker."):
        return Problem(Kind.OTHER, "", hide_secrets(" ".join(str(error).split())))
    return None


def denial(error):
    """The Problem behind `error` if AWS denied the account permission; else None."""
    problem = explain(error)
    return problem if problem and problem.kind is Kind.DENIED else None


@contextlib.contextmanager
def plain_errors():
    """Turn every error of AWS and its libraries within the block into a one-line ScriptError."""
    try:
        yield
    except Exception as error:
        if (problem := explain(error)) is None:
            raise
        raise problem.error() from error


def hide_secrets(text):
    """`text` without access keys, tokens and the signatures of presigned addresses."""
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


def failure(description):
    """The reason for a failure, from AWS's answer `description`, without its final full stop."""
    return hide_secrets(description.get("FailureReason") or "no reason given").rstrip(".")


def _kind(code, message):
    # Some services say "denied" or "expired" only in the message, beside a vague code.
    lowered = message.lower()
    if "security token" in lowered and "expired" in lowered:
        return Kind.EXPIRED
    # SageMaker's wording, and EventBridge Scheduler's.
    if "could not assume role" in lowered or ("must allow" in lowered and "to assume the role" in lowered):
        return Kind.ROLE
    for kind, codes in CODES.items():
        if code in codes:
            return kind
    return Kind.DENIED if "not authorized to perform" in lowered else Kind.OTHER
