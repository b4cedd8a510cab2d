"""Errors of AWS and its libraries become one line with what to do, and no secret in it."""

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, PartialCredentialsError

from sagemaker_scripts import common, errors
from sagemaker_scripts.errors import Kind


def client_error(code, message="words", operation="CreateModel"):
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


@pytest.mark.parametrize(
    ("error", "kind", "exit_code"),
    [
        (client_error("AccessDeniedException"), Kind.DENIED, common.EXIT_DENIED),
        (client_error("403"), Kind.DENIED, common.EXIT_DENIED),
        (client_error("Odd", "User x is not authorized to perform: y"), Kind.DENIED, common.EXIT_DENIED),
        (client_error("ExpiredToken"), Kind.EXPIRED, common.EXIT_DENIED),
        (
            client_error("Odd", "The security token included in the request is expired"),
            Kind.EXPIRED,
            common.EXIT_DENIED,
        ),
        (client_error("InvalidClientTokenId"), Kind.BAD_CREDENTIALS, common.EXIT_DENIED),
        (client_error("ThrottlingException"), Kind.THROTTLED, common.EXIT_FAILED),
        (client_error("ResourceLimitExceeded"), Kind.QUOTA, common.EXIT_FAILED),
        (client_error("ValidationException", "Could not assume role arn:x."), Kind.ROLE, common.EXIT_FAILED),
        (client_error("ModelError", "Received client error (415)"), Kind.CONTAINER, common.EXIT_FAILED),
        (client_error("ValidationException", "no"), Kind.OTHER, common.EXIT_FAILED),
        (NoCredentialsError(), Kind.NO_CREDENTIALS, common.EXIT_FAILED),
        (PartialCredentialsError(provider="env", cred_var="x"), Kind.NO_CREDENTIALS, common.EXIT_FAILED),
        (EndpointConnectionError(endpoint_url="https://x"), Kind.UNREACHABLE, common.EXIT_FAILED),
    ],
)
def test_an_error_is_known_by_what_mends_it(error, kind, exit_code):
    problem = errors.explain(error)
    assert problem.kind is kind and str(problem).endswith(kind.value) and "\n" not in str(problem)
    assert problem.error().exit_code == exit_code
    if isinstance(error, ClientError):
        assert str(problem).startswith("CreateModel: ")


def test_an_error_of_our_own_is_not_explained_away():
    assert errors.explain(TypeError("a bug")) is None
    with pytest.raises(TypeError), errors.plain_errors():
        raise TypeError("a bug")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("key ASIAABCDEFGHIJKLMNOP here", "ASIAABCDEFGHIJKLMNOP"),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=0a1b2c&x=1", "0a1b2c"),
        ("aws_secret_access_key = 'abcdEFGH1234+/xyz'", "abcdEFGH1234"),
        ('{"SessionToken": "FwoGZXIvYXdzEBYa"}', "FwoGZXIvYXdzEBYa"),
        ("token " + "Ab1/" * 60, "Ab1/Ab1/"),
    ],
)
def test_secrets_are_hidden(text, hidden):
    assert hidden not in errors.hide_secrets(text)


def test_what_is_no_secret_stays():
    words = (
        "User: arn:aws:sts::123456789012:assumed-role/voclabs/user1 is not authorized to perform: "
        "sagemaker:CreateEndpointConfig on resource: arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/cnnlab; "
        "The security token included in the request is expired; s3://sagemaker-us-east-1-123456789012/cnnlab/model.tar.gz"
    )
    assert errors.hide_secrets(words) == words
