"""A batch transform: a folder of pictures answered without an endpoint, and the answers brought home as a table."""

import concurrent.futures
import csv
import dataclasses
import functools
import json
import re
from pathlib import Path

from cnnlab.machine import atomic_file, check_writable
from sagemaker_scripts import archive as archives
from sagemaker_scripts import aws, candidates, common, preflight, resources
from sagemaker_scripts.items import ANY_TYPE, checked, find
from sagemaker_scripts.ledger import Ledger

COLUMNS = ("picture", "image", "class", "probability", "error")
TABLES = candidates.RUNS / "batch"
# Of small files, several at once: each is a request of its own.
WORKERS = 8
LOGS = "/aws/sagemaker/TransformJobs"
OVER = ("Completed", "Failed", "Stopped")
POLL_SECONDS = 15
TIMEOUT_SECONDS = 30 * 60


@dataclasses.dataclass
class Outcome(common.Outcome):
    """What became of a batch: the `table` that was written, or None; how many files were answered, and how many not."""

    table: Path | None = None
    answered: int = 0
    unread: int = 0


def transform(
    source, table=None, archive=None, model=None, region=None, profile=None, role=None, bucket=None,
    instance=preflight.ANY_CPU_INSTANCE, yes=False, dry_run=False, poll=POLL_SECONDS, timeout=TIMEOUT_SECONDS,
    protection=None,
):  # fmt: skip
    """Ask about every file in the folder `source`, or below s3://BUCKET/PREFIX, and write a CSV `table`.

    The columns are COLUMNS: the file's name in the source, the number of the image in it (from
    1), its class and that class's probability, or why there is none. Other arguments as for
    `deploy.deploy`; after `timeout` seconds the job is stopped.
    Returns an Outcome. Raises common.ScriptError with one line, and then writes no table.
    """
    aws.quieten_sdk()
    kind, path = candidates.choose(archive, model)
    session = aws.make_session(region, profile)
    name = aws.unique_name()
    table = Path(table or TABLES / f"{name}.csv")
    if table.is_dir() or not table.suffix:
        raise common.BadArgumentsError(f"--table {table} is no file; expected such as answers.csv")
    account = None
    if aws.has_credentials(session):
        account = preflight.check_account(session, role, bucket, protection)
        preflight.check_quota(account, instance, use="transform job")
    with aws.plain_errors():
        items = find(source, account)
    _print_plan(account, name, candidates.intention(kind, path), source, items, instance, timeout, table)
    if dry_run:
        print("dry run: nothing was made")
        return Outcome()
    if account and not common.confirm("Start this?", yes):
        raise common.ScriptError("not agreed; nothing was made")
    try:
        check_writable(table.parent)
    except OSError as error:
        raise common.BadArgumentsError(f"--table {table} cannot be written ({error.strerror or error})") from None
    archive = candidates.make(kind, path)
    shape = tuple(archives.read_card(archive)["input_shape"])
    items = [checked(item, shape) for item in items]
    if all(item.error for item in items):
        raise common.ScriptError(f"none of the {len(items)} files can be read; {items[0].name}: {items[0].error}")
    if account is None:
        return _rehearse(archive, items, Outcome(), table)
    outcome, ledger = Outcome(), Ledger(account)
    with aws.plain_errors(), ledger:
        try:
            _write(outcome, table, items, _run(account, ledger, name, archive, items, instance, poll, timeout))
        except Exception as error:
            outcome.denied = aws.denial(error)
            if outcome.denied is None:
                raise
            ledger.refused(error)
            print(f"denied: {outcome.denied}", flush=True)
    outcome.left = [(kind, left) for kind, left, _ in ledger.failed]
    if outcome.denied:
        with aws.plain_errors():
            return _rehearse(archive, items, outcome, table)
    if not outcome.left:
        print("nothing of it is left in the account")
    return outcome


def rows(item, body):
    """Rows of the table, tuples of COLUMNS, for the answer `body` (bytes) to one item."""
    try:
        predictions = json.loads(body)["predictions"]
        return [
            (item.name, number, answer["predicted_class"], answer["confidence"], "")
            for number, answer in enumerate(predictions, start=1)
        ]
    except (ValueError, KeyError, TypeError):
        start = bytes(body)[:80].decode(errors="replace")
        return [(item.name, "", "", "", f"the answer is no prediction: {start!r}")]


def _run(account, ledger, name, archive, items, instance, poll, timeout):
    """Rows for `items`, by a transform job; what that takes is made, and noted in the ledger."""
    client, place = account.client("s3"), f"{aws.OBJECT_PREFIX}{name}/batch/"
    sent = {number: item for number, item in enumerate(items) if not item.error}
    print(f"1/4 upload {archive} and {len(sent)} files to {account.bucket}", flush=True)
    address = resources.upload(account, ledger, archive, name)
    ledger.note("objects", f"{account.bucket}/{place}")
    _at_once(functools.partial(_put, client, account.bucket, f"{place}in/"), sent.items())
    print(f"2/4 model {name}", flush=True)
    hardware = preflight.Hardware(instance)
    resources.create_model(account, ledger, name, address, hardware)
    print("3/4 transform job; this takes some minutes, and Ctrl-C ends it cleanly", flush=True)
    largest = max(item.size for item in sent.values())
    resources.create_transform(account, ledger, name, f"{account.bucket}/{place}", instance, largest)
    sagemaker = account.client("sagemaker")
    job = resources.wait_until(
        OVER, lambda: sagemaker.describe_transform_job(TransformJobName=name), "TransformJobStatus", poll, timeout
    )
    if job is None:
        raise common.ScriptError(f"the transform job is not over after {timeout / 60:g} minutes; give --timeout more")
    print("4/4 answers", flush=True)
    answers = dict(_at_once(functools.partial(_get, client, account.bucket), _outputs(client, account.bucket, place)))
    # One file that is refused makes the job a failed one, and the others are answered all the same.
    if job["TransformJobStatus"] != "Completed" and not answers:
        raise common.ScriptError(
            f"the transform job {job['TransformJobStatus'].lower()}: {resources.failure(job)}; its log is CloudWatch's "
            f"group {LOGS}, stream {name}/..."
        )
    reasons = _reasons(account, name, place) if len(answers) < len(sent) else {}
    unknown = f"no answer; why is in CloudWatch's group {LOGS}, stream {name}/..."
    found = []
    for number, item in enumerate(items):
        if number in answers:
            found += rows(item, answers[number])
        else:
            found.append((item.name, "", "", "", item.error or reasons.get(number, unknown)))
    return found


def _rehearse(archive, items, outcome, table):
    """The same table by the archive's own handlers, on this machine."""
    from sagemaker_scripts.served import Served

    print(f"rehearsal: {archive} is started here, its own code with it; give only archives that you trust", flush=True)
    found = []
    with archives.unpacked(archive) as folder:
        served = Served(folder)
        try:
            for item in items:
                found += _answered(served, item)
        finally:
            served.close()
    outcome.rehearsed = True
    _write(outcome, table, items, found)
    return outcome


def _answered(served, item):
    if item.error:
        return [(item.name, "", "", "", item.error)]
    try:
        return rows(item, served.answer(item.read(), ANY_TYPE)[0])
    except served.inference.RequestError as error:
        return [(item.name, "", "", "", str(error))]


def _write(outcome, table, items, found):
    """Write the rows `found` to `table`, in the order of the items, and say how many there are."""
    with (
        atomic_file(table) as partial,
        # A file's name may be no text in any encoding.
        partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(found)
    failed = {row[0] for row in found if row[-1]}
    outcome.table, outcome.unread, outcome.answered = table, len(failed), len(items) - len(failed)
    print(f"{table}: {outcome.answered} of {len(items)} files answered, {outcome.unread} not", flush=True)


def _at_once(function, arguments):
    """[function(argument), ...], several at a time; the first error ends it."""
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        try:
            return list(pool.map(function, arguments))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _put(client, bucket, prefix, numbered):
    number, item = numbered
    if item.source:
        client.copy_object(Bucket=bucket, Key=f"{prefix}{number}", CopySource=item.source)
    else:
        client.put_object(Bucket=bucket, Key=f"{prefix}{number}", Body=item.read())


def _outputs(client, bucket, place):
    """{number of an item: key of its answer}; SageMaker adds .out, and may add folders."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{place}out/")
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    return {int(match[1]): key for key in keys if (match := re.search(r"(\d+)\.out$", key))}.items()


def _get(client, bucket, numbered):
    number, key = numbered
    return number, client.get_object(Bucket=bucket, Key=key)["Body"].read()


def _reasons(account, name, place):
    """{number of an item: why the container refused it}, as far as the job's log may be read.

    The log has several lines for each refused file: its status, "Message:", then what the container said.
    """
    pages = account.client("logs").get_paginator("filter_log_events").paginate(
        logGroupName=LOGS, logStreamNamePrefix=f"{name}/"
    )  # fmt: skip
    said = {}
    try:
        for event in (event for page in pages for event in page["events"]):
            if match := re.search(rf"{re.escape(place)}in/(\d+): (.*)", event["message"], re.DOTALL):
                said.setdefault(int(match[1]), []).append(match[2].strip())
    except Exception as error:
        if aws.explain(error) is None:
            raise
    return {number: _reason(lines) for number, lines in said.items()}


def _reason(lines):
    words = " ".join(lines[lines.index("Message:") + 1 :] if "Message:" in lines else lines)
    try:
        return str(json.loads(words)["error"])
    except (ValueError, KeyError, TypeError):
        return words[:300]


def _print_plan(account, name, intention, source, items, instance, timeout, table):
    size = sum(item.size for item in items)
    if account is None:
        print(f"no AWS credentials here ({aws.Kind.NO_CREDENTIALS.value}): this is a rehearsal on this machine")
    else:
        preflight.print_place(account)
    print(f"model:    {intention}")
    print(f"batch:    {len(items)} files of {source}, {size / 1e6:.1f} MB; answers to {table}")
    if account:
        price = preflight.hourly_price(instance, account.region)
        most = f"at most ${price * timeout / 3600:.2f} until --timeout" if price else "the most in all is unknown too"
        print(f"job:      {name} on {instance}, stopped after {timeout / 60:g} minutes")
        print(f"price:    {preflight.price_sentence(instance, account.region)}; {most}", flush=True)
