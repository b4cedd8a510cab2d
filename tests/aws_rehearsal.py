"""An AWS account in memory (moto), with the gaps of the real one: denials, throttling, failures."""

import contextlib
import io
import json
import os
import signal
import tarfile

import boto3
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws
from moto.sagemakerruntime.models import sagemakerruntime_backends

from sagemaker_scripts import aws

REGION = "us-east-1"
NUMBER = "123456789012"
ROLE = "SageMakerRole"
CLASSES = ("airplane", "cat")
LAB_ARN = f"arn:aws:sts::{NUMBER}:assumed-role/voclabs/user1"
ANSWER = {
    "predicted_class": "cat",
    "predicted_class_index": 1,
    "confidence": 0.75,
    "top_3_predictions": [],
    "probabilities": {"airplane": 0.25, "cat": 0.75},
}
ERRORS = {
    "denied": ("AccessDeniedException", "User: x is not authorized to perform: {call} with an explicit deny"),
    "throttled": ("ThrottlingException", "Rate exceeded"),
    "expired": ("ExpiredTokenException", "The security token included in the request is expired"),
    "quota": ("ResourceLimitExceeded", "The account-level service limit is 0 Instances"),
}


class Rehearsal:
    """A moto account and the sessions into it, whose calls can be made to fail by name.

    `fresh`: with a session of its own. Otherwise all rehearsals share one, because making
    boto3's clients takes seconds.
    """

    current = None
    shared = None

    def __init__(self, fresh=False):
        Rehearsal.current, self.fresh = self, fresh
        self.failing, self.calls, self.changes = {}, [], {}
        # The last request of each call: a dict of headers, body and so on.
        self.sent = {}
        # moto has no list of quotas.
        self.replies = {"ListServiceQuotas": {"Quotas": []}}

    def fail(self, call, kind, after=False):
        """Let `call` (CreateModel, PutObject, ...) fail as ERRORS[kind] says, or be "interrupted" or "unreachable".

        `after`: the call takes effect first, and only its answer is lost.
        """
        self.failing[call] = kind, after

    def change(self, call, function):
        """Let `function(answer)` change the answer (a dict, in place) of `call`."""
        self.changes[call] = function

    def session(self, region=None, profile=None):
        """As `aws.make_session`."""
        if self.fresh or Rehearsal.shared is None:
            session = boto3.Session(region_name=region or REGION)
            session.events.register("before-call", lambda **call: Rehearsal.current._before(**call))
            session.events.register("after-call", lambda **call: Rehearsal.current._after(**call))
            if self.fresh:
                return session
            Rehearsal.shared = session
        return Rehearsal.shared

    def client(self, service):
        """A client of the account's session."""
        return aws.client(self.session(), service, REGION)

    def left(self):
        """Everything that this account holds, as strings; [] when nothing is left."""
        with self.unobserved():
            return self._list()

    def _list(self):
        sagemaker, s3 = self.client("sagemaker"), self.client("s3")
        found = [f"endpoint {item['EndpointName']}" for item in sagemaker.list_endpoints()["Endpoints"]]
        found += [
            f"config {item['EndpointConfigName']}" for item in sagemaker.list_endpoint_configs()["EndpointConfigs"]
        ]
        found += [f"model {item['ModelName']}" for item in sagemaker.list_models()["Models"]]
        for bucket in s3.list_buckets()["Buckets"]:
            found.append(f"bucket {bucket['Name']}")
            found += [f"object {item['Key']}" for item in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", [])]
        return found

    @contextlib.contextmanager
    def unobserved(self):
        """Calls within the block neither fail nor are recorded."""
        before = self.failing, self.calls, self.changes
        self.failing, self.calls, self.changes = {}, [], {}
        yield
        self.failing, self.calls, self.changes = before

    def answer(self, body=None):
        """Let the next new question to an endpoint be answered with `body` (default: one prediction)."""
        body = json.dumps({"predictions": [ANSWER]}) if body is None else body
        sagemakerruntime_backends[NUMBER][REGION].results_queue.append((body, "application/json", "AllTraffic", ""))

    def _before(self, model, params, **_):
        self.calls.append(model.name)
        self.sent[model.name] = params
        if model.name in self.failing and not self.failing[model.name][1]:
            return self._failure(model.name)
        if model.name in self.replies:
            return AWSResponse(f"https://{model.name}", 200, {}, io.BytesIO()), dict(self.replies[model.name])
        return None

    def _after(self, http_response, parsed, model, **_):
        if http_response.status_code < 300:
            for empty in [name for name, value in parsed.items() if value == {}]:
                del parsed[empty]  # sagemaker.core refuses moto's empty members.
            if model.name in self.changes:
                self.changes[model.name](parsed)
            lost = model.name in self.failing and self.failing[model.name][1]
            if lost and (failure := self._failure(model.name)):
                parsed.clear()
                parsed.update(failure[1])
                http_response.status_code = 400

    def _failure(self, call):
        kind = self.failing[call][0]
        if kind == "interrupted":
            os.kill(os.getpid(), signal.SIGINT)
            return None
        if kind == "unreachable":
            raise EndpointConnectionError(endpoint_url=f"https://{call}")
        code, message = ERRORS[kind]
        answer = {
            "Error": {"Code": code, "Message": message.format(call=call)},
            "ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {}, "RetryAttempts": 0},
        }
        return AWSResponse(f"https://{call}", 400, {}, io.BytesIO()), answer


@contextlib.contextmanager
def account(monkeypatch, fresh=False):
    """A Rehearsal that all scripts work in, with credentials that open nothing else."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with mock_aws():
        rehearsal = Rehearsal(fresh)
        monkeypatch.setattr("sagemaker_scripts.aws.make_session", rehearsal.session)
        yield rehearsal


def bare_archive(folder):
    """A model.tar.gz with a model card and nothing that could be served: enough to be uploaded."""
    card = json.dumps({"input_shape": [8, 8, 3], "class_names": CLASSES}).encode()
    path = folder / "model.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("code/model_card.json")
        member.size = len(card)
        tar.addfile(member, io.BytesIO(card))
    return path
