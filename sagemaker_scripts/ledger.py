"""What a run made in an account: how each kind is deleted, and a ledger that deletes all of it again.

Whatever is made is noted in the ledger before it is made.
"""

import contextlib
import signal
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError

from sagemaker_scripts import aws, common

# SageMaker refuses to delete an endpoint that is still being created.
BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack")
BUSY_POLL_SECONDS = 15
BUSY_LIMIT_SECONDS = 45 * 60
BATCH = 1000
UNFINISHED = ("InProgress", "Stopping")
VARIANT = "AllTraffic"
# The call that makes the last one noted of a kind: refused, there is nothing of it.
MAKERS = {
    "CreateBucket": "bucket",
    "PutObject": "object",
    "CreateModel": "model",
    "CreateEndpointConfig": "endpoint config",
    "CreateSchedule": "schedule",
    "CreateEndpoint": "endpoint",
    "RegisterScalableTarget": "scalable target",
    "PutMetricAlarm": "alarm",
    "CreateModelPackageGroup": "model package group",
    "CreateTransformJob": "transform job",
    "CreateHyperParameterTuningJob": "tuning job",
    "CreateTrainingJob": "training jobs",
}
# Noted before it is known whether there will be any; where these calls fail, nobody knows.
LOOKS = ("ListObjectsV2", "ListTrainingJobs")
# What AWS says before it does anything: a lost answer to an earlier try is not behind it.
REFUSALS = (aws.Kind.DENIED, aws.Kind.EXPIRED, aws.Kind.BAD_CREDENTIALS, aws.Kind.QUOTA, aws.Kind.ROLE)


def delete(account, kind, name):
    """Delete the resource `name` of `kind`, a key of DELETE (jobs are stopped: AWS keeps their record).

    The name of an object is "bucket/key", of "objects" "bucket/prefix", of "training jobs" the
    start of theirs.

    `account` is a `preflight.Account`. Returns whether it was there. Raises what boto3 raises.
    """
    service, remove = DELETE[kind]
    try:
        return remove(account.client(service), name) is not False
    except ClientError as error:
        if _is_missing(error):
            return False
        raise


def _delete_endpoint(client, name):
    with _unless_missing():
        _wait_while(
            BUSY, lambda: client.describe_endpoint(EndpointName=name)["EndpointStatus"],
            f"waiting: {name} is still being created, and AWS deletes no endpoint before that ends",
        )  # fmt: skip
    client.delete_endpoint(EndpointName=name)


def _delete_object(client, name):
    bucket, _, key = name.partition("/")
    with _unless_missing():  # Deleting answers the same whether it was there or not.
        client.head_object(Bucket=bucket, Key=key)
    client.delete_object(Bucket=bucket, Key=key)


def _delete_objects(client, name):
    """Delete all below a prefix; returns whether there was anything."""
    bucket, _, prefix = name.partition("/")
    some = False
    while found := client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=BATCH).get("Contents"):
        some = True
        keys = [{"Key": item["Key"]} for item in found]
        answer = client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        if answer.get("Errors"):  # Objects are refused one by one, within an answer of success.
            raise ClientError({"Error": answer["Errors"][0]}, "DeleteObjects")
    return some


def job_states(account, launch):
    """{job name: status} of the training jobs of `launch`: Completed, InProgress, Failed, Stopping or Stopped."""
    return _job_states(account.client("sagemaker"), launch)


def _job_states(client, launch):
    pages = client.get_paginator("list_training_jobs").paginate(NameContains=launch)
    summaries = [job for page in pages for job in page["TrainingJobSummaries"]]
    return {
        job["TrainingJobName"]: job["TrainingJobStatus"]
        for job in summaries
        if job["TrainingJobName"].startswith(launch)
    }


def _delete_package_group(client, name):
    """Delete a group of the model registry, and first the versions in it."""
    pages = client.get_paginator("list_model_packages").paginate(ModelPackageGroupName=name)
    for package in [package for page in pages for package in page["ModelPackageSummaryList"]]:
        client.delete_model_package(ModelPackageName=package["ModelPackageArn"])
    client.delete_model_package_group(ModelPackageGroupName=name)


def _delete_alarm(client, name):
    """Delete an alarm; returns whether there was one, which deleting does not tell."""
    there = bool(client.describe_alarms(AlarmNames=[name])["MetricAlarms"])
    client.delete_alarms(AlarmNames=[name])
    return there


def scalable(name):
    """What Application Auto Scaling calls the instances of the endpoint `name`: arguments of its calls."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def _stop_transform_job(client, name):
    """Stop a transform job, and wait until it writes nothing more; returns whether it was running."""

    def state():
        return client.describe_transform_job(TransformJobName=name)["TransformJobStatus"]

    with _unless_missing():
        if state() not in UNFINISHED:
            return False
    client.stop_transform_job(TransformJobName=name)
    with _unless_missing():
        _wait_while(UNFINISHED, state, f"waiting: {name} is being stopped")
    return True


def _stop_tuning_job(client, name):
    """Stop a tuning job and all that it started; returns whether it was running."""
    with _unless_missing():
        description = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if description["HyperParameterTuningJobStatus"] != "InProgress":
            return False
    client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    return True


def _stop_jobs(client, launch):
    """Stop the running training jobs of a launch; returns whether there were any."""
    running = [job for job, state in _job_states(client, launch).items() if state == "InProgress"]
    for job in running:
        client.stop_training_job(TrainingJobName=job)
    return bool(running)


def _wait_while(states, state, words):
    """Wait while `state()` is one of `states`, and say so in `words` once."""
    deadline = time.monotonic() + BUSY_LIMIT_SECONDS
    told = False
    while state() in states and time.monotonic() < deadline:
        if not told:
            print(words, flush=True)
        told = True
        time.sleep(BUSY_POLL_SECONDS)


@contextlib.contextmanager
def _unless_missing():
    """Pass on that something is missing; where the look itself fails, deleting is still worth a try."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        if _is_missing(error):
            raise


# Kind: the service that has it, and what deletes one by its client and name.
DELETE = {
    "tuning job": ("sagemaker", _stop_tuning_job),
    "training job": ("sagemaker", lambda client, name: client.stop_training_job(TrainingJobName=name)),
    "training jobs": ("sagemaker", _stop_jobs),
    "transform job": ("sagemaker", _stop_transform_job),
    "schedule": ("scheduler", lambda client, name: client.delete_schedule(Name=name)),
    "alarm": ("cloudwatch", _delete_alarm),
    "scalable target": (
        "application-autoscaling", lambda client, name: client.deregister_scalable_target(**scalable(name))
    ),
    "endpoint": ("sagemaker", _delete_endpoint),
    "endpoint config": ("sagemaker", lambda client, name: client.delete_endpoint_config(EndpointConfigName=name)),
    "model package group": ("sagemaker", _delete_package_group),
    "model": ("sagemaker", lambda client, name: client.delete_model(ModelName=name)),
    "object": ("s3", _delete_object),
    "objects": ("s3", _delete_objects),
    "bucket": ("s3", lambda client, name: client.delete_bucket(Bucket=name)),
}  # fmt: skip


MISSING = (
    "404", "NoSuchKey", "NoSuchBucket", "ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException",
)  # fmt: skip
MISSING_WORDS = ("could not find", "does not exist", "no scalable target found")


def _is_missing(error):
    if not isinstance(error, ClientError):
        return False
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "").lower()
    return code in MISSING or (code.startswith("Validation") and any(words in message for words in MISSING_WORDS))


class Ledger:
    """What one run is about to make, in order; leaving the block deletes it in reverse, unless kept.

    A name is noted before the call that makes it: a creation can succeed in the account and
    fail on its way back. Within the block a closed terminal (SIGHUP) or a `kill` (SIGTERM)
    counts as Ctrl-C; while it deletes, none of the three can stop it. A killed process
    (kill -9) leaves what it made to cleanup.py.
    """

    def __init__(self, account):
        self.account, self.entries = account, []
        self.deleted, self.failed = [], []
        self._unmade = set()

    def note(self, kind, name):
        """Note that `name` of `kind` is about to be made."""
        self.entries.append((kind, name))

    def refused(self, error):
        """Take notice of the exception of a call: what was noted last is not there where AWS refused to make it."""
        problem = aws.explain(error) if isinstance(error, Exception) else None
        last = self.entries[-1] if self.entries else (None, None)
        if problem and problem.kind in REFUSALS and MAKERS.get(problem.operation) == last[0]:
            self._unmade.add(last)

    def keep(self, kinds=tuple(DELETE)):
        """What was made so far of `kinds` stays; returns it, as a list of (kind, name)."""
        kept = [entry for entry in self.entries if entry[0] in kinds and entry not in self._unmade]
        self.entries = [entry for entry in self.entries if entry not in kept]
        return kept

    def __enter__(self):
        self._signals = contextlib.ExitStack()
        self._signals.enter_context(_handled(_interrupt, signal.SIGTERM, getattr(signal, "SIGHUP", None)))
        return self

    def __exit__(self, kind, error, traceback):
        self.refused(error)
        with self._signals, _handled(_refuse, signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)):
            self.delete_all()

    def delete_all(self):
        """Delete what is noted, the last first, and print it. What resists is in `failed`, with the reason."""
        while self.entries:
            kind, name = self.entries.pop()
            try:
                if delete(self.account, kind, name):
                    self.deleted.append((kind, name))
                    print(f"{'stopped' if ' job' in kind else 'deleted'}: {kind} {name}", flush=True)
            except (ClientError, BotoCoreError) as error:
                if (kind, name) in self._unmade:
                    continue
                problem = aws.explain(error)
                self.failed.append((kind, name, problem))
                there = ", if there are any" if problem.operation in LOOKS else ""
                print(f"NOT deleted: {kind} {name}{there} ({problem})", flush=True)
        if self.failed:
            common.print_next("python sagemaker_scripts/cleanup.py", "something is left behind and may cost money")


@contextlib.contextmanager
def _handled(handler, *signals):
    """`signals` go to `handler` within the block; outside of the main thread Python allows none of it."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in signals if number is not None}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _interrupt(*_):
    raise KeyboardInterrupt


def _refuse(*_):
    print("still deleting what was made, so that nothing is left to pay for; please wait", flush=True)
