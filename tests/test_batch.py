"""deploy.py --batch in an account in memory, whose transform jobs answer by the archive's own handlers."""

import csv
import json
import signal

import aws_rehearsal
import numpy as np
import packed
import pytest

from sagemaker_scripts import aws, common, deploy, resources
from sagemaker_scripts.account import batch, hosting, ledger

BUCKET = f"sagemaker-{aws_rehearsal.REGION}-{aws_rehearsal.NUMBER}"
STEPS = (
    "CreateBucket", "PutBucketTagging", "PutObject", "CreateModel", "CreateTransformJob", "DescribeTransformJob",
    "ListObjectsV2", "GetObject",
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    return packed.tiny()


@pytest.fixture(scope="module")
def model(tiny):
    return packed.loaded()


@pytest.fixture
def account(monkeypatch, tiny, model):
    def answer(body, content_type):
        try:
            decoded = tiny.handlers.input_fn(body, content_type)
            return 200, tiny.handlers.output_fn(tiny.handlers.predict_fn(decoded, model), "application/json")[0]
        except tiny.handlers.RequestError as error:
            return error.status_code, json.dumps(error.to_dict()).encode()

    with aws_rehearsal.account(monkeypatch) as rehearsal:
        rehearsal.container = answer
        yield rehearsal


@pytest.fixture
def pictures(tmp_path, tiny):
    """A folder of what people have: pictures of several kinds, deeper folders, and what is none."""
    folder = tmp_path / "holiday"
    (folder / "day 2").mkdir(parents=True)
    (folder / "a.png").write_bytes(packed.picture(tiny.images[0]))
    (folder / "day 2" / "a.png").write_bytes(packed.picture(tiny.images[1]))
    (folder / "day 2" / 'ümlaut, "quoted".jpg').write_bytes(packed.picture(tiny.images[2], "JPEG"))
    (folder / "two.npy").write_bytes(packed.npy(np.stack(tiny.images[3:5])))
    (folder / "notes.txt").write_text("not a picture")
    (folder / "empty.png").touch()
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    return folder


@pytest.fixture
def rehearsed(monkeypatch):
    calls = []
    monkeypatch.setattr(batch, "_rehearse", lambda archive, found, outcome, table: calls.append(table) or outcome)
    return calls


def run(tiny, source, table, **options):
    access = aws.Access(role=aws_rehearsal.ROLE, kms_key=options.pop("kms_key", None))
    return batch.transform(source, table, deploy.Candidate(tiny.archive), access, **{"yes": True, "poll": 0, **options})


def read(table):
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected(tiny, *indices):
    """(class, probability) of test images, by Keras itself."""
    found = packed.straight(tiny.images[list(indices)])
    return [(tiny.dataset.class_names[row.argmax()], row.max()) for row in found]


def check_holiday(table, tiny):
    rows = read(table)
    by_name = {(row["picture"], row["image"]): row for row in rows}
    assert len(rows) == len(by_name) == 7
    cells = [("a.png", "1"), ("day 2/a.png", "1"), ("two.npy", "1"), ("two.npy", "2")]
    for key, (name, probability) in zip(cells, expected(tiny, 0, 1, 3, 4), strict=True):
        assert by_name[key]["class"] == name and not by_name[key]["error"]
        assert float(by_name[key]["probability"]) == pytest.approx(probability, abs=1e-5)
    assert by_name['day 2/ümlaut, "quoted".jpg', "1"]["class"]
    assert "content type" in by_name["notes.txt", ""]["error"]
    assert "empty" in by_name["empty.png", ""]["error"]


def test_a_folder_comes_home_as_a_table_and_leaves_nothing(account, tiny, pictures, tmp_path, capsys):
    outcome = run(tiny, pictures, tmp_path / "out" / "answers.csv")
    assert outcome.exit_code == common.EXIT_DONE and (outcome.answered, outcome.unread) == (4, 2)
    check_holiday(outcome.table, tiny)
    assert account.left() == []
    shown = capsys.readouterr().out
    assert "ml.m5.large costs about $0.115 an hour" in shown and "at most $0.06 until --timeout" in shown
    assert "nothing of it is left" in shown
    # What is not a picture is not sent, and not paid for; SageMaker may give the limits.
    job = json.loads(account.sent["CreateTransformJob"]["body"])
    assert job["MaxPayloadInMB"] * job["MaxConcurrentTransforms"] <= 100
    assert account.calls.count("PutObject") == 1 + 4
    assert "Endpoint" not in "".join(account.calls)


def test_without_an_account_the_same_table_is_made_here(tiny, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(aws, "has_credentials", lambda session: False)
    outcome = run(tiny, pictures, tmp_path / "answers.csv")
    assert outcome.rehearsed and outcome.exit_code == common.EXIT_DONE
    check_holiday(outcome.table, tiny)
    assert "no AWS credentials" in capsys.readouterr().out


def test_what_only_the_container_finds_out_is_in_the_table_by_the_jobs_log(account, tiny, tmp_path):
    """Objects in S3 are copied there unseen, and a job of which one fails is a failed one."""
    s3 = account.client("s3")
    s3.create_bucket(Bucket="holidays")
    good = packed.picture(tiny.images[0])
    for name, body in {"b/1.png": good, "b/cut.png": good[:-20], "b/deep/2.txt": b"hello", "c/3.png": good}.items():
        s3.put_object(Bucket="holidays", Key=name, Body=body)
    s3.put_object(Bucket="holidays", Key="b/deep/", Body=b"")
    outcome = run(tiny, "s3://holidays/b/", tmp_path / "answers.csv")
    rows = {row["picture"]: row for row in read(outcome.table)}
    assert set(rows) == {"1.png", "cut.png", "deep/2.txt"}
    assert rows["1.png"]["class"] == expected(tiny, 0)[0][0]
    for name in ("cut.png", "deep/2.txt"):
        asked = s3.get_object(Bucket="holidays", Key=f"b/{name}")["Body"].read()
        assert rows[name]["error"] == json.loads(account.container(asked, hosting.ANY_TYPE)[1])["error"]
    assert account.sent["CopyObject"]["headers"]["x-amz-source-expected-bucket-owner"] == aws_rehearsal.NUMBER
    assert [
        line for line in account.left() if "holidays" not in line and not line.startswith(("object b/", "object c/"))
    ] == []


def test_a_log_that_may_not_be_read_leaves_where_it_is(account, tiny, tmp_path):
    s3 = account.client("s3")
    s3.create_bucket(Bucket="holidays")
    s3.put_object(Bucket="holidays", Key="a.png", Body=packed.picture(tiny.images[0]))
    s3.put_object(Bucket="holidays", Key="b.png", Body=b"no")
    account.fail("FilterLogEvents", "denied")
    rows = read(run(tiny, "s3://holidays", tmp_path / "answers.csv").table)
    assert [bool(row["class"]) for row in rows] == [True, False]
    assert "/aws/sagemaker/TransformJobs" in rows[1]["error"]


def test_a_job_that_answers_nothing_says_why_and_writes_no_table(account, tiny, pictures, tmp_path):
    account.container = lambda body, kind: (503, b"no SavedModel bundles found!")
    with pytest.raises(common.ScriptError, match="the transform job failed: AlgorithmError"):
        run(tiny, pictures, tmp_path / "answers.csv")
    assert account.left() == [] and not (tmp_path / "answers.csv").exists()


@pytest.mark.parametrize(
    ("call", "kind"), aws_rehearsal.each_once(STEPS, ["throttled", "expired", "quota", "unreachable", "interrupted"])
)
def test_any_call_that_fails_leaves_nothing(call, kind, account, tiny, pictures, tmp_path):
    account.fail(call, kind)
    # What fails to be listed is not to be found by the deletion either.
    account.changes = {}
    with pytest.raises(KeyboardInterrupt if kind == "interrupted" else common.ScriptError):
        run(tiny, pictures, tmp_path / "answers.csv")
    assert call in account.calls and not (tmp_path / "answers.csv").exists()
    kept = {"object", "bucket"} if call == "ListObjectsV2" and kind != "interrupted" else set()
    assert {line.split()[0] for line in account.left()} <= kept


@pytest.mark.parametrize("call", STEPS[:6])
def test_any_call_that_is_denied_leaves_nothing_and_rehearses(
    call, account, tiny, pictures, tmp_path, rehearsed, capsys
):
    account.fail(call, "denied")
    outcome = run(tiny, pictures, tmp_path / "answers.csv")
    assert outcome.exit_code == common.EXIT_DENIED and outcome.denied.operation == call
    assert rehearsed == [tmp_path / "answers.csv"] and account.left() == []


@pytest.mark.parametrize("kind", ["throttled", "interrupted"])
@pytest.mark.parametrize("call", ["PutObject", "CreateModel", "CreateTransformJob"])
def test_what_was_made_before_its_answer_was_lost_is_deleted_too(call, kind, account, tiny, pictures, tmp_path):
    account.fail(call, kind, after=True)
    with pytest.raises(KeyboardInterrupt if kind == "interrupted" else common.ScriptError):
        run(tiny, pictures, tmp_path / "answers.csv")
    assert account.left() == []


def running(account, monkeypatch, on_wait):
    """The job runs until it is stopped, and `on_wait()` is called while it is waited for."""
    monkeypatch.setattr(resources, "BUSY_POLL_SECONDS", 0)

    def go_on(answer):
        if "StopTransformJob" not in account.calls:
            answer["TransformJobStatus"] = "InProgress"
            on_wait()
        elif account.calls.count("DescribeTransformJob") < 5:
            answer["TransformJobStatus"] = "Stopping"

    account.change("DescribeTransformJob", go_on)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_running_job_is_stopped_before_its_files_go(number, account, tiny, pictures, tmp_path, monkeypatch, capsys):
    running(
        account, monkeypatch, lambda: account.calls.count("DescribeTransformJob") == 1 and signal.raise_signal(number)
    )
    with pytest.raises(KeyboardInterrupt):
        run(tiny, pictures, tmp_path / "answers.csv")
    ends = [call for call in account.calls if call.startswith(("Stop", "Delete"))]
    assert ends == ["StopTransformJob", "DeleteModel", "DeleteObjects", "DeleteObject", "DeleteBucket"]
    assert account.left() == [] and "stopped: transform job cnnlab-" in capsys.readouterr().out


def test_a_job_that_takes_too_long_is_stopped(account, tiny, pictures, tmp_path, monkeypatch):
    running(account, monkeypatch, lambda: None)
    with pytest.raises(common.ScriptError, match="not over after 0 minutes"):
        run(tiny, pictures, tmp_path / "answers.csv", timeout=0)
    assert "StopTransformJob" in account.calls and account.left() == []


@pytest.mark.parametrize("call", STEPS)
def test_credentials_that_expire_half_way_leave_what_is_said(call, account, tiny, pictures, tmp_path, capsys):
    account.expire(call)
    with pytest.raises(common.DeniedError, match="expired"):
        run(tiny, pictures, tmp_path / "answers.csv")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOT deleted: ")]
    named = {line.split(" (")[0].removeprefix("NOT deleted: ") for line in lines}
    sure = {line for line in named if "if there are any" not in line}
    # In memory a job is over at once; here nobody may look whether it is.
    sure -= {line for line in sure if line.startswith("transform job") and call != "CreateTransformJob"}
    assert sure == {line.replace("object ", f"object {BUCKET}/") for line in account.left() if "/batch/" not in line}


def test_a_key_reaches_the_job(monkeypatch, account, tiny, pictures, tmp_path):
    with aws_rehearsal.account(monkeypatch, fresh=True) as fresh:
        fresh.container = account.container
        run(tiny, pictures, tmp_path / "answers.csv", kms_key="1234abcd")
        job = json.loads(fresh.sent["CreateTransformJob"]["body"])
        assert job["TransformOutput"]["KmsKeyId"] == job["TransformResources"]["VolumeKmsKeyId"] == "1234abcd"


@pytest.mark.parametrize(("size", "largest"), [(1, 100), (1024**2, 100), (1024**2 + 1, 100), (100 * 1024**2, 100)])
def test_payload_and_concurrency_stay_within_the_services_limit(size, largest, account):
    with_role = aws.check_account(aws.Access(role=aws_rehearsal.ROLE))
    account.container = None
    hosting.create_transform(ledger.Ledger(with_role), "cnnlab-a", "b/p/", "ml.m5.large", size)
    job = json.loads(account.sent["CreateTransformJob"]["body"])
    assert job["MaxPayloadInMB"] * 1024**2 >= size
    assert 1 <= job["MaxConcurrentTransforms"] * job["MaxPayloadInMB"] <= largest


def empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty", {}


def only_text(folder):
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("hello")
    return folder / "texts", {}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (empty, "holds no file"),
        (only_text, "none of 1 file can be read; a.txt:"),
        (lambda folder: (folder / "nowhere", {}), "neither a local folder nor an s3:// address"),
        (lambda folder: ("s3://", {}), "names no bucket"),
        (lambda folder: (folder, {"table": folder}), "is not a file name"),
        (lambda folder: (f"s3://{BUCKET}/nothing", {}), "there is nothing at"),
        (lambda folder: ("s3://not-there/x", {}), "NoSuchBucket|does not exist"),
    ],
)
def test_bad_sources_are_refused_in_one_line_and_nothing_is_made(make, words, account, tiny, tmp_path):
    account.client("s3").create_bucket(Bucket=BUCKET)
    before = account.left()
    source, options = make(tmp_path)
    with pytest.raises(common.ScriptError, match=words) as raised:
        run(tiny, source, **{"table": tmp_path / "answers.csv", **options})
    assert "\n" not in str(raised.value)
    assert account.left() == before


def test_the_plan_makes_nothing_and_a_file_that_is_too_large_is_named(account, tiny, pictures, tmp_path, capsys):
    arguments = ["--archive", str(tiny.archive), "--role", "r", "--batch", str(pictures), "--dry-run"]
    assert deploy.main(arguments) == common.EXIT_DONE
    assert "6 files of" in capsys.readouterr().out and account.left() == []
    large = batch.Item("large.png", 200 * 1024**2, lambda: b"")
    assert "expected at most" in large.checked((8, 8, 3)).error
