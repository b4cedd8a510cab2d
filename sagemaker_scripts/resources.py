"""How each kind of thing is made in an account; whatever is made is noted in the ledger before it is made."""

import dataclasses
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sagemaker_scripts import aws, common, preflight
from sagemaker_scripts.ledger import VARIANT, scalable

# A universal target of EventBridge Scheduler: it makes the call itself. A schedule that runs once costs nothing.
DELETE_ENDPOINT = "arn:{}:scheduler:::aws-sdk:sagemaker:deleteEndpoint"
# After so long without a request an alarm goes off.
IDLE_SECONDS = 3600
# Requests a minute that one instance shall have; above it another one is added.
SCALE_INVOCATIONS = 600
TRANSFORMS_AT_ONCE = 4
CONTENT_TYPES = ["application/json", "application/x-npy", "image/png", "image/jpeg"]


def ensure_bucket(account, ledger):
    """Make the account's bucket where it is missing, with this project's tag on it."""
    if account.bucket_exists:
        return
    s3 = account.client("s3")
    # S3's oldest region is the one that must not be named.
    place = {} if account.region == "us-east-1" else {"LocationConstraint": account.region}
    ledger.note("bucket", account.bucket)
    s3.create_bucket(Bucket=account.bucket, **({"CreateBucketConfiguration": place} if place else {}))
    s3.put_bucket_tagging(Bucket=account.bucket, Tagging={"TagSet": aws.tags()})


def upload(account, ledger, archive, name):
    """Upload `archive`; returns its s3:// address."""
    ensure_bucket(account, ledger)
    key = f"{aws.OBJECT_PREFIX}{name}/model.tar.gz"
    ledger.note("object", f"{account.bucket}/{key}")
    account.client("s3").upload_file(str(archive), account.bucket, key)
    return f"s3://{account.bucket}/{key}"


def create_model(account, ledger, name, address, hardware):
    """Register the archive at `address` together with the image that serves it."""
    image = preflight.image_uri("inference", account.region, hardware.instance)
    vpc = account.protection.vpc()
    ledger.note("model", name)
    account.client("sagemaker").create_model(
        ModelName=name, PrimaryContainer={"Image": image, "ModelDataUrl": address}, ExecutionRoleArn=account.role,
        # The archive needs nothing from outside: its code cannot send anything away. Serverless has no isolation.
        EnableNetworkIsolation=not hardware.memory, Tags=aws.tags(), **({"VpcConfig": vpc} if vpc else {}),
    )  # fmt: skip


def create_config(account, ledger, name, hardware):
    """Say what the endpoint runs on, and which of its requests are kept."""
    variant = {"VariantName": VARIANT, "ModelName": name}
    options = {}
    if hardware.memory:
        variant["ServerlessConfig"] = {"MemorySizeInMB": hardware.memory, "MaxConcurrency": hardware.concurrency}
    else:
        count = hardware.scale[0] if hardware.scale else 1
        variant |= {"InstanceType": hardware.instance, "InitialInstanceCount": count}
        if key := account.protection.volume_key(hardware.instance):
            options["KmsKeyId"] = key
    if hardware.capture:
        place = f"{account.bucket}/{aws.OBJECT_PREFIX}{name}/capture/"
        ledger.note("objects", place)
        options["DataCaptureConfig"] = {
            "InitialSamplingPercentage": hardware.capture,
            "DestinationS3Uri": f"s3://{place}",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
            **({"KmsKeyId": account.protection.kms_key} if account.protection.kms_key else {}),
        }
    ledger.note("endpoint config", name)
    # Not by sagemaker.core, whose version 2.27 spells a serverless endpoint's memory in a way that AWS refuses.
    account.client("sagemaker").create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant], Tags=aws.tags(), **options
    )


def create_schedule(account, ledger, name, hours):
    """Let AWS delete the endpoint `name` in `hours`, whatever becomes of this machine; returns when, a datetime."""
    end = datetime.now(UTC) + timedelta(hours=hours)
    target = DELETE_ENDPOINT.format(account.session.get_partition_for_region(account.region))
    ledger.note("schedule", name)
    account.client("scheduler").create_schedule(
        Name=name, ScheduleExpression=f"at({end:%Y-%m-%dT%H:%M:%S})", ScheduleExpressionTimezone="UTC",
        FlexibleTimeWindow={"Mode": "OFF"}, ActionAfterCompletion="DELETE",
        Target={"Arn": target, "RoleArn": account.role, "Input": json.dumps({"EndpointName": name})},
    )  # fmt: skip
    return end


def create_alarm(account, ledger, name, topic):
    """Tell the SNS `topic` (an ARN) when nobody has asked the endpoint for an hour."""
    ledger.note("alarm", name)
    account.client("cloudwatch").put_metric_alarm(
        AlarmName=name, AlarmDescription=f"nobody asks the endpoint {name}, which costs money: run cleanup.py",
        Namespace="AWS/SageMaker", MetricName="Invocations", Statistic="Sum",
        Dimensions=[{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": VARIANT}],
        Period=IDLE_SECONDS, EvaluationPeriods=1, Threshold=1, ComparisonOperator="LessThanThreshold",
        # Without a request there is no measurement.
        TreatMissingData="breaching", AlarmActions=[topic], Tags=aws.tags(),
    )  # fmt: skip


def create_scaling(account, ledger, name, scale):
    """Let the number of instances follow the load, between the two of `scale`; the endpoint is in service."""
    client = account.client("application-autoscaling")
    ledger.note("scalable target", name)
    client.register_scalable_target(**scalable(name), MinCapacity=scale[0], MaxCapacity=scale[1])
    client.put_scaling_policy(
        PolicyName=name, PolicyType="TargetTrackingScaling", **scalable(name),
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": SCALE_INVOCATIONS,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        },
    )  # fmt: skip


def register_package(account, ledger, name, address, hardware):
    """Put the archive at `address` into the model registry, as the first version of the group `name`."""
    client = account.client("sagemaker")
    image = preflight.image_uri("inference", account.region, hardware.instance)
    ledger.note("model package group", name)
    client.create_model_package_group(ModelPackageGroupName=name, Tags=aws.tags())
    client.create_model_package(
        ModelPackageGroupName=name, ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [{"Image": image, "ModelDataUrl": address}],
            "SupportedContentTypes": CONTENT_TYPES, "SupportedResponseMIMETypes": ["application/json"],
            "SupportedRealtimeInferenceInstanceTypes": [hardware.instance],
            "SupportedTransformInstanceTypes": [hardware.instance],
        },
    )  # fmt: skip


def create_transform(account, ledger, name, place, instance, largest):
    """Start a batch transform of the objects below `place` ("bucket/prefix/"), into in/, answers in out/.

    `largest`: bytes of the largest of them.
    """
    megabytes = max(1, -(-largest // 1024**2))
    key, volume_key = account.protection.kms_key, account.protection.volume_key(instance)
    ledger.note("transform job", name)
    account.client("sagemaker").create_transform_job(
        TransformJobName=name, ModelName=name, Tags=aws.tags(),
        # Concurrency times size may be 100 MB (CreateTransformJob's documentation).
        MaxPayloadInMB=megabytes, MaxConcurrentTransforms=min(TRANSFORMS_AT_ONCE, 100 // megabytes),
        ModelClientConfig={"InvocationsTimeoutInSeconds": 60, "InvocationsMaxRetries": 1},
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{place}in/"}},
            # What says nothing: the handler looks at the first bytes.
            "ContentType": "application/octet-stream", "SplitType": "None",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{place}out/", "Accept": "application/json", **({"KmsKeyId": key} if key else {})
        },
        TransformResources={
            "InstanceType": instance, "InstanceCount": 1, **({"VolumeKmsKeyId": volume_key} if volume_key else {})
        },
    )  # fmt: skip


def create_endpoint(account, ledger, name, poll, timeout):
    """Start the endpoint and wait until it is in service; ScriptError where it fails or takes too long.

    `poll` and `timeout` in seconds.
    """
    client = account.client("sagemaker")
    ledger.note("endpoint", name)
    client.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=aws.tags())
    answer = wait_until(
        ("InService", "Failed"), lambda: client.describe_endpoint(EndpointName=name), "EndpointStatus", poll, timeout
    )
    if answer is None:
        raise common.ScriptError(
            f"the endpoint is not in service after {timeout / 60:.0f} minutes; give --timeout more, or take "
            "another --instance"
        )
    if answer["EndpointStatus"] == "Failed":
        raise common.ScriptError(
            f"the endpoint did not start: {failure(answer)}; its log is CloudWatch's group "
            f"/aws/sagemaker/Endpoints/{name}"
        )


def wait_until(states, describe, key, poll, timeout):
    """The answer of `describe()` once its `key` is one of `states`; None where that takes over `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (answer := describe())[key] not in states:
        if time.monotonic() >= deadline:
            return None
        time.sleep(poll)
    return answer


def failure(description):
    """Why AWS says that something failed, without a full stop at the end."""
    return aws.hide_secrets(description.get("FailureReason") or "no reason given").rstrip(".")


@dataclasses.dataclass
class Steps:
    """One deployment, its arguments as of `deploy.deploy`, and what is made for it."""

    account: preflight.Account
    name: str
    archive: Path
    hardware: preflight.Hardware
    keep: float
    alarm: str | None
    register: bool
    poll: float
    timeout: float

    def create(self, ledger):
        """Make all of it, step by step; ends once the endpoint is in service."""
        account, name = self.account, self.name
        print(f"1/4 upload {self.archive} to {account.bucket}", flush=True)
        address = upload(account, ledger, self.archive, name)
        print(f"2/4 model {name}", flush=True)
        create_model(account, ledger, name, address, self.hardware)
        if self.register:
            register_package(account, ledger, name, address, self.hardware)
            print(f"    model package group {name}, waiting for approval", flush=True)
        print(f"3/4 endpoint config: {self.hardware}", flush=True)
        create_config(account, ledger, name, self.hardware)
        if self.keep:
            self._set_end(ledger)
        print("4/4 endpoint; this takes some minutes, and Ctrl-C ends it cleanly", flush=True)
        create_endpoint(account, ledger, name, self.poll, self.timeout)
        if self.hardware.scale:
            create_scaling(account, ledger, name, self.hardware.scale)
        if self.alarm:
            create_alarm(account, ledger, name, self.alarm)

    def _set_end(self, ledger):
        """Before there is an endpoint, so that none stays without an end; an alarm has to do where AWS sets no date."""
        try:
            end = create_schedule(self.account, ledger, self.name, self.keep)
        except Exception as error:
            problem = aws.explain(error)
            if not self.alarm or problem is None or problem.kind not in (aws.Kind.DENIED, aws.Kind.ROLE):
                raise
            ledger.refused(error)
            print(f"no date of deletion ({problem}): the alarm alone tells of an idle endpoint", flush=True)
        else:
            print(f"    AWS deletes the endpoint at {end:%Y-%m-%d %H:%M} UTC", flush=True)
