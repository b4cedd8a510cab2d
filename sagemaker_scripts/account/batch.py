"""A batch transform: a folder of pictures classified without an endpoint, and the answers saved as a table."""

import concurrent.futures
import contextlib
import csv
import dataclasses
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path

from cnnlab.machine import atomic_file, check_writable
from cnnlab.wording import plural
from sagemaker_scripts import aws, common, errors, reading
from sagemaker_scripts.account import hosting
from sagemaker_scripts.account import ledger as ledgers
from sagemaker_scripts.resources import UNFINISHED, listed_objects, wait_while
from sagemaker_scripts.serving import archive as archives

COLUMNS = ("picture", "image", "class", "probability", "error")
TABLES = Path("runs") / "batch"
# Small files are transferred several at once: each is a request of its own.
WORKERS = 8
LOGS = "/aws/sagemaker/TransformJobs"
POLL_SECONDS = 15
TIMEOUT_SECONDS = 30 * 60


@dataclasses.dataclass
class Outcome(ledgers.Outcome):
    """The result of a batch: the `table` that was written, or None; how many files were answered, and how many not."""

    table: Path | None = None
    answered: int = 0
    unread: int = 0


@dataclasses.dataclass(frozen=True)
class Item:
    """One file of the source: its `name` there, its `size` in bytes, how to `read` it, and its `source` in S3, if any.

    `error`: why it is not even sent, or None.
    """

    name: str
    size: int
    read: Callable[[], bytes]
    source: dict | None = None
    error: str | None = None

    def checked(self, shape):
        """This item, with its `error` if the handler would refuse it; of a file in S3 only the size is checked.

        `shape`: the model's (height, width, channels).
        """
        limit = min(hosting.PAYLOAD_BYTES["batch"], reading.MAX_BODY_BYTES)
        error = f"it has {self.size:,} bytes; expected at most {limit:,}" if self.size > limit else None
        if not (error or self.source):
            try:
                reading.decode(self.read(), hosting.ANY_TYPE, shape)
            except reading.RequestError as refused:
                error = str(refused)
            except OSError as failed:
                error = f"it cannot be read ({failed.strerror or failed})"
        return dataclasses.replace(self, error=error)


def find(source, account=None):
    """[Item, ...] of a folder, a file, or s3://BUCKET/PREFIX in `account`.

    Raises BadArgumentsError if there are none, and whatever boto3 raises.
    """
    if str(source).startswith("s3://"):
        if account is None:
            raise common.BadArgumentsError(f"{source} needs AWS credentials; a local folder is rehearsed without them")
        return _find_objects(str(source), account.client("s3"))
    if not Path(source).exists():
        raise common.BadArgumentsError(f"--batch {source} is neither a local folder nor an s3:// address")
    root, files = common.visible_files(Path(source))
    items = [Item(file.relative_to(root).as_posix(), file.stat().st_size, file.read_bytes) for file in files]
    if not items:
        raise common.BadArgumentsError(f"--batch {source} holds no files; expected pictures")
    return items


def _find_objects(source, client):
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    if not bucket:
        raise common.BadArgumentsError(f"{source} names no bucket; expected s3://BUCKET/PREFIX")
    home = prefix[: prefix.rfind("/") + 1]
    items = [
        Item(key.removeprefix(home), size, functools.partial(_get, client, bucket, key), {"Bucket": bucket, "Key": key})
        for key, size in listed_objects(client, bucket, prefix)
        if not key.endswith("/")
    ]
    if not items:
        raise common.BadArgumentsError(f"there is nothing at {source}; expected pictures")
    return items


def transform(
    source, table, candidate, access=None, instance=hosting.ANY_CPU_INSTANCE, yes=False, dry_run=False,
    poll=POLL_SECONDS, timeout=TIMEOUT_SECONDS,
):  # fmt: skip
    """Ask `candidate` about every file in the folder `source`, or under s3://BUCKET/PREFIX, and write a CSV `table`.

    The columns are COLUMNS: the file's name in the source, the number of the image in it (from 1), its class and that
    class's probability, or why there is none. `table`: a path, or None for one under TABLES; `candidate`: a
    `deploy.Candidate`. Other arguments as in `deploy.deploy`; after `timeout` seconds the job is stopped.
    Returns an Outcome. Raises common.ScriptError with one line, and then writes no table.
    """
    aws.quieten_sdk()
    access, name = access or aws.Access(), aws.unique_name()
    table = Path(table or TABLES / f"{name}.csv")
    if table.is_dir() or not table.suffix:
        raise common.BadArgumentsError(f"--table {table} is not a file name; expected one such as answers.csv")
    account = aws.check_account(access) if aws.has_credentials(access.session()) else None
    if account:
        hosting.check_quota(account, instance, use="transform job")
    with errors.plain_errors():
        items = find(source, account)
    _print_plan(account, name, candidate, source, items, instance, timeout, table)
    if dry_run:
        print("dry run: nothing was created")
        return Outcome()
    if account:
        common.confirm("Start this?", yes)
    try:
        check_writable(table.parent)
    except OSError as error:
        raise common.BadArgumentsError(f"--table {table} cannot be written ({error.strerror or error})") from None
    archive = candidate.make()
    shape = tuple(archives.read_card(archive)["input_shape"])
    items = [item.checked(shape) for item in items]
    if all(item.error for item in items):
        raise common.ScriptError(f"none of {plural(len(items), 'file')} can be read; {items[0].name}: {items[0].error}")
    outcome = Outcome()
    if account:
        with errors.plain_errors(), ledgers.Ledger(account) as ledger, ledger.falling_back():
            _write(outcome, table, items, _run(ledger, name, archive, items, instance, poll, timeout))
        outcome.denied, outcome.left = ledger.denied, ledger.left
    if account is None or outcome.denied:
        with errors.plain_errors():
            _rehearse(archive, items, outcome, table)
    elif not outcome.left:
        print("nothing of it is left in the account")
    return outcome


def rows(item, body):
    """Rows of the table, tuples of COLUMNS, from the answer `body` (bytes) for one item."""
    try:
        found = enumerate(json.loads(body)["predictions"], start=1)
        return [(item.name, number, answer["predicted_class"], answer["confidence"], "") for number, answer in found]
    except (ValueError, KeyError, TypeError):
        start = bytes(body)[:80].decode(errors="replace")
        return [(item.name, "", "", "", f"the answer is not a prediction: {start!r}")]


def _run(ledger, name, archive, items, instance, poll, timeout):
    """Rows for `items`, from a transform job; everything created for it is noted in the ledger."""
    account, place = ledger.account, f"{aws.OBJECT_PREFIX}{name}/batch/"
    client, bucket, sagemaker = account.client("s3"), account.bucket, account.client("sagemaker")
    sent = {number: item for number, item in enumerate(items) if not item.error}
    print(f"1/4 upload {archive} and {plural(len(sent), 'file')} to {bucket}", flush=True)
    address = ledger.upload(archive, name)
    ledger.note("objects", f"{bucket}/{place}")

    def put(number):
        if source := sent[number].source:
            client.copy_object(Bucket=bucket, Key=f"{place}in/{number}", CopySource=source)
        else:
            client.put_object(Bucket=bucket, Key=f"{place}in/{number}", Body=sent[number].read())

    _at_once(put, sent)
    print(f"2/4 model {name}", flush=True)
    hosting.create_model(ledger, name, address, hosting.Hardware(instance))
    print("3/4 transform job; this takes some minutes, and Ctrl-C ends it cleanly", flush=True)
    hosting.create_transform(ledger, name, f"{bucket}/{place}", instance, max(item.size for item in sent.values()))
    job = wait_while(
        UNFINISHED, lambda: sagemaker.describe_transform_job(TransformJobName=name), "TransformJobStatus", poll, timeout
    )
    if job is None:
        raise common.ScriptError(f"the transform job is not over after {timeout / 60:g} minutes; raise --timeout")
    print("4/4 answers", flush=True)
    # SageMaker adds .out, and may add folders.
    listed = listed_objects(client, bucket, f"{place}out/")
    keys = {int(match[1]): key for key, _ in listed if (match := re.search(r"(\d+)\.out$", key))}
    answers = dict(zip(keys, _at_once(lambda key: _get(client, bucket, key), keys.values()), strict=True))
    # A single refused file makes the job a failed one; the others are answered all the same.
    if job["TransformJobStatus"] != "Completed" and not answers:
        raise common.ScriptError(
            f"the transform job {job['TransformJobStatus'].lower()}: {errors.failure(job)}; see its log in CloudWatch, "
            f"group {LOGS}, stream {name}/..."
        )
    reasons = _reasons(account, name, place) if len(answers) < len(sent) else {}
    unknown = f"no answer; the reason is in CloudWatch, group {LOGS}, stream {name}/..."
    found = []
    for number, item in enumerate(items):
        if number in answers:
            found += rows(item, answers[number])
        else:
            found += [(item.name, "", "", "", item.error or reasons.get(number, unknown))]
    return found


def _rehearse(archive, items, outcome, table):
    """Write the same table with the archive's own handlers, on this machine."""
    from sagemaker_scripts.serving.served import Served

    print(f"rehearsal: this starts {archive} here and runs its code; give only archives that you trust", flush=True)
    with archives.unpacked(archive) as folder, contextlib.closing(Served(folder)) as served:
        found = [row for item in items for row in _answered(served, item)]
    outcome.rehearsed = True
    _write(outcome, table, items, found)


def _answered(served, item):
    if item.error:
        return [(item.name, "", "", "", item.error)]
    try:
        return rows(item, served.answer(item.read(), hosting.ANY_TYPE)[0])
    except served.inference.RequestError as error:
        return [(item.name, "", "", "", str(error))]


def _write(outcome, table, items, found):
    """Write the rows `found` to `table`, in the order of the items, and say how many there are."""
    with (
        atomic_file(table) as partial,
        # A file's name need not be text in any encoding.
        partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(found)
    failed = {row[0] for row in found if row[-1]}
    outcome.table, outcome.unread, outcome.answered = table, len(failed), len(items) - len(failed)
    print(f"{table}: {outcome.answered} of {plural(len(items), 'file')} answered, {outcome.unread} not", flush=True)


def _at_once(function, arguments):
    """[function(argument), ...], several at a time; the first error stops the rest."""
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        try:
            return list(pool.map(function, arguments))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _get(client, bucket, key):
    return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def _reasons(account, name, place):
    """{number of an item: why the container refused it}, as far as the job's log may be read.

    The log has several lines for each refused file: its status, "Message:", then the container's message.
    """
    pages = account.client("logs").get_paginator("filter_log_events")
    pages, said = pages.paginate(logGroupName=LOGS, logStreamNamePrefix=f"{name}/"), {}
    try:
        for event in (event for page in pages for event in page["events"]):
            if match := re.search(rf"{re.escape(place)}in/(\d+): (.*)", event["message"], re.DOTALL):
                said.setdefault(int(match[1]), []).append(match[2].strip())
    except Exception as error:
        if errors.explain(error) is None:
            raise
    return {number: _reason(lines) for number, lines in said.items()}


def _reason(lines):
    words = " ".join(lines[lines.index("Message:") + 1 :] if "Message:" in lines else lines)
    try:
        return str(json.loads(words)["error"])
    except (ValueError, KeyError, TypeError):
        return words[:300]


def _print_plan(account, name, candidate, source, items, instance, timeout, table):
    size = sum(item.size for item in items)
    if account is None:
        print(f"no AWS credentials here ({errors.Kind.NO_CREDENTIALS.value}): this is a rehearsal on this machine")
    else:
        account.print_place()
    print(f"model:    {candidate}")
    print(f"batch:    {plural(len(items), 'file')} of {source}, {size / 1e6:.1f} MB; answers to {table}")
    if account:
        print(f"job:      {name} on {instance}, stopped after {timeout / 60:g} minutes")
        print(f"price:    {hosting.price(instance, account.region, timeout / 3600, 'until --timeout')}", flush=True)
