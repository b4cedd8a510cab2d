"""deploy.py in an account in memory: whatever goes wrong, nothing is left behind."""

import functools
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aws_rehearsal
import boto3
import pytest
import synthetic
from moto.server import ThreadedMotoServer

from cnnlab import data
from sagemaker_scripts import aws, cleanup, common, deploy, resources
from sagemaker_scripts.account import hosting

ROOT = Path(__file__).resolve().parents[1]
BUCKET = f"sagemaker-{aws_rehearsal.REGION}-{aws_rehearsal.NUMBER}"
CREATIONS = ("CreateModel", "CreateEndpointConfig", "CreateEndpoint")
STEPS = (
    "CreateBucket", "PutBucketTagging", "PutObject", "CreateModel", "CreateEndpointConfig", "CreateEndpoint",
    "DescribeEndpoint", "InvokeEndpoint",
)  # fmt: skip
# And those that options add.
OPTIONAL_STEPS = (
    "CreateModelPackageGroup", "CreateModelPackage", "CreateSchedule", "RegisterScalableTarget", "PutScalingPolicy",
    "PutMetricAlarm",
)  # fmt: skip
TOPIC = f"arn:aws:sns:{aws_rehearsal.REGION}:{aws_rehearsal.NUMBER}:bills"
ALL_OF_IT = {
    "hardware": hosting.Hardware(scale=(1, 3), capture=20), "keep": 2.0, "alarm": TOPIC, "register": True,
}  # fmt: skip
KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
VPC = {"subnets": ("subnet-0123abcd", "subnet-1123abcd"), "security_groups": ("sg-0123abcd",)}


@pytest.fixture
def account(monkeypatch):
    with aws_rehearsal.account(monkeypatch) as rehearsal:
        rehearsal.answer()
        yield rehearsal


@pytest.fixture
def archive(tmp_path):
    return aws_rehearsal.bare_archive(tmp_path)


@pytest.fixture
def rehearsed(monkeypatch):
    """The archives that were rehearsed: the local server itself has its own tests."""
    archives = []
    monkeypatch.setattr(
        deploy, "_rehearse", lambda path: archives.append(path) or deploy.Outcome(path, {"local": True}, rehearsed=True)
    )
    return archives


@pytest.fixture(scope="module")
def fresh_clone(tmp_path_factory):
    """deploy() where there is neither a model nor a credential: (Outcome, what was printed)."""
    folder = tmp_path_factory.mktemp("clone")
    dataset = functools.cache(lambda: synthetic.dataset(500, 100, 100, classes=10, side=32))
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(data.LOADERS, "cifar10", lambda seed: dataset())
        patch.setattr(deploy, "SMALL_TRAIN_IMAGES", 500)
        patch.setattr(deploy, "SMALL_EVAL_IMAGES", 100)
        patch.setattr(aws, "has_credentials", lambda session: False)
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        outcome = deploy.deploy()
        outcome.archive = outcome.archive.resolve()
    return outcome, "\n".join(printed)


def run(archive, **options):
    access = aws.Access(role=options.pop("role", aws_rehearsal.ROLE), **options.pop("protection", {}))
    return deploy.deploy(archive, access=access, **{"yes": True, "poll": 0, **options})


def test_a_fresh_clone_without_credentials_ends_in_a_local_prediction(fresh_clone):
    outcome, printed = fresh_clone
    assert outcome.exit_code == common.EXIT_DONE and outcome.rehearsed
    assert outcome.answer["predicted_class"] in synthetic.dataset(10, 10, 10, classes=10).class_names
    assert "no AWS credentials" in printed and "a tiny model, trained now" in printed
    assert f"answers {outcome.answer['predicted_class']} with probability" in printed
    assert "next: python sagemaker_scripts/serve_local.py" in printed


@pytest.mark.long
def test_the_script_itself_rehearses_and_exits_with_0(fresh_clone, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    command = [sys.executable, str(ROOT / "sagemaker_scripts" / "deploy.py"), "--archive", str(fresh_clone[0].archive)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == common.EXIT_DONE, done.stderr
    assert "rehearsal: the same archive on http://127.0.0.1:" in done.stdout


@pytest.mark.parametrize("hardware", [hosting.Hardware("ml.m5.large"), hosting.Hardware(memory=2048)], ids=str)
def test_it_deploys_answers_and_leaves_nothing(account, archive, hardware, capsys):
    outcome = run(archive, hardware=hardware)
    assert outcome.answer == aws_rehearsal.ANSWER and outcome.exit_code == common.EXIT_DONE
    assert not outcome.rehearsed and outcome.endpoint is None
    # AWS isolates no serverless endpoint.
    assert json.loads(account.sent["CreateModel"]["body"])["EnableNetworkIsolation"] is (hardware.memory is None)
    assert account.left() == []
    printed = capsys.readouterr().out
    assert f"{hardware} costs" in printed and "nothing of it is left" in printed
    deletions = [call for call in account.calls if call.startswith("Delete")]
    assert deletions == ["DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel", "DeleteObject", "DeleteBucket"]
    to_s3 = [call for call in account.calls if call.endswith(("Bucket", "Object", "Tagging"))]
    assert {"HeadBucket", "PutObject", "DeleteObject", "DeleteBucket"} <= set(to_s3)
    for call in to_s3:
        owner = account.sent[call]["headers"].get("x-amz-expected-bucket-owner")
        # A bucket that is only made has none to be compared.
        assert owner == (None if call == "CreateBucket" else aws_rehearsal.NUMBER), call


def test_what_is_kept_is_tagged_named_and_complete(account, archive, capsys):
    outcome = run(archive, keep=2.0)
    name = outcome.endpoint
    assert name.startswith(aws.PREFIX)
    client = account.client("sagemaker")
    arns = [
        client.describe_endpoint(EndpointName=name)["EndpointArn"],
        client.describe_endpoint_config(EndpointConfigName=name)["EndpointConfigArn"],
        client.describe_model(ModelName=name)["ModelArn"],
    ]
    for arn in arns:
        assert client.list_tags(ResourceArn=arn)["Tags"] == aws.TAGS
    assert json.loads(account.sent["CreateModel"]["body"])["EnableNetworkIsolation"] is True
    container = client.describe_model(ModelName=name)["PrimaryContainer"]
    assert container["ModelDataUrl"] == f"s3://{BUCKET}/cnnlab/{name}/model.tar.gz"
    assert container["Image"].endswith("/tensorflow-inference:2.20-cpu-py312")
    printed = capsys.readouterr().out
    assert f"next: python sagemaker_scripts/test_endpoint.py --endpoint {name}" in printed
    assert "next: python sagemaker_scripts/cleanup.py --region us-east-1" in printed


def test_all_options_are_asked_for_as_given_priced_and_found_by_cleanup(account, archive, capsys):
    name = run(archive, **ALL_OF_IT).endpoint
    plan = capsys.readouterr().out
    for words in (
        "up to 3 times that",
        "no cost",
        hosting.ALARM_PRICE,
        hosting.STORAGE_PRICE,
        "20% of the requests",
    ):
        assert words in plan
    schedule = account.client("scheduler").get_schedule(Name=name)
    assert schedule["Target"]["Arn"].endswith(":sagemaker:deleteEndpoint")
    assert json.loads(schedule["Target"]["Input"]) == {"EndpointName": name}
    end = datetime.strptime(schedule["ScheduleExpression"], "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC)
    assert abs(end - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=2)
    assert schedule["ScheduleExpressionTimezone"] == "UTC"
    (alarm,) = account.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert alarm["AlarmActions"] == [TOPIC] and alarm["TreatMissingData"] == "breaching"
    assert {"Name": "EndpointName", "Value": name} in alarm["Dimensions"]
    scaling = account.client("application-autoscaling")
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)
    assert target["ResourceId"] == f"endpoint/{name}/variant/AllTraffic"
    config = json.loads(account.sent["CreateEndpointConfig"]["body"])
    assert config["ProductionVariants"][0]["InitialInstanceCount"] == 1
    assert config["DataCaptureConfig"]["InitialSamplingPercentage"] == 20
    assert config["DataCaptureConfig"]["DestinationS3Uri"] == f"s3://{BUCKET}/cnnlab/{name}/capture/"
    package = json.loads(account.sent["CreateModelPackage"]["body"])
    assert package["ModelPackageGroupName"] == name and package["ModelApprovalStatus"] == "PendingManualApproval"
    assert package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"].endswith("/model.tar.gz")
    assert cleanup.main(["--yes"]) == common.EXIT_DONE
    assert account.left() == []


def test_an_alarm_does_where_no_date_can_be_set(account, archive, capsys):
    account.fail("CreateSchedule", "denied")
    outcome = run(archive, keep=2.0, alarm=TOPIC)
    assert outcome.endpoint and outcome.exit_code == common.EXIT_DONE
    kinds = {line.split()[0] for line in account.left()}
    assert "alarm" in kinds and "schedule" not in kinds
    shown = capsys.readouterr().out
    assert "no scheduled deletion (CreateSchedule:" in shown and "kept: schedule" not in shown


def test_a_key_and_a_vpc_reach_every_call_that_takes_them(monkeypatch, archive):
    with aws_rehearsal.account(monkeypatch, fresh=True) as account:
        account.answer()
        protection = {"kms_key": KEY, **VPC}
        run(archive, protection=protection, hardware=hosting.Hardware(capture=5))
        put = account.sent["PutObject"]["headers"]
        assert put["x-amz-server-side-encryption"] == "aws:kms"
        assert put["x-amz-server-side-encryption-aws-kms-key-id"] == KEY
        model, config = (json.loads(account.sent[call]["body"]) for call in ("CreateModel", "CreateEndpointConfig"))
        assert model["VpcConfig"] == {
            "Subnets": list(VPC["subnets"]), "SecurityGroupIds": list(VPC["security_groups"])
        }  # fmt: skip
        assert config["KmsKeyId"] == config["DataCaptureConfig"]["KmsKeyId"] == KEY
        account.answer()
        # AWS takes no key for an instance with a disk of its own.
        run(archive, protection=protection, hardware=hosting.Hardware("ml.m5d.large"))
        assert "KmsKeyId" not in json.loads(account.sent["CreateEndpointConfig"]["body"])


def test_serverless_takes_as_many_at_once_as_is_said(account, archive):
    run(archive, hardware=hosting.Hardware(memory=3072, concurrency=7))
    (variant,) = json.loads(account.sent["CreateEndpointConfig"]["body"])["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 3072, "MaxConcurrency": 7}


@pytest.mark.parametrize(("memory", "megabytes"), [(None, 6), (2048, 4)])
def test_the_question_fits_whatever_the_size_of_the_models_images(memory, megabytes, account, tmp_path, capsys):
    hardware = hosting.Hardware(memory=memory)
    assert hardware.payload_bytes == megabytes * 1024**2
    archive = aws_rehearsal.bare_archive(tmp_path, (1500, 1500, 3))
    run(archive, hardware=hardware)
    assert len(account.sent["InvokeEndpoint"]["body"]) < hardware.payload_bytes / 2
    assert f"requests up to {megabytes} MB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--serverless", "--capture", "5"], "neither --scale nor --capture"),
        (["--serverless", "--scale", "1-2"], "neither --scale nor --capture"),
        (["--scale", "3-1"], "--scale is 3-1"),
        (["--scale", "1-2", "--instance", "ml.t2.medium"], "AWS does not scale ml.t2.medium"),
        (["--capture", "0"], "--capture is 0"),
        (["--max-concurrency", "201"], "expected 1 to 200"),
        (["--keep", "-1"], "--keep takes up to"),
        (["--keep", "nan"], "--keep takes up to"),
        (["--keep", "1e9"], "--keep takes up to"),
        (["--timeout", "0"], "--timeout less than a day"),
        (["--alarm", "me@example.org"], "expected the ARN of an SNS topic"),
        (["--subnets", "subnet-0a"], "both --subnets and --security-groups"),
        (["--subnets", "vpc-0a", "--security-groups", "sg-0a"], "'vpc-0a' is not an ID"),
        (["--serverless", "--subnets", "subnet-0a", "--security-groups", "sg-0a"], "cannot be in a VPC"),
        (["--kms-key", "my key"], "--kms-key is 'my key'"),
        (["--batch", "pictures", "--register"], "creates no endpoint"),
        (["--table", "answers.csv"], "--table needs --batch"),
    ],
)
def test_flags_that_cannot_be_are_refused_in_one_line(flags, words, account, archive, capsys):
    code = common.run(deploy.main, ["--archive", str(archive), "--role", "r", "--yes", *flags])
    shown = capsys.readouterr().err
    assert code == common.EXIT_BAD_ARGUMENTS and words in shown and shown.count("\n") == 1
    assert not any(call.startswith(("Create", "Put")) for call in account.calls)


@pytest.mark.parametrize("scale", ["many", "1-", "-1-3", ""])
def test_a_range_that_is_none_is_refused_with_what_was_expected(scale, capsys):
    with pytest.raises(SystemExit):
        deploy.main([f"--scale={scale}"])
    assert f"{scale!r} is not a range; expected one like 1-3" in capsys.readouterr().err


def test_a_bucket_that_was_there_stays(account, archive):
    account.client("s3").create_bucket(Bucket=BUCKET)
    run(archive)
    assert account.left() == [f"bucket {BUCKET}"]


@pytest.mark.parametrize(
    ("call", "kind"), aws_rehearsal.each_once(STEPS, ["throttled", "expired", "quota", "unreachable", "interrupted"])
)
def test_any_call_that_fails_leaves_nothing(call, kind, account, archive, rehearsed, capsys):
    account.fail(call, kind)
    with pytest.raises(KeyboardInterrupt if kind == "interrupted" else common.ScriptError) as raised:
        run(archive)
    assert call in account.calls
    assert account.left() == []
    assert not rehearsed
    if kind in aws_rehearsal.ERRORS:
        message = str(raised.value)
        assert message.startswith(f"{call}: {aws_rehearsal.ERRORS[kind][1]}") and "\n" not in message
        assert raised.value.exit_code == (common.EXIT_DENIED if kind == "expired" else common.EXIT_FAILED)


@pytest.mark.parametrize("call", STEPS)
def test_any_call_that_is_denied_leaves_nothing_and_rehearses(call, account, archive, rehearsed, capsys):
    account.fail(call, "denied")
    outcome = run(archive)
    assert account.left() == []
    assert outcome.exit_code == common.EXIT_DENIED
    assert outcome.denied.operation == call and f"denied: {call}" in capsys.readouterr().out
    assert rehearsed == [archive] and outcome.answer == {"local": True}


@pytest.mark.parametrize(
    ("call", "kind"), aws_rehearsal.each_once(OPTIONAL_STEPS, ["throttled", "expired", "unreachable", "interrupted"])
)
def test_a_step_of_an_option_that_fails_leaves_nothing(call, kind, account, archive, rehearsed):
    account.fail(call, kind)
    with pytest.raises(KeyboardInterrupt if kind == "interrupted" else common.ScriptError):
        run(archive, **ALL_OF_IT)
    assert call in account.calls
    assert account.left() == [] and not rehearsed


@pytest.mark.parametrize("call", OPTIONAL_STEPS)
def test_a_step_of_an_option_that_is_denied_keeps_only_what_is_free(call, account, archive, rehearsed, capsys):
    account.fail(call, "denied")
    outcome = run(archive, **{**ALL_OF_IT, "alarm": None if call == "CreateSchedule" else TOPIC})
    assert outcome.endpoint is None and outcome.exit_code == common.EXIT_DENIED and rehearsed == [archive]
    kinds = {line.rpartition(" ")[0] for line in account.left()}
    assert kinds <= {"model", "bucket", "object", "model package group", "model package"}
    shown = capsys.readouterr().out
    assert ("no endpoint is kept without a deletion date" in shown) == (call == "CreateSchedule")


@pytest.mark.parametrize("call", [*STEPS, *OPTIONAL_STEPS])
def test_credentials_that_expire_half_way_leave_what_is_said_and_nothing_else(call, account, archive, capsys):
    account.expire(call)
    with pytest.raises(common.DeniedError, match="expired"):
        run(archive, **ALL_OF_IT)
    named = {line.split(" (")[0].removeprefix("NOT deleted: ") for line in capsys.readouterr().out.splitlines()
             if line.startswith("NOT deleted: ") and "if there are any" not in line}  # fmt: skip
    # As `left` calls them; a package goes with its group.
    left = {line.replace("config ", "endpoint config ") for line in account.left() if "package cnn" not in line}
    assert named == {line.replace("object ", f"object {BUCKET}/") for line in left}


@pytest.mark.parametrize(
    ("call", "kind"),
    aws_rehearsal.each_once(
        ["PutObject", *CREATIONS, "CreateSchedule", "RegisterScalableTarget"], ["throttled", "interrupted"]
    ),
)
def test_what_was_made_before_its_answer_was_lost_is_deleted_too(call, kind, account, archive):
    account.fail(call, kind, after=True)
    with pytest.raises(KeyboardInterrupt if kind == "interrupted" else common.ScriptError):
        run(archive, **ALL_OF_IT)
    assert account.left() == []


def test_a_lab_uses_labrole_and_falls_back_to_the_real_local_server(account, fresh_clone, capsys):
    account.change("GetCallerIdentity", lambda answer: answer.update(Arn=aws_rehearsal.LAB_ARN))
    account.fail("CreateEndpointConfig", "denied")
    outcome = deploy.deploy(fresh_clone[0].archive, yes=True, poll=0)
    printed = capsys.readouterr().out
    assert f"arn:aws:iam::{aws_rehearsal.NUMBER}:role/LabRole" in printed and "Learner Lab" in printed
    assert "denied: CreateEndpointConfig" in printed
    assert outcome.rehearsed and outcome.answer == fresh_clone[0].answer
    assert outcome.exit_code == common.EXIT_DENIED
    assert account.left() == []


@pytest.mark.parametrize("call", ["CreateEndpointConfig", "CreateEndpoint", "InvokeEndpoint"])
def test_a_lab_keeps_what_is_allowed_and_free_when_asked_to(call, account, archive, rehearsed, capsys):
    account.fail(call, "denied")
    outcome = run(archive, keep=2.0)
    assert outcome.endpoint is None and outcome.exit_code == common.EXIT_DENIED
    assert [line.split()[0] for line in account.left()] == ["model", "bucket", "object"]
    assert capsys.readouterr().out.count("kept: ") == 3


def test_a_failed_endpoint_says_why(account, archive):
    def fail(answer):
        answer.update(EndpointStatus="Failed", FailureReason="The container did not pass the ping health check.")

    account.change("DescribeEndpoint", fail)
    with pytest.raises(
        common.ScriptError, match=r"did not pass the ping health check; .*/aws/sagemaker/Endpoints/cnnlab-"
    ):
        run(archive)
    assert account.left() == []


def test_an_endpoint_that_takes_too_long_is_waited_for_once_more_and_deleted(account, archive, monkeypatch, capsys):
    monkeypatch.setattr(resources, "BUSY_POLL_SECONDS", 0)

    def stay_creating(answer):
        # AWS refuses to delete an endpoint in this state.
        if account.calls.count("DescribeEndpoint") < 6:
            assert "DeleteEndpoint" not in account.calls
            answer.update(EndpointStatus="Creating")

    account.change("DescribeEndpoint", stay_creating)
    with pytest.raises(common.ScriptError, match="not in service after 0 minutes"):
        run(archive, timeout=0)
    assert account.left() == []
    assert account.calls.count("DescribeEndpoint") >= 6
    assert "waiting: cnnlab-" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_stop_the_deletion(account, archive, number, capsys):
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    account.change("DescribeEndpoint", lambda answer: signal.raise_signal(number))
    account.change("DeleteEndpoint", lambda answer: signal.raise_signal(number))
    with pytest.raises(KeyboardInterrupt):
        run(archive)
    assert account.left() == []
    assert "still deleting" in capsys.readouterr().out
    assert {name: signal.getsignal(name) for name in before} == before


def test_what_cannot_be_deleted_is_named(account, archive, capsys):
    account.fail("DeleteEndpoint", "denied")
    outcome = run(archive)
    assert outcome.exit_code == common.EXIT_FAILED
    assert [kind for kind, _ in outcome.left] == ["endpoint"]
    assert [line.split()[0] for line in account.left()] == ["endpoint"]
    printed = capsys.readouterr().out
    assert "NOT deleted: endpoint cnnlab-" in printed and "next: python sagemaker_scripts/cleanup.py" in printed


def lab(account):
    account.change("GetCallerIdentity", lambda answer: answer.update(Arn=aws_rehearsal.LAB_ARN))


def ended_lab(account):
    lab(account)
    account.fail("ListEndpoints", "denied")
    account.fail("ListBuckets", "denied")


def no_quota(account):
    quota = {"QuotaName": "ml.m5.large for endpoint usage", "Value": 0.0}
    account.replies["ListServiceQuotas"] = {"Quotas": [quota]}


@pytest.mark.parametrize(
    ("prepare", "options", "exit_code", "message"),
    [
        (ended_lab, {}, common.EXIT_DENIED, "the lab session has ended"),
        (lambda a: a.fail("GetCallerIdentity", "expired"), {}, common.EXIT_DENIED, "start the lab again"),
        (lambda a: None, {"role": None}, common.EXIT_BAD_ARGUMENTS, "--role"),
        (lambda a: a.fail("HeadBucket", "denied"), {}, common.EXIT_DENIED, "belongs to somebody else"),
        (no_quota, {}, common.EXIT_FAILED, "quota is 0 ml.m5.large for endpoints, and this needs 1"),
        (lambda a: None, {"archive": "nowhere.tar.gz"}, common.EXIT_BAD_ARGUMENTS, "nowhere.tar.gz is not a file"),
        (lambda a: None, {"yes": False}, common.EXIT_BAD_ARGUMENTS, "add --yes"),
    ],
)
def test_preflight_stops_with_one_line_and_makes_nothing(prepare, options, exit_code, message, account, archive):
    prepare(account)
    with pytest.raises(common.ScriptError, match=message) as raised:
        run(**{"archive": archive, **options})
    assert raised.value.exit_code == exit_code
    assert "\n" not in str(raised.value)
    assert not any(call.startswith(("Create", "Put", "Delete")) for call in account.calls)


def test_a_lab_needs_no_region_and_others_do(account, monkeypatch):
    bare = boto3.Session()
    sts = account.client("sts")
    monkeypatch.setattr(aws.Access, "session", lambda access: bare)
    monkeypatch.setattr(aws, "_everything_is_denied", lambda *_: False)
    monkeypatch.setattr(aws, "client", lambda session, service, region=None: sts)
    with pytest.raises(common.BadArgumentsError, match="no region: give --region"):
        aws.identify(aws.Access())
    lab(account)
    assert aws.identify(aws.Access()).region == aws.LAB_REGION


def test_a_region_that_cannot_be_is_a_bad_argument(capsys):
    assert common.run(deploy.main, ["--region", "moon"]) == common.EXIT_BAD_ARGUMENTS
    assert "'moon' is not a region" in capsys.readouterr().err


def test_the_plan_makes_nothing(account, archive, capsys):
    outcome = run(archive, dry_run=True, yes=False)
    assert outcome.exit_code == common.EXIT_DONE and account.left() == []
    printed = capsys.readouterr().out
    for word in ("account:  123456789012", "role:", "bucket:", "price:    ml.m5.large costs about $0.115 an hour"):
        assert word in printed


def test_an_unknown_price_is_called_unknown():
    assert "unknown" in hosting.Hardware("ml.x9.huge").price("us-east-1")
    assert "unknown" in hosting.Hardware("ml.m5.large").price("eu-west-1")


def test_an_answer_that_is_no_prediction_fails_and_leaves_nothing(account, archive):
    from moto.sagemakerruntime.models import sagemakerruntime_backends

    sagemakerruntime_backends[aws_rehearsal.NUMBER][aws_rehearsal.REGION].results_queue.clear()
    account.answer("[0.1, 0.9]")
    with pytest.raises(common.ScriptError, match="the answer is not a prediction"):
        run(archive)
    assert account.left() == []


def test_credentials_are_never_printed(archive, monkeypatch, capsys):
    secret, token = "sEcReT/" + "k" * 33, "T0kEn" + "t" * 200
    presigned = f"https://b.s3.amazonaws.com/k?X-Amz-Credential=ASIA1234567890123456&X-Amz-Signature=abc&X-Amz-Security-Token={token}"
    words = f"aws_secret_access_key={secret} at {presigned} with AKIA1234567890123456 {token}"
    monkeypatch.setitem(aws_rehearsal.ERRORS, "talkative", ("Oops", words))
    with aws_rehearsal.account(monkeypatch, fresh=True) as account:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
        account.fail("CreateModel", "talkative")
        with pytest.raises(common.ScriptError) as raised:
            run(archive)
        account.failing.clear()
        account.answer()
        run(archive)
    shown = str(raised.value) + "".join(capsys.readouterr())
    for hidden in (secret, token, "AKIA1234567890123456", "ASIA1234567890123456", "=abc"):
        assert hidden not in shown
    assert str(raised.value).startswith("CreateModel: aws_secret_access_key=<hidden>")


def test_the_life_cycle_over_http_and_cleanup_as_a_program(tmp_path, archive, monkeypatch):
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        aws_rehearsal.read_once(monkeypatch)
        rehearsal = aws_rehearsal.Rehearsal(fresh=True)
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "NO_PROXY": host,
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(aws.Access, "session", lambda access: rehearsal.session())
        rehearsal.answer()  # The server is a thread of this process and shares moto's memory.
        outcome = run(archive, keep=2.0)
        assert outcome.answer == aws_rehearsal.ANSWER
        assert f"endpoint {outcome.endpoint}" in rehearsal.left()
        command = [sys.executable, str(ROOT / "sagemaker_scripts" / "cleanup.py"), "--yes"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == common.EXIT_DONE, done.stderr
        assert f"deleted: endpoint {outcome.endpoint}" in done.stdout
        assert rehearsal.left() == []
    finally:
        server.stop()
