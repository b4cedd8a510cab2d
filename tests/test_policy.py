"""policy.py: what the scripts call in an account is allowed, and nothing else is."""

import json
import re
from pathlib import Path

import aws_rehearsal
import pytest
from moto.iam.access_control import IAMPolicy, PermissionResult

from sagemaker_scripts import aws, cleanup, common, deploy, launch_training, resources
from sagemaker_scripts.account import batch, hosting, policy

BUCKET = f"sagemaker-{aws_rehearsal.REGION}-{aws_rehearsal.NUMBER}"
GUIDE = Path(deploy.__file__).with_name("AWS_SAGEMAKER_GUIDE.md")
# Where S3's actions are not called as its calls are.
S3_ACTIONS = {
    "HeadBucket": ["ListBucket"], "ListObjectsV2": ["ListBucket"], "HeadObject": ["GetObject"],
    "DeleteObjects": ["DeleteObject"], "ListBuckets": ["ListAllMyBuckets"], "CopyObject": ["GetObject", "PutObject"],
}  # fmt: skip
PREFIXES = {"sagemaker-runtime": "sagemaker", "service-quotas": "servicequotas"}
# What AWS asks for with a call, or in its course, and no call of that name shows.
IMPLIED = {
    "iam:PassRole", "iam:CreateServiceLinkedRole", "sagemaker:AddTags", "cloudwatch:TagResource",
    # Application Auto Scaling looks, and tries, in the caller's name.
    "sagemaker:DescribeEndpointConfig", "sagemaker:UpdateEndpointWeightsAndCapacities",
    # boto3 uploads in parts what is large.
    "s3:AbortMultipartUpload",
}  # fmt: skip
# The SDK asks whether the role may use the bucket, and does without an answer.
NOT_NEEDED = ("GetCallerIdentity", "SimulatePrincipalPolicy")
# The argument that names what a call of SageMaker is about, the first that it has, and how its ARN begins.
NAMES = {
    "TransformJobName": "transform-job", "TrainingJobName": "training-job",
    "HyperParameterTuningJobName": "hyper-parameter-tuning-job", "EndpointName": "endpoint",
    "EndpointConfigName": "endpoint-config", "ModelPackageGroupName": "model-package-group", "ModelName": "model",
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Every call of deployments, batches, launches and cleanups: [(service, call, arguments), ...]."""
    folder = tmp_path_factory.mktemp("record")
    with pytest.MonkeyPatch.context() as patch, aws_rehearsal.account(patch) as account:
        archive = aws_rehearsal.bare_archive(folder)
        options = {"access": aws.Access(role=aws_rehearsal.ROLE), "yes": True, "poll": 0}
        deploy_all(account, archive, options)
        batch_all(account, folder, archive, options, patch)
        launch_all(account, folder, patch)
        return [entry for entry in account.record if entry[1] not in NOT_NEEDED]


def deploy_all(account, archive, options):
    hardware = hosting.Hardware(scale=(1, 2), capture=10)
    topic = f"arn:aws:sns:us-east-1:{aws_rehearsal.NUMBER}:t"
    account.answer()
    deploy.deploy(archive, hardware=hardware, keep=2.0, alarm=topic, register=True, **options)
    cleanup.main(["--yes"])
    account.answer()
    deploy.deploy(archive, hardware=hosting.Hardware(memory=2048), **options)
    # As in a lab, whose credentials are a role's.
    account.change("GetCallerIdentity", lambda answer: answer.update(Arn=aws_rehearsal.LAB_ARN))
    deploy.deploy(archive, dry_run=True)
    account.changes.clear()
    # A role's credentials, whose own role is used.
    arn = f"arn:aws:sts::{aws_rehearsal.NUMBER}:assumed-role/cnnlab-sagemaker/x"
    account.change("GetCallerIdentity", lambda answer: answer.update(Arn=arn))
    account.replies["GetRole"] = {
        "Role": {"Arn": f"arn:aws:iam::{aws_rehearsal.NUMBER}:role/cnnlab-sagemaker", "RoleName": "cnnlab-sagemaker"}
    }
    deploy.deploy(archive, dry_run=True)
    account.changes.clear()


def batch_all(account, folder, archive, options, patch):
    (folder / "pictures").mkdir()
    for name in "ab":
        (folder / "pictures" / f"{name}.json").write_text(json.dumps({"image": [[[0] * 3] * 8] * 8}))
    bodies = []

    def answer(body, content_type):
        bodies.append(body)
        done = len(bodies) == 1
        return (200, json.dumps({"predictions": [aws_rehearsal.ANSWER]}).encode()) if done else (400, b"{}")

    account.container = answer
    candidate = deploy.Candidate(archive)
    batch.transform(folder / "pictures", folder / "answers.csv", candidate, **options)
    bodies.clear()
    with account.unobserved():
        s3 = account.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="cnnlab/in/a.png", Body=b"x")
    batch.transform(f"s3://{BUCKET}/cnnlab/in", folder / "again.csv", candidate, **options)
    patch.setattr(resources, "BUSY_POLL_SECONDS", 0)

    def stay(answer):
        if "StopTransformJob" not in account.calls:
            answer["TransformJobStatus"] = "InProgress"

    account.change("DescribeTransformJob", stay)
    bodies.clear()
    with pytest.raises(common.ScriptError):
        batch.transform(folder / "pictures", folder / "answers.csv", candidate, timeout=0, **options)
    account.changes.clear()


def launch_all(account, folder, patch):
    def stage(target):
        (target / "sagemaker_scripts").mkdir(parents=True)
        (target / launch_training.ENTRY).touch()
        (target / "requirements.txt").touch()

    patch.setattr(launch_training, "stage_source", stage)
    arguments = ["--yes", "--role", aws_rehearsal.ROLE, "--epochs", "1"]
    with account.unobserved():
        account.client("s3").put_object(Bucket=BUCKET, Key="cnnlab/data/a.npz", Body=b"x")
    launch_training.main([*arguments, "--data", f"s3://{BUCKET}/cnnlab/data"])
    launch_training.main([*arguments, "--study", "epochs", "--seeds", "1"])
    account.change("ListTrainingJobs", in_progress)
    account.replies["StopTrainingJob"] = account.replies["StopHyperParameterTuningJob"] = {}
    account.fail("CreateTrainingJob", "throttled", after=True)
    common.run(launch_training.main, arguments)
    account.fail("CreateHyperParameterTuningJob", "throttled", after=True)
    account.change("DescribeHyperParameterTuningJob", tuning_in_progress)
    common.run(launch_training.main, [*arguments, "--study", "epochs", "--seeds", "1"])
    account.failing.clear()
    account.changes.clear()
    with account.unobserved():
        jobs = account.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    name = jobs[0]["TrainingJobName"]
    common.run(launch_training.main, ["--collect", name, "--store", str(folder / "home")])
    cleanup.main(["--yes"])


def tuning_in_progress(answer):
    answer["HyperParameterTuningJobStatus"] = "InProgress"


def in_progress(answer):
    for job in answer["TrainingJobSummaries"]:
        job["TrainingJobStatus"] = "InProgress"


def actions(service, call):
    prefix = PREFIXES.get(service, service)
    return [f"{prefix}:{action}" for action in (S3_ACTIONS.get(call, [call]) if service == "s3" else [call])]


def resource(service, call, arguments):
    """The ARN that a call is about; "*" where it lists."""
    place = f"{aws_rehearsal.REGION}:{aws_rehearsal.NUMBER}"
    if service == "s3":
        key = arguments.get("Key") or next(
            (each["Key"] for each in arguments.get("Delete", {}).get("Objects", [])), None
        )
        return "*" if call == "ListBuckets" else f"arn:aws:s3:::{arguments['Bucket']}" + (f"/{key}" if key else "")
    if service == "scheduler" and "Name" in arguments:
        return f"arn:aws:scheduler:{place}:schedule/default/{arguments['Name']}"
    if service == "cloudwatch" and not call.startswith("Describe"):
        return f"arn:aws:cloudwatch:{place}:alarm:{arguments.get('AlarmName') or arguments['AlarmNames'][0]}"
    if service == "application-autoscaling" and not call.startswith("Describe"):
        return f"arn:aws:application-autoscaling:{place}:scalable-target/0ec5"
    if service == "logs":
        return f"arn:aws:logs:{place}:log-group:{arguments['logGroupName']}:log-stream:x"
    if service == "iam":
        return f"arn:aws:iam::{aws_rehearsal.NUMBER}:role/{arguments['RoleName']}"
    if call == "DeleteModelPackage":
        return arguments["ModelPackageName"]
    if call == "ListTags":
        return arguments["ResourceArn"]
    name = next((name for name in NAMES if name in arguments), None)
    if call.startswith("List") or name is None:
        return "*"
    return f"arn:aws:sagemaker:{place}:{NAMES[name]}/{arguments[name]}"


def allowed(document, action, arn):
    return IAMPolicy(json.dumps(document)).is_action_permitted(action, arn)


@pytest.fixture(scope="module")
def documents():
    return policy.documents(number=aws_rehearsal.NUMBER, region=aws_rehearsal.REGION)


def test_every_recorded_call_is_allowed(recorded, documents):
    # moto's evaluation takes a condition that it cannot look up for a refusal.
    plain = {
        "Version": "2012-10-17",
        "Statement": [s for s in documents["caller"]["Statement"] if "Condition" not in s],
    }
    asked = {(a, resource(*entry)) for entry in recorded for a in actions(*entry[:2])}
    assert len({action for action, _ in asked}) > 40
    refused = {(a, arn) for a, arn in asked if allowed(plain, a, arn) is not PermissionResult.PERMITTED}
    assert not refused


def test_nothing_is_allowed_that_is_never_called(recorded, documents):
    called = {action for entry in recorded for action in actions(*entry[:2])}
    stated = [action for statement in documents["caller"]["Statement"] for action in statement["Action"]]
    assert set(stated) == called | IMPLIED
    assert len(stated) == len(set(stated)) and not any("*" in action for action in stated)


@pytest.mark.parametrize(
    ("action", "arn"),
    [
        ("sagemaker:DeleteEndpoint", "arn:aws:sagemaker:us-east-1:123456789012:endpoint/production"),
        ("sagemaker:CreateModel", "arn:aws:sagemaker:us-east-1:123456789012:model/theirs"),
        ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/payroll.csv"),
        ("s3:DeleteBucket", "arn:aws:s3:::another"),
        ("sagemaker:CreateNotebookInstance", "arn:aws:sagemaker:us-east-1:123456789012:notebook-instance/cnnlab-a"),
        ("iam:CreateRole", "arn:aws:iam::123456789012:role/cnnlab-sagemaker"),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/Administrator"),
    ],
)
def test_what_is_not_this_projects_is_not_allowed(action, arn, documents):
    assert allowed(documents["caller"], action, arn) is not PermissionResult.PERMITTED


def test_a_role_is_passed_to_these_two_services_only(documents):
    (statement,) = [each for each in documents["caller"]["Statement"] if each["Sid"] == "PassRole"]
    assert statement["Resource"] == ["arn:aws:iam::123456789012:role/cnnlab-sagemaker"]
    services = statement["Condition"]["StringEquals"]["iam:PassedToService"]
    assert services == documents["trust"]["Statement"][0]["Principal"]["Service"]


def test_the_role_may_read_and_write_every_place_that_requests_name(recorded, documents):
    places = set(re.findall(r"s3://([\w.-]+/[^\"'\s,]+)", json.dumps([entry[2] for entry in recorded], default=str)))
    assert any("model.tar.gz" in place for place in places) and any("/capture" in place for place in places)
    plain = {"Version": "2012-10-17", "Statement": documents["role"]["Statement"]}
    for place in places:
        for action in ("s3:GetObject", "s3:PutObject"):
            assert allowed(plain, action, f"arn:aws:s3:::{place}") is PermissionResult.PERMITTED, place
    # EventBridge Scheduler's call, which is made with the role.
    (target,) = {e[2]["Target"]["Arn"] for e in recorded if e[1] == "CreateSchedule"}
    action = target.rpartition("aws-sdk:")[2]
    stated = [a for s in documents["role"]["Statement"] for a in s["Action"]]
    assert action.replace(":d", ":D") in stated
    assert "*" not in "".join(stated)


def test_a_managed_policy_takes_them():
    for document in policy.documents(protected(), "123456789012", "ap-southeast-1").values():
        assert len("".join(json.dumps(document).split())) <= 6144


def protected():
    return aws.Access(kms_key="1234abcd", subnets=("subnet-0a",), security_groups=("sg-0a",))


def test_a_key_and_a_vpc_take_more():
    plain, more = policy.documents(), policy.documents(protected())
    sids = {name: {s["Sid"] for s in more[name]["Statement"]} - {s["Sid"] for s in plain[name]["Statement"]}
            for name in ("caller", "role")}  # fmt: skip
    assert sids == {"caller": {"Key"}, "role": {"Key", "Vpc"}}
    with pytest.raises(common.BadArgumentsError, match="cannot name an alias"):
        policy.documents(aws.Access(kms_key="alias/mine"))


def test_it_is_printed_for_the_account_or_with_placeholders(monkeypatch, capsys):
    with aws_rehearsal.account(monkeypatch):
        assert deploy.main(["--print-policy", "caller", "--role", "r"]) == common.EXIT_DONE
    assert (
        json.loads(capsys.readouterr().out)
        == policy.documents(aws.Access(role="r"), "123456789012", "us-east-1")["caller"]
    )
    monkeypatch.setattr(policy.aws, "has_credentials", lambda session: False)
    assert deploy.main(["--print-policy", "--region", "us-east-1"]) == common.EXIT_DONE
    assert json.loads(capsys.readouterr().out) == policy.documents(region="us-east-1")


def test_the_guide_shows_what_is_printed():
    blocks = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```", GUIDE.read_text("utf-8"), re.M | re.S)]
    assert blocks == [policy.documents()[name] for name in ("trust", "role", "caller")]
    assert "FullAccess" not in GUIDE.read_text("utf-8")
