"""What a run makes in an account: how each kind is made and deleted, and a ledger that deletes all of it again.

Whatever is made is noted in the ledger before it is made.
"""

import contextlib
import signal
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError

from sagemaker_scripts import aws, common, preflight

VARIANT = "AllTraffic"
# SageMaker refuses to delete an endpoint that is still being created.
BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack")
BUSY_POLL_SECONDS = 15
BUSY_LIMIT_SECONDS = 45 * 60
BATCH = 1000
UNFINISHED = ("InProgress", "Stopping")


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
    from sagemaker.core.shapes import ContainerDefinition

    container = ContainerDefinition(
        image=preflight.image_uri("inference", account.region, hardware.instance), model_data_url=address
    )
    ledger.note("model", name)
    Model.create(
        model_name=name, primary_container=container, execution_role_arn=account.role,
        # The archive needs nothing from outside: its code cannot send anything away.
        enable_network_isolation=True, **_owned(account),
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
    from sagemaker.core.shapes import ProductionVariant

    variant = ProductionVariant(
        variant_name=VARIANT, model_name=name, initial_instance_count=1, instance_type=hardware.instance
    )
    EndpointConfig.create(endpoint_config_name=name, production_variants=[variant], **_owned(account))


def create_endpoint(account, ledger, name, poll, timeout):
    """Start the endpoint and wait until it is in service; ScriptError where it fails or takes too long.

    `poll` and `timeout` in seconds.
    """
    from sagemaker.core.resources import Endpoint
    from sagemaker.core.utils.exceptions import FailedStatusError, TimeoutExceededError

    ledger.note("endpoint", name)
    endpoint = Endpoint.create(endpoint_name=name, endpoint_config_name=name, **_owned(account))
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


def _owned(account):
    """What sagemaker's resources all take: this project's tag, and where they are."""
    from sagemaker.core.shapes import Tag

    tags = [Tag(**tag) for tag in aws.tags(upper=False)]
    return {"tags": tags, "session": account.session, "region": account.region}


def delete(account, kind, name):
    """Delete the resource `name` of `kind`, a key of DELETE (jobs are stopped: AWS keeps their record).

    The name of an object is "bucket/key", of "objects" "bucket/prefix", of "training jobs" the
    start of theirs.

    `account` is a `preflight.Account`. Returns whether it was there. Raises what boto3 raises.
    """
    client = account.client("s3" if kind in ("object", "objects", "bucket") else "sagemaker")
    try:
        return DELETE[kind](client, name) is not False
    except ClientError as error:
        if _is_missing(error):
            return False
        raise


def _delete_endpoint(client, name):
    with _unless_missing():
        _wait_until_idle(client, name)
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


def _wait_until_idle(client, name):
    deadline = time.monotonic() + BUSY_LIMIT_SECONDS
    told = False
    while client.describe_endpoint(EndpointName=name)["EndpointStatus"] in BUSY and time.monotonic() < deadline:
        if not told:
            print(f"waiting: {name} is still being created, and AWS deletes no endpoint before that ends", flush=True)
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


DELETE = {
    "tuning job": _stop_tuning_job,
    "training job": lambda client, name: client.stop_training_job(TrainingJobName=name),
    "training jobs": _stop_jobs,
    "endpoint": _delete_endpoint,
    "endpoint config": lambda client, name: client.delete_endpoint_config(EndpointConfigName=name),
    "model": lambda client, name: client.delete_model(ModelName=name),
    "object": _delete_object,
    "objects": _delete_objects,
    "bucket": lambda client, name: client.delete_bucket(Bucket=name),
}


def _is_missing(error):
    if not isinstance(error, ClientError):
        return False
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "").lower()
    return code in ("404", "NoSuchKey", "NoSuchBucket", "ResourceNotFound") or (
        code.startswith("Validation") and ("could not find" in message or "does not exist" in message)
    )


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

    def note(self, kind, name):
        """Note that `name` of `kind` is about to be made."""
        self.entries.append((kind, name))

    def keep(self, kinds=tuple(DELETE), unmade=False):
        """What was made so far of `kinds` stays; `unmade`: the last one noted does not exist.

        Returns what stays, as a list of (kind, name).
        """
        made = self.entries[:-1] if unmade else self.entries
        kept = [entry for entry in made if entry[0] in kinds]
        self.entries = [entry for entry in self.entries if entry not in kept]
        return kept

    def __enter__(self):
        self._signals = contextlib.ExitStack()
        self._signals.enter_context(_handled(_interrupt, signal.SIGTERM, getattr(signal, "SIGHUP", None)))
        return self

    def __exit__(self, *_):
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
                problem = aws.explain(error)
                self.failed.append((kind, name, problem))
                print(f"NOT deleted: {kind} {name} ({problem})", flush=True)
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
