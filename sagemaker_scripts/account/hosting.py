"""What an endpoint or a job runs on, what it costs, and how an endpoint or a batch transform is created."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

from botocore.exceptions import BotoCoreError, ClientError

from sagemaker_scripts import aws, common, errors
from sagemaker_scripts.resources import BUSY, VARIANT, scalable, wait_while

# US dollars per hour, on demand, for endpoints and training alike, as listed on this AWS page: a small table,
# so that nobody starts anything without having seen its price. Other regions differ, and prices change.
PRICES_PAGE, PRICES_REGION, PRICES_NOTED = "https://aws.amazon.com/sagemaker/ai/pricing/", "us-east-1", "2025"
HOURLY = {
    "ml.t2.medium": 0.056,
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.m5.2xlarge": 0.461,
    "ml.m5.4xlarge": 0.922,
    "ml.c5.large": 0.102,
    "ml.c5.xlarge": 0.204,
    "ml.c5.2xlarge": 0.408,
    "ml.c5.4xlarge": 0.816,
    "ml.g4dn.xlarge": 0.7364,
    "ml.g5.xlarge": 1.408,
}
# US dollars per second of work with 1 GB, likewise.
SERVERLESS_GB_SECOND = 0.00002
ALARM_PRICE = "$0.10 a month each, beyond ten"
STORAGE_PRICE = "about $0.023 per GB and month"
# Versions of AWS's TensorFlow images: the pair that AWS supports.
IMAGE_VERSIONS = {"training": "2.21", "inference": "2.20"}
# Serverless endpoints take no instance; the image's registry is the same for all CPU instances.
ANY_CPU_INSTANCE = "ml.m5.large"
# Bytes of one request. Real-time: the maximum of BodyBlob in InvokeEndpoint's model in botocore; serverless:
# "Invoke a serverless endpoint", batch: MaxPayloadInMB of CreateTransformJob, both in SageMaker's documentation.
PAYLOAD_BYTES = {"real-time": 6 * 1024**2, "serverless": 4 * 1024**2, "batch": 100 * 1024**2}
SERVERLESS_MOST = 200
# A universal target of EventBridge Scheduler, which makes the call itself. A one-time schedule costs nothing.
DELETE_ENDPOINT = "arn:{}:scheduler:::aws-sdk:sagemaker:deleteEndpoint"
# An alarm goes off after this long without a request.
IDLE_SECONDS = 3600
# Target requests per minute and instance; above it an instance is added.
SCALE_INVOCATIONS = 600
TRANSFORMS_AT_ONCE = 4
# Leaves it to a file's first bytes to say what it is.
ANY_TYPE = "application/octet-stream"
CONTENT_TYPES = ["application/json", "application/x-npy", "image/png", "image/jpeg"]


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What an endpoint runs on: `instance`, or, if `memory` (MB) is given, serverless.

    `concurrency`: how many requests a serverless one answers at once; `scale`: (fewest, most)
    instances if their number follows the load; `capture`: percentage of requests kept in S3.
    """

    instance: str = ANY_CPU_INSTANCE
    memory: int | None = None
    concurrency: int = 2
    scale: tuple | None = None
    capture: int | None = None

    def __post_init__(self):
        if self.memory and (self.scale or self.capture):
            raise common.BadArgumentsError("a serverless endpoint takes neither --scale nor --capture")
        if not 1 <= self.concurrency <= SERVERLESS_MOST:
            raise common.BadArgumentsError(f"--max-concurrency is {self.concurrency}; expected 1 to {SERVERLESS_MOST}")
        if self.scale and not 1 <= self.scale[0] <= self.scale[1]:
            raise common.BadArgumentsError(f"--scale is {self.scale[0]}-{self.scale[1]}; expected a range such as 1-3")
        if self.scale and self.instance.startswith("ml.t"):
            raise common.BadArgumentsError(f"AWS does not scale {self.instance}; choose another --instance")
        if self.capture is not None and not 1 <= self.capture <= 100:
            raise common.BadArgumentsError(f"--capture is {self.capture}; expected a percentage from 1 to 100")

    def __str__(self):
        if self.memory:
            return f"serverless with {self.memory} MB, concurrency {self.concurrency}"
        return f"{self.scale[0]} to {self.scale[1]} {self.instance}" if self.scale else self.instance

    @property
    def payload_bytes(self):
        """Size limit of a request, in bytes."""
        return PAYLOAD_BYTES["serverless" if self.memory else "real-time"]

    def price(self, region):
        """The price in one sentence."""
        if self.memory:
            second = self.memory / 1024 * SERVERLESS_GB_SECOND
            return f"{self} costs nothing while idle and about ${second:.6f} per second of work ({PRICES_REGION})"
        each = f"{price(self.instance, region)}, even while nobody uses it"
        return f"{each}; up to {self.scale[1]} times that" if self.scale else each


def price(instance, region, hours=None, until=""):
    """In words: what `instance` costs per hour and, at most, for `hours`, `until` something; or that it is unknown."""
    dollars = HOURLY.get(instance) if region == PRICES_REGION else None
    if dollars is None:
        words = f"the price of {instance} in {region} is unknown here; see {PRICES_PAGE}"
        return words if hours is None else f"{words}; the most in all is unknown too"
    words = f"{instance} costs about ${dollars:.3f} an hour ({region}, noted {PRICES_NOTED})"
    return words if hours is None else f"{words}; at most ${dollars * hours:.2f} {until}"


def image_uri(scope, region, instance):
    """Address of AWS's TensorFlow image for `scope`, "training" or "inference"; with CUDA if `instance` has a GPU."""
    from sagemaker.core import image_uris

    return image_uris.retrieve(
        "tensorflow", region, version=IMAGE_VERSIONS[scope], instance_type=instance, image_scope=scope
    )


def check_quota(account, instance, count=1, use="endpoint"):
    """Raise ScriptError if the quota is below `count` of `instance` for `use`, "endpoint" or "transform job"."""
    name = f"{instance} for {use} usage"
    try:
        pages = account.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
        found = (quota["Value"] for page in pages for quota in page["Quotas"] if quota["QuotaName"] == name)
        quota = next(found, None)
    except (ClientError, BotoCoreError):  # Many accounts may not read quotas: the creation itself will tell.
        return
    if quota is not None and quota < count:
        fewer = " or fewer" if count > 1 else ""
        serverless = ", --serverless" if use == "endpoint" else ""
        raise common.ScriptError(
            f"this account's quota is {quota:.0f} {instance} for {use}s, and this needs {count}: choose another "
            f"--instance{fewer}{serverless}, or ask for more in the Service Quotas console"
        )


def create_model(ledger, name, address, hardware):
    """Register the archive at `address` together with the image that serves it."""
    account, vpc = ledger.account, ledger.account.access.vpc()
    image = image_uri("inference", account.region, hardware.instance)
    ledger.make(
        "model", name, ModelName=name, PrimaryContainer={"Image": image, "ModelDataUrl": address},
        # The archive needs no network; isolated, its code cannot send anything out. Serverless has no isolation.
        ExecutionRoleArn=account.role, EnableNetworkIsolation=not hardware.memory, Tags=aws.TAGS,
        **({"VpcConfig": vpc} if vpc else {}),
    )  # fmt: skip


def create_transform(ledger, name, place, instance, largest):
    """Start a batch transform under `place` ("bucket/prefix/"), from the objects in in/ to answers in out/.

    `largest`: bytes of the largest object.
    """
    megabytes = max(1, -(-largest // 1024**2))
    access = ledger.account.access
    key, volume_key = access.kms_key, access.volume_key(instance)
    ledger.make(
        "transform job", name, TransformJobName=name, ModelName=name, Tags=aws.TAGS,
        # Concurrency times size may be at most 100 MB (CreateTransformJob's documentation).
        MaxPayloadInMB=megabytes, MaxConcurrentTransforms=min(TRANSFORMS_AT_ONCE, 100 // megabytes),
        ModelClientConfig={"InvocationsTimeoutInSeconds": 60, "InvocationsMaxRetries": 1},
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{place}in/"}},
            "ContentType": ANY_TYPE, "SplitType": "None",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{place}out/", "Accept": "application/json", **({"KmsKeyId": key} if key else {})
        },
        TransformResources={
            "InstanceType": instance, "InstanceCount": 1, **({"VolumeKmsKeyId": volume_key} if volume_key else {})
        },
    )  # fmt: skip


def create_endpoint(ledger, name, archive, hardware, keep=0, alarm=None, register=False, poll=15, timeout=1800):
    """Create an endpoint called `name` that serves `archive`, step by step; return once it is in service.

    `ledger`: a `ledger.Ledger`; other arguments as in `deploy.deploy`.
    """
    print(f"1/4 upload {archive} to {ledger.account.bucket}", flush=True)
    address = ledger.upload(archive, name)
    print(f"2/4 model {name}", flush=True)
    create_model(ledger, name, address, hardware)
    if register:
        _register_package(ledger, name, address, hardware)
        print(f"    model package group {name}, waiting for approval", flush=True)
    print(f"3/4 endpoint config: {hardware}", flush=True)
    _create_config(ledger, name, hardware)
    if keep:
        _set_end(ledger, name, keep, alarm)
    print("4/4 endpoint; this takes some minutes, and Ctrl-C ends it cleanly", flush=True)
    _start(ledger, name, poll, timeout)
    if hardware.scale:
        _follow_load(ledger, name, hardware.scale)
    if alarm:
        _create_alarm(ledger, name, alarm)


def _register_package(ledger, name, address, hardware):
    """Put the archive at `address` into the model registry, as the first version of the group `name`."""
    image = image_uri("inference", ledger.account.region, hardware.instance)
    ledger.make("model package group", name, ModelPackageGroupName=name, Tags=aws.TAGS)
    ledger.account.client("sagemaker").create_model_package(
        ModelPackageGroupName=name, ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [{"Image": image, "ModelDataUrl": address}],
            "SupportedContentTypes": CONTENT_TYPES, "SupportedResponseMIMETypes": ["application/json"],
            "SupportedRealtimeInferenceInstanceTypes": [hardware.instance],
            "SupportedTransformInstanceTypes": [hardware.instance],
        },
    )  # fmt: skip


def _create_config(ledger, name, hardware):
    """Create the endpoint's config: what it runs on, and which of its requests are kept."""
    account, variant, options = ledger.account, {"VariantName": VARIANT, "ModelName": name}, {}
    if hardware.memory:
        variant["ServerlessConfig"] = {"MemorySizeInMB": hardware.memory, "MaxConcurrency": hardware.concurrency}
    else:
        count = hardware.scale[0] if hardware.scale else 1
        variant |= {"InstanceType": hardware.instance, "InitialInstanceCount": count}
        if key := account.access.volume_key(hardware.instance):
            options["KmsKeyId"] = key
    if hardware.capture:
        place = f"{account.bucket}/{aws.OBJECT_PREFIX}{name}/capture/"
        ledger.note("objects", place)
        options["DataCaptureConfig"] = {
            "InitialSamplingPercentage": hardware.capture,
            "DestinationS3Uri": f"s3://{place}",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
            **({"KmsKeyId": account.access.kms_key} if account.access.kms_key else {}),
        }
    # Not with sagemaker.core, whose version 2.27 spells a serverless endpoint's memory in a way that AWS refuses.
    ledger.make(
        "endpoint config", name, EndpointConfigName=name, ProductionVariants=[variant], Tags=aws.TAGS, **options
    )


def _set_end(ledger, name, hours, alarm):
    """Have AWS delete the endpoint in `hours`, whatever happens to this machine.

    Done before there is an endpoint, so that none stays without an end; if AWS refuses, the alarm has to suffice.
    """
    account, end = ledger.account, datetime.now(UTC) + timedelta(hours=hours)
    target = DELETE_ENDPOINT.format(account.session.get_partition_for_region(account.region))
    try:
        ledger.make(
            "schedule", name, Name=name, ScheduleExpression=f"at({end:%Y-%m-%dT%H:%M:%S})",
            ScheduleExpressionTimezone="UTC", FlexibleTimeWindow={"Mode": "OFF"}, ActionAfterCompletion="DELETE",
            Target={"Arn": target, "RoleArn": account.role, "Input": json.dumps({"EndpointName": name})},
        )  # fmt: skip
    except Exception as error:
        problem = errors.explain(error)
        if not alarm or problem is None or problem.kind not in (errors.Kind.DENIED, errors.Kind.ROLE):
            raise
        ledger.refused(error)
        print(f"no scheduled deletion ({problem}): only the alarm will tell of an idle endpoint", flush=True)
    else:
        print(f"    AWS deletes the endpoint at {end:%Y-%m-%d %H:%M} UTC", flush=True)


def _start(ledger, name, poll, timeout):
    """Start the endpoint and wait until it is in service; ScriptError if it fails or takes too long."""
    client = ledger.account.client("sagemaker")
    ledger.make("endpoint", name, EndpointName=name, EndpointConfigName=name, Tags=aws.TAGS)
    found = wait_while(BUSY, lambda: client.describe_endpoint(EndpointName=name), "EndpointStatus", poll, timeout)
    if found is None:
        raise common.ScriptError(
            f"the endpoint is not in service after {timeout / 60:.0f} minutes; raise --timeout, or choose "
            "another --instance"
        )
    if found["EndpointStatus"] != "InService":
        raise common.ScriptError(
            f"the endpoint did not start: {errors.failure(found)}; see its log in CloudWatch, group "
            f"/aws/sagemaker/Endpoints/{name}"
        )


def _follow_load(ledger, name, scale):
    """Let the number of instances follow the load, within `scale`; the endpoint has to be in service."""
    ledger.make("scalable target", name, **scalable(name), MinCapacity=scale[0], MaxCapacity=scale[1])
    ledger.account.client("application-autoscaling").put_scaling_policy(
        PolicyName=name, PolicyType="TargetTrackingScaling", **scalable(name),
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": SCALE_INVOCATIONS,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        },
    )  # fmt: skip


def _create_alarm(ledger, name, topic):
    """Notify the SNS `topic` (an ARN) when nobody has used the endpoint for an hour."""
    ledger.make(
        "alarm", name, AlarmName=name,
        AlarmDescription=f"nobody uses the endpoint {name}, which costs money: run cleanup.py",
        Namespace="AWS/SageMaker", MetricName="Invocations", Statistic="Sum",
        Dimensions=[{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": VARIANT}],
        Period=IDLE_SECONDS, EvaluationPeriods=1, Threshold=1, ComparisonOperator="LessThanThreshold",
        # Without a request there is no measurement.
        TreatMissingData="breaching", AlarmActions=[topic], Tags=aws.TAGS,
    )  # fmt: skip
