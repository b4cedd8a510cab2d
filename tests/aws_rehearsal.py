"""An in-memory AWS account (moto) with the failures of a real one: denials, throttling, errors.

It adds what moto lacks: transform jobs that really answer, and a few deletions.
"""

import contextlib
import functools
import io
import json
import os
import signal
import sys
import tarfile
import time

import boto3
import botocore.loaders
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws
from moto.applicationautoscaling.models import applicationautoscaling_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.s3.models import s3_backends
from moto.sagemaker.models import sagemaker_backends
from moto.sagemakerruntime.models import sagemakerruntime_backends
from moto.scheduler.models import scheduler_backends

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
    "missing": ("ValidationException", "what {call} names does not exist"),
    "quota": ("ResourceLimitExceeded", "The account-level service limit is 0 Instances"),
}


@functools.cache
def loader(data_path=None):
    """The loader of botocore's service descriptions, one for all sessions, which keeps what it has read."""
    return botocore.loaders.Loader()


def make_session(region=None):
    """A session whose calls the current Rehearsal sees."""
    session = boto3.Session(region_name=region or REGION)
    session.events.register(
        "before-parameter-build",
        lambda params, model, **_: Rehearsal.current._note(model.service_model.service_name, model.name, params),
    )
    session.events.register("before-call", lambda **call: Rehearsal.current._before(**call))
    session.events.register("after-call", lambda **call: Rehearsal.current._after(**call))
    return session


@functools.cache
def shared_session():
    """The session shared by all rehearsals that need none of their own."""
    return make_session()


class Rehearsal:
    """A moto account and the sessions into it, whose calls can be made to fail by name.

    `fresh`: with a session of its own. Otherwise all rehearsals share one, because making
    boto3's clients takes seconds.
    """

    current = None

    def __init__(self, fresh=False):
        Rehearsal.current, self.fresh, self.own = self, fresh, None
        self.failing, self.calls, self.changes = {}, [], {}
        # The last request of each call: a dict of headers, body and so on.
        self.sent = {}
        # Every call: (service, call, arguments as boto3 takes them).
        self.record = []
        self.expires_at = None
        # moto has no list of quotas.
        self.replies = {"ListServiceQuotas": {"Quotas": []}}
        # Answers a transform job's requests: a function from (bytes, content type) to (status, bytes).
        self.container = None

    def fail(self, call, kind, after=False):
        """Make `call` (CreateModel, PutObject, ...) fail as ERRORS[kind] says, or be "interrupted" or "unreachable".

        `after`: the call takes effect first, and only its answer is lost.
        """
        self.failing[call] = kind, after

    def expire(self, call):
        """Make the credentials expire when `call` is made: it and everything after it is refused."""
        self.expires_at = call

    def change(self, call, function):
        """Let `function(answer)` change the answer (a dict, in place) of `call`."""
        self.changes[call] = function

    def session(self, region=None):
        """A session into the account."""
        if not self.fresh:
            return shared_session()
        if self.own is None:
            self.own = make_session(region)
        return self.own

    def client(self, service):
        """A client of the account's session."""
        return aws.client(self.session(), service, REGION)

    def left(self):
        """Everything that this account holds, as strings, read from the mock itself; [] when nothing is left."""
        sagemaker = sagemaker_backends[NUMBER][REGION]
        scaling = applicationautoscaling_backends[NUMBER][REGION]
        targets = scaling.describe_scalable_targets("sagemaker", None, None)
        groups = scheduler_backends[NUMBER][REGION].schedule_groups.values()
        running = [name for name, job in sagemaker.transform_jobs.items() if job.transform_job_status in RUNNING]
        names = {
            "endpoint": sagemaker.endpoints,
            "config": sagemaker.endpoint_configs,
            "model": sagemaker._models,
            "model package group": sagemaker.model_package_groups,
            "model package": [package.model_package_group_name for package in sagemaker.model_packages.values()],
            "transform job": running,
            "schedule": [name for group in groups for name in group.schedules],
            "alarm": cloudwatch_backends[NUMBER][REGION].alarms,
            "scalable target": [target.resource_id.split("/")[1] for target in targets],
        }
        found = [f"{kind} {name}" for kind, known in names.items() for name in known]
        for name, bucket in s3_backends[NUMBER]["aws"].buckets.items():
            found += [f"bucket {name}", *(f"object {key}" for key in bucket.keys)]  # noqa: SIM118 - its name in moto
        return found

    @contextlib.contextmanager
    def unobserved(self):
        """Calls within the block neither fail nor are recorded."""
        blank = {"failing": {}, "calls": [], "changes": {}, "sent": {}, "record": [], "expires_at": None}
        before = {name: getattr(self, name) for name in blank}
        self.__dict__.update(blank)
        try:
            yield
        finally:
            self.__dict__.update(before)

    def answer(self, body=None):
        """Answer the next new request to an endpoint with `body` (default: one prediction)."""
        body = json.dumps({"predictions": [ANSWER]}) if body is None else body
        sagemakerruntime_backends[NUMBER][REGION].results_queue.append((body, "application/json", "AllTraffic", ""))

    def _note(self, service, call, arguments):
        self.record.append((service, call, dict(arguments)))

    def _before(self, model, params, **_):
        self.calls.append(model.name)
        self.sent[model.name] = params
        if self.expires_at in self.calls:
            return self._refusal(model.name, "expired")
        if model.name in self.failing and not self.failing[model.name][1]:
            return self._failure(model.name)
        reply = self.replies.get(model.name)
        if reply is None and model.name in GAPS:
            if not GAPS[model.name](sagemaker_backends[NUMBER][REGION], json.loads(params["body"])):
                return self._refusal(model.name, "missing")
            reply = {}
        if reply is not None:
            return AWSResponse(f"https://{model.name}", 200, {}, io.BytesIO()), dict(reply)
        return None

    def _after(self, http_response, parsed, model, **_):
        asked = self.sent.get(model.name, {}).get("body")
        if http_response.status_code < 300:
            if model.name == "CreateTransformJob" and self.container:
                with self.unobserved():
                    self._transform(json.loads(asked))
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
        return self._refusal(call, kind)

    def _refusal(self, call, kind):
        code, message = ERRORS[kind]
        answer = {
            "Error": {"Code": code, "Message": message.format(call=call)},
            "ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {}, "RetryAttempts": 0},
        }
        return AWSResponse(f"https://{call}", 400, {}, io.BytesIO()), answer

    def transform_job(self, name, status):
        """Make a transform job called `name` that is in `status`."""
        with self.unobserved():
            self.client("sagemaker").create_transform_job(
                TransformJobName=name, ModelName="m",
                TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in/"}}},
                TransformOutput={"S3OutputPath": "s3://b/out/"},
                TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
            )  # fmt: skip
        sagemaker_backends[NUMBER][REGION].transform_jobs[name].transform_job_status = status

    def _transform(self, job):
        """Do what a transform job does: ask the container about each object, store its answer or log its error."""
        s3, logs, name = self.client("s3"), self.client("logs"), job["TransformJobName"]
        source = job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
        bucket, _, prefix = source.removeprefix("s3://").partition("/")
        _, _, target = job["TransformOutput"]["S3OutputPath"].removeprefix("s3://").partition("/")
        lines = ["[sagemaker logs]: MaxConcurrentTransforms=4, MaxPayloadInMB=1, BatchStrategy=MULTI_RECORD"]
        backend = sagemaker_backends[NUMBER][REGION].transform_jobs[name]
        for key in [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]:
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            status, answer = self.container(body, job["TransformInput"]["ContentType"])
            if status == 200:
                s3.put_object(Bucket=bucket, Key=f"{target}{key.removeprefix(prefix)}.out", Body=answer)
                continue
            place = f"[sagemaker logs]: {bucket}/{key}: "
            lines += [f"{place}ClientError: {status}", place, f"{place}Message:", f"{place}{answer.decode()}"]
            backend.transform_job_status = "Failed"
            backend.failure_reason = "AlgorithmError: See job logs for more information"
        group, stream = "/aws/sagemaker/TransformJobs", f"{name}/i-0a1b2c3d-1764194268/data-log"
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        now = int(time.time() * 1000)
        events = [{"timestamp": now + number, "message": f"2026-11-26T22:00:00.000:{line}"}
                  for number, line in enumerate(lines)]  # fmt: skip
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def _stop_transform_job(backend, request):
    backend.transform_jobs[request["TransformJobName"]].transform_job_status = "Stopped"
    return True


RUNNING = ("InProgress", "Stopping")
# Calls that moto lacks: functions of its SageMaker and a request that say whether the named resource exists.
GAPS = {
    "StopTransformJob": _stop_transform_job,
    "DeleteModelPackage": lambda backend, request: backend.model_packages.pop(request["ModelPackageName"], None),
    "DeleteModelPackageGroup": lambda backend, request: backend.model_package_groups.pop(
        request["ModelPackageGroupName"], None
    ),
}


@contextlib.contextmanager
def account(monkeypatch, fresh=False):
    """A Rehearsal that all scripts work in, with credentials that are valid nowhere else."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    read_once(monkeypatch)
    with mock_aws():
        rehearsal = Rehearsal(fresh)
        monkeypatch.setattr(aws.Access, "session", lambda access: rehearsal.session(access.region))
        yield rehearsal


def read_once(monkeypatch):
    """Read only once what boto3 and the SDK read again for every session, and the SDK for every call."""
    for module in (botocore.loaders, botocore.session):
        monkeypatch.setattr(module, "create_loader", loader)
    # It checks internationalised addresses, which no schema here uses: jsonschema works without it, and building its
    # 38 grammars takes longer than everything else that the SDK imports.
    monkeypatch.setitem(sys.modules, "rfc3987_syntax", None)
    import jsonschema

    # Skip checking that the SDK's settings schema is valid; the settings are still checked against it.
    monkeypatch.setattr(jsonschema.Draft202012Validator, "check_schema", lambda schema: None)


def bare_archive(folder, shape=(8, 8, 3)):
    """A model.tar.gz with a model card and nothing to serve: enough to upload."""
    card = json.dumps({"input_shape": shape, "class_names": CLASSES}).encode()
    path = folder / "model.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("code/model_card.json")
        member.size = len(card)
        tar.addfile(member, io.BytesIO(card))
    return path


def each_once(calls, kinds):
    """Parameters: every call with every kind of failure; one pair per call runs always, the others are `long`."""
    pairs = [
        (call, kind, place % len(kinds) == turn) for place, call in enumerate(calls) for turn, kind in enumerate(kinds)
    ]
    return [pytest.param(call, kind, marks=[] if is_first else pytest.mark.long) for call, kind, is_first in pairs]
