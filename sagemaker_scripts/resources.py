"""What the scripts create in an account: how the resources of each kind are created, found and deleted."""

import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

# SageMaker refuses to delete an endpoint that is still being created.
BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack")
BUSY_POLL_SECONDS = 15
BUSY_LIMIT_SECONDS = 45 * 60
BATCH = 1000
UNFINISHED = ("InProgress", "Stopping")
# A job that has ended costs nothing and cannot be deleted; an endpoint being deleted need not be deleted again.
ENDED = ("Completed", "Failed", "Stopped", "Stopping", "Deleting", "DeleteFailed")
VARIANT = "AllTraffic"
MISSING = (
    "404", "NoSuchKey", "NoSuchBucket", "ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException",
)  # fmt: skip
MISSING_WORDS = ("could not find", "does not exist", "no scalable target found")


def wait_while(states, describe, key, poll, timeout, words=None):
    """The answer of `describe()` once its `key` is none of `states`; None if that takes over `timeout` seconds.

    `poll`: seconds; `words`: printed once, if there is anything to wait for.
    """
    deadline = time.monotonic() + timeout
    while (answer := describe())[key] in states:
        if time.monotonic() >= deadline:
            return None
        if words:
            print(words, flush=True)
        words = None
        time.sleep(poll)
    return answer


def job_states(client, launch):
    """{job name: status} of the training jobs of `launch`: Completed, InProgress, Failed, Stopping or Stopped."""
    pages = client.get_paginator("list_training_jobs").paginate(NameContains=launch)
    jobs = {job["TrainingJobName"]: job["TrainingJobStatus"] for page in pages for job in page["TrainingJobSummaries"]}
    return {name: status for name, status in jobs.items() if name.startswith(launch)}


def listed_objects(client, bucket, prefix):
    """[(key, bytes), ...] of the objects under `prefix`."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [(found["Key"], found["Size"]) for page in pages for found in page.get("Contents", [])]


def scalable(name):
    """The arguments by which Application Auto Scaling's calls name the instances of the endpoint `name`."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


@contextlib.contextmanager
def _unless_missing():
    """Re-raise only that something is missing; if looking fails otherwise, deleting is still worth a try."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        if is_missing(error):
            raise


def is_missing(error):
    """Whether `error`, from boto3, says that the named resource does not exist."""
    if not isinstance(error, ClientError):
        return False
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "").lower()
    return code in MISSING or (code.startswith("Validation") and any(words in message for words in MISSING_WORDS))


def _calling(call, argument):
    """A function that deletes by one `call` of a client, passing the name as `argument`."""
    return lambda client, name: getattr(client, call)(**{argument: name})


def _delete_endpoint(client, name):
    with _unless_missing():
        wait_while(
            BUSY, lambda: client.describe_endpoint(EndpointName=name), "EndpointStatus", BUSY_POLL_SECONDS,
            BUSY_LIMIT_SECONDS, f"waiting: {name} is still being created, and AWS deletes no endpoint until that ends",
        )  # fmt: skip
    client.delete_endpoint(EndpointName=name)


def _delete_object(client, name):
    bucket, _, key = name.partition("/")
    with _unless_missing():  # Deletion gives the same answer whether it was there or not.
        client.head_object(Bucket=bucket, Key=key)
    client.delete_object(Bucket=bucket, Key=key)


def _delete_objects(client, name):
    """Delete everything under a prefix; returns whether there was anything."""
    bucket, _, prefix = name.partition("/")
    some = False
    while found := client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=BATCH).get("Contents"):
        some = True
        keys = [{"Key": item["Key"]} for item in found]
        answer = client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        if answer.get("Errors"):  # Objects are refused one by one, in an answer that says success.
            raise ClientError({"Error": answer["Errors"][0]}, "DeleteObjects")
    return some


def _delete_package_group(client, name):
    """Delete the versions in a group of the model registry, then the group."""
    pages = client.get_paginator("list_model_packages").paginate(ModelPackageGroupName=name)
    for package in [package for page in pages for package in page["ModelPackageSummaryList"]]:
        client.delete_model_package(ModelPackageName=package["ModelPackageArn"])
    client.delete_model_package_group(ModelPackageGroupName=name)


def _delete_alarm(client, name):
    """Delete an alarm; returns whether there was one, which the deletion itself does not say."""
    there = bool(client.describe_alarms(AlarmNames=[name])["MetricAlarms"])
    client.delete_alarms(AlarmNames=[name])
    return there


def _stop_transform_job(client, name):
    """Stop a transform job, and wait until it has stopped writing; returns whether it was running."""

    def describe():
        return client.describe_transform_job(TransformJobName=name)

    with _unless_missing():
        if describe()["TransformJobStatus"] not in UNFINISHED:
            return False
    client.stop_transform_job(TransformJobName=name)
    with _unless_missing():
        wait_while(
            UNFINISHED, describe, "TransformJobStatus", BUSY_POLL_SECONDS, BUSY_LIMIT_SECONDS,
            f"waiting: {name} is being stopped",
        )  # fmt: skip
    return True


def _stop_tuning_job(client, name):
    """Stop a tuning job and all its jobs; returns whether it was running."""
    with _unless_missing():
        description = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if description["HyperParameterTuningJobStatus"] != "InProgress":
            return False
    client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    return True


def _stop_training_jobs(client, launch):
    """Stop the running training jobs of a launch; returns whether there were any."""
    running = [job for job, state in job_states(client, launch).items() if state == "InProgress"]
    for job in running:
        client.stop_training_job(TrainingJobName=job)
    return bool(running)


class Resource(NamedTuple):
    """How the resources of one kind are created, deleted and found.

    `maker`: the operation of `service` that creates one (the last of several): if it is refused,
    there is none; "" if only cleanup knows the kind. `delete(client, name)` returns False if there
    was none (jobs are stopped: AWS keeps their record). `listing`: the call that lists them, for
    cleanup, with `filter`, the name of its argument for a prefix, or all its arguments; `items` and
    `name`: keys of its answer. `over`: states that need no deletion; `tagged`: whether our tag
    decides too, beside the name.
    """

    service: str
    maker: str
    delete: Callable
    listing: str | None = None
    items: str = ""
    name: str = ""
    filter: str | dict = "NameContains"
    over: tuple = ()
    tagged: bool = False


# In cleanup's order of deletion: jobs and whatever belongs to an endpoint before it, a model and its objects last.
# An "object" is named "bucket/key", "objects" are named "bucket/prefix", "training jobs" by how their names start.
KINDS = {
    "tuning job": Resource(
        "sagemaker", "CreateHyperParameterTuningJob", _stop_tuning_job, "list_hyper_parameter_tuning_jobs",
        "HyperParameterTuningJobSummaries", "HyperParameterTuningJobName", over=ENDED,
    ),
    "training job": Resource(
        "sagemaker", "", _calling("stop_training_job", "TrainingJobName"), "list_training_jobs",
        "TrainingJobSummaries", "TrainingJobName", over=ENDED,
    ),
    "training jobs": Resource("sagemaker", "CreateTrainingJob", _stop_training_jobs),
    "transform job": Resource(
        "sagemaker", "CreateTransformJob", _stop_transform_job, "list_transform_jobs", "TransformJobSummaries",
        "TransformJobName", over=ENDED,
    ),
    "alarm": Resource(
        "cloudwatch", "PutMetricAlarm", _delete_alarm, "describe_alarms", "MetricAlarms", "AlarmName",
        "AlarmNamePrefix",
    ),
    "scalable target": Resource(
        "application-autoscaling", "RegisterScalableTarget",
        lambda client, name: client.deregister_scalable_target(**scalable(name)), "describe_scalable_targets",
        "ScalableTargets", "ResourceId", {"ServiceNamespace": "sagemaker"},
    ),
    "endpoint": Resource(
        "sagemaker", "CreateEndpoint", _delete_endpoint, "list_endpoints", "Endpoints", "EndpointName",
        over=("Deleting",), tagged=True,
    ),
    "schedule": Resource(
        "scheduler", "CreateSchedule", _calling("delete_schedule", "Name"), "list_schedules", "Schedules", "Name",
        "NamePrefix",
    ),
    "endpoint config": Resource(
        "sagemaker", "CreateEndpointConfig", _calling("delete_endpoint_config", "EndpointConfigName"),
        "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName", tagged=True,
    ),
    "model package group": Resource(
        "sagemaker", "CreateModelPackageGroup", _delete_package_group, "list_model_package_groups",
        "ModelPackageGroupSummaryList", "ModelPackageGroupName", tagged=True,
    ),
    "model": Resource(
        "sagemaker", "CreateModel", _calling("delete_model", "ModelName"), "list_models", "Models", "ModelName",
        tagged=True,
    ),
    "object": Resource("s3", "PutObject", _delete_object),
    "objects": Resource("s3", "", _delete_objects),
    "bucket": Resource("s3", "CreateBucket", _calling("delete_bucket", "Bucket")),
}  # fmt: skip
