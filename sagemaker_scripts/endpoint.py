"""The steps from a model.tar.gz to an endpoint in service, each noted in a ledger before it is taken."""

import dataclasses
import logging

from sagemaker_scripts import aws, common, prices

IMAGE_VERSION = "2.20"
VARIANT = "AllTraffic"
# Serverless endpoints take no instance; the image's registry is the same for all CPU instances.
ANY_CPU_INSTANCE = "ml.m5.large"
# US dollars for a second of work with 1 GB, us-east-1; see prices.PAGE.
SERVERLESS_GB_SECOND = 0.00002


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What an endpoint runs on: one `instance`, or, where `memory` (MB) is given, serverless."""

    instance: str = ANY_CPU_INSTANCE
    memory: int | None = None
    concurrency: int = 2

    def __str__(self):
        return f"serverless with {self.memory} MB" if self.memory else self.instance

    def price(self, region):
        """The price in one sentence."""
        if self.memory:
            second = self.memory / 1024 * SERVERLESS_GB_SECOND
            return f"{self} costs nothing while idle and about ${second:.6f} a second of work ({prices.REGION})"
        return f"{prices.sentence(self.instance, region)}, also while nobody asks it anything"


def image_uri(region, instance):
    """Address of AWS's TensorFlow Serving image."""
    from sagemaker.core import image_uris

    return image_uris.retrieve(
        "tensorflow", region, version=IMAGE_VERSION, instance_type=instance, image_scope="inference"
    )


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
    from sagemaker.core.resources import Model
    from sagemaker.core.shapes import ContainerDefinition, Tag

    container = ContainerDefinition(image=image_uri(account.region, hardware.instance), model_data_url=address)
    ledger.note("model", name)
    Model.create(
        model_name=name, primary_container=container, execution_role_arn=account.role,
        tags=[Tag(**tag) for tag in aws.tags(upper=False)], session=account.session, region=account.region,
    )  # fmt: skip


def create_config(account, ledger, name, hardware):
    """Say what the endpoint runs on."""
    ledger.note("endpoint config", name)
    if hardware.memory:
        # With boto3, because sagemaker-core 2.27 spells the memory's field in a way that AWS refuses.
        serverless = {"MemorySizeInMB": hardware.memory, "MaxConcurrency": hardware.concurrency}
        account.client("sagemaker").create_endpoint_config(
            EndpointConfigName=name, Tags=aws.tags(),
            ProductionVariants=[{"VariantName": VARIANT, "ModelName": name, "ServerlessConfig": serverless}],
        )  # fmt: skip
        return
    from sagemaker.core.resources import EndpointConfig
    from sagemaker.core.shapes import ProductionVariant, Tag

    variant = ProductionVariant(
        variant_name=VARIANT, model_name=name, initial_instance_count=1, instance_type=hardware.instance
    )
    EndpointConfig.create(
        endpoint_config_name=name, production_variants=[variant],
        tags=[Tag(**tag) for tag in aws.tags(upper=False)], session=account.session, region=account.region,
    )  # fmt: skip


def create_endpoint(account, ledger, name, poll, timeout):
    """Start the endpoint and wait until it is in service; ScriptError where it fails or takes too long.

    `poll` and `timeout` in seconds.
    """
    from sagemaker.core.resources import Endpoint
    from sagemaker.core.shapes import Tag
    from sagemaker.core.utils.exceptions import FailedStatusError, TimeoutExceededError

    ledger.note("endpoint", name)
    endpoint = Endpoint.create(
        endpoint_name=name, endpoint_config_name=name, tags=[Tag(**tag) for tag in aws.tags(upper=False)],
        session=account.session, region=account.region,
    )  # fmt: skip
    try:
        endpoint.wait_for_status("InService", poll=poll, timeout=timeout)
    except FailedStatusError as error:
        reason = aws.hide_secrets(str(endpoint.failure_reason or "no reason given").rstrip("."))
        raise common.ScriptError(
            f"the endpoint did not start: {reason}; its log is CloudWatch's group /aws/sagemaker/Endpoints/{name}"
        ) from error
    except TimeoutExceededError as error:
        raise common.ScriptError(
            f"the endpoint is not in service after {timeout / 60:.0f} minutes; give --timeout more, or take "
            "another --instance"
        ) from error


def quieten_sdk():
    """Leave the words to the scripts: the SDK logs every request."""
    for name in ("sagemaker", "sagemaker.core", "botocore", "boto3"):
        logging.getLogger(name).setLevel(logging.WARNING)
