"""cleanup.py: finds by tag and prefix, deletes in order, can be run twice, hides nothing."""

import aws_rehearsal
import pytest

from sagemaker_scripts import aws, cleanup, common

BUCKET = f"sagemaker-{aws_rehearsal.REGION}-{aws_rehearsal.NUMBER}"
ROLE = f"arn:aws:iam::{aws_rehearsal.NUMBER}:role/r"


@pytest.fixture
def account(monkeypatch):
    with aws_rehearsal.account(monkeypatch) as rehearsal:
        yield rehearsal


def make(account, name, tags=None):
    """An endpoint, its config and its model, all called `name`."""
    client, tags = account.client("sagemaker"), aws.TAGS if tags is None else tags
    client.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "x"}, Tags=tags)
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], Tags=tags)
    client.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=tags)


def fill_bucket(account, *keys, tagged=True):
    s3 = account.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    if tagged:
        s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": aws.TAGS})
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"0123456789")


def test_all_of_ours_goes_in_order_and_a_second_run_finds_nothing(account, capsys):
    make(account, "cnnlab-a")
    make(account, "cnnlab-b")
    fill_bucket(account, "cnnlab/a/model.tar.gz", "cnnlab/b/model.tar.gz", "cnnlab-job/code/x.py")
    account.calls.clear()
    assert cleanup.main(["--yes"]) == common.EXIT_DONE
    deletions = [call for call in account.calls if call.startswith("Delete")]
    assert deletions == [
        *2 * ["DeleteEndpoint"], *2 * ["DeleteEndpointConfig"], *2 * ["DeleteModel"], *2 * ["DeleteObjects"],
        "DeleteBucket",
    ]  # fmt: skip
    assert account.left() == []
    assert f"found: objects {BUCKET}/cnnlab/ (2 of them, 0.0 MB)" in capsys.readouterr().out
    assert cleanup.main(["--yes"]) == common.EXIT_DONE
    assert "nothing of this project in account 123456789012, region us-east-1" in capsys.readouterr().out


def make_extras(account, name):
    """What options of deploy.py add to an endpoint called `name`."""
    account.client("scheduler").create_schedule(
        Name=name, ScheduleExpression="at(2030-01-01T00:00:00)", FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint", "RoleArn": ROLE},
    )  # fmt: skip
    account.client("cloudwatch").put_metric_alarm(
        AlarmName=name, Namespace="AWS/SageMaker", MetricName="Invocations", Statistic="Sum", Period=3600,
        EvaluationPeriods=1, Threshold=1, ComparisonOperator="LessThanThreshold",
    )  # fmt: skip
    account.client("application-autoscaling").register_scalable_target(
        ServiceNamespace="sagemaker", ResourceId=f"endpoint/{name}/variant/AllTraffic",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount", MinCapacity=1, MaxCapacity=2,
    )  # fmt: skip
    client = account.client("sagemaker")
    client.create_model_package_group(ModelPackageGroupName=name, Tags=aws.TAGS)
    for _ in range(2):
        client.create_model_package(ModelPackageGroupName=name, ModelApprovalStatus="Approved")


def test_what_hangs_on_an_endpoint_goes_with_it_and_what_others_have_stays(account, capsys):
    make(account, "cnnlab-a")
    make_extras(account, "cnnlab-a")
    make(account, "theirs", tags=[])
    make_extras(account, "theirs")
    assert cleanup.main(["--yes"]) == common.EXIT_DONE
    left = account.left()
    assert len(left) == 9 and all(line.endswith("theirs") for line in left)
    deletions = [call for call in account.calls if call.startswith(("Delete", "Deregister"))]
    assert deletions == [
        "DeleteAlarms", "DeregisterScalableTarget", "DeleteEndpoint", "DeleteSchedule", "DeleteEndpointConfig",
        "DeleteModelPackage", "DeleteModelPackage", "DeleteModelPackageGroup", "DeleteModel",
    ]  # fmt: skip
    assert "found: model package group cnnlab-a" in capsys.readouterr().out


@pytest.mark.parametrize(
    "call", ["ListSchedules", "DescribeAlarms", "DescribeScalableTargets", "ListModelPackageGroups"]
)
def test_a_list_of_what_costs_nothing_may_be_denied(call, account, capsys):
    """A lab that hides one of these would let no cleanup ever succeed."""
    make(account, "cnnlab-a")
    account.fail(call, "denied")
    assert cleanup.main(["--yes"]) == common.EXIT_DONE
    assert account.left() == [] and "NOT listed: " in capsys.readouterr().out


def test_what_is_not_ours_stays(account, capsys):
    make(account, "cnnlab-untagged", tags=[])
    make(account, "other", tags=aws.TAGS)
    make(account, "other-cnnlab-x")
    fill_bucket(account, "somebody/else.csv", "cnnlab/a", tagged=True)
    before = account.left()
    cleanup.main(["--yes"])
    assert account.left() == [item for item in before if item != "object cnnlab/a"]
    assert capsys.readouterr().out.count("left alone: ") == 3


def test_a_bucket_that_is_not_ours_stays_even_when_empty(account):
    fill_bucket(account, "cnnlab/a", tagged=False)
    cleanup.main(["--yes"])
    assert account.left() == [f"bucket {BUCKET}"]


def test_results_can_be_kept(account):
    make(account, "cnnlab-a")
    fill_bucket(account, "cnnlab/results/output.tar.gz")
    cleanup.main(["--yes", "--keep-objects"])
    assert account.left() == [f"bucket {BUCKET}", "object cnnlab/results/output.tar.gz"]


def test_looking_and_not_agreeing_delete_nothing(account):
    make(account, "cnnlab-a")
    before = account.left()
    assert cleanup.main(["--dry-run"]) == common.EXIT_DONE
    assert common.run(cleanup.main, []) == common.EXIT_BAD_ARGUMENTS
    assert account.left() == before
    assert not any(call.startswith("Delete") for call in account.calls)


@pytest.mark.parametrize(("kind", "reason"), [("denied", "is not authorized"), ("throttled", "Rate exceeded")])
def test_what_cannot_be_deleted_is_reported_and_the_rest_goes(kind, reason, account, capsys):
    make(account, "cnnlab-a")
    account.fail("DeleteEndpointConfig", kind)
    assert common.run(cleanup.main, ["--yes"]) == common.EXIT_FAILED
    assert account.left() == ["config cnnlab-a"]
    shown = capsys.readouterr()
    assert "NOT deleted: endpoint config cnnlab-a" in shown.out and reason in shown.out
    assert "not deleted or not listed: 1" in shown.err


@pytest.mark.parametrize("call", ["ListModels", "ListTrainingJobs", "HeadBucket"])
def test_a_list_that_is_denied_is_reported_and_the_rest_goes(call, account, capsys):
    make(account, "cnnlab-a")
    account.fail(call, "denied")
    assert common.run(cleanup.main, ["--yes"]) == common.EXIT_FAILED
    assert not any(line.startswith("endpoint") for line in account.left())
    assert "NOT listed: " in capsys.readouterr().out


def test_tags_that_may_not_be_read_do_not_save_an_endpoint(account):
    make(account, "cnnlab-a")
    account.fail("ListTags", "denied")
    cleanup.main(["--yes"])
    assert account.left() == []


def test_an_object_that_resists_is_reported(account, capsys):
    fill_bucket(account, "cnnlab/a")
    error = {"Key": "cnnlab/a", "Code": "AccessDenied", "Message": "no"}
    account.replies["DeleteObjects"] = {"Errors": [error]}
    assert common.run(cleanup.main, ["--yes"]) == common.EXIT_FAILED
    assert f"NOT deleted: objects {BUCKET}/cnnlab/ (DeleteObjects: no" in capsys.readouterr().out


def test_running_jobs_are_stopped_and_ended_ones_are_left(account, capsys):
    listed = {"cnnlab-x-001": "InProgress", "cnnlab-x-000": "Completed", "other-cnnlab-": "InProgress"}
    summaries = [
        {"TrainingJobName": name, "TrainingJobArn": name, "TrainingJobStatus": status}
        for name, status in listed.items()
    ]
    tuning = {
        "HyperParameterTuningJobName": "cnnlab-x", "HyperParameterTuningJobArn": "x",
        "HyperParameterTuningJobStatus": "InProgress",
    }  # fmt: skip
    account.replies["ListTrainingJobs"] = {"TrainingJobSummaries": summaries}
    account.replies["ListHyperParameterTuningJobs"] = {"HyperParameterTuningJobSummaries": [tuning]}
    account.replies["DescribeHyperParameterTuningJob"] = tuning
    for name, status in {"cnnlab-t": "InProgress", "cnnlab-u": "Failed", "t": "InProgress"}.items():
        account.transform_job(name, status)
    account.replies["StopTrainingJob"] = account.replies["StopHyperParameterTuningJob"] = {}
    cleanup.main(["--yes"])
    stops = [call for call in account.calls if call.startswith("Stop")]
    assert stops == ["StopHyperParameterTuningJob", "StopTrainingJob", "StopTransformJob"]
    assert account.left() == ["transform job t"]
    printed = capsys.readouterr().out
    assert "stopped: tuning job cnnlab-x" in printed and "stopped: transform job cnnlab-t" in printed
    assert "stopped: training job cnnlab-x-001" in printed
