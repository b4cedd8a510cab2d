"""The files of a batch: what lies in a folder or below an s3:// address, and which of it can be asked about."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from sagemaker_scripts import common, preflight, reading

# Says nothing of what a file is: its first bytes do.
ANY_TYPE = "application/octet-stream"


@dataclasses.dataclass(frozen=True)
class Item:
    """One file of the source: its `name` there, its `size` in bytes, what reads it, and where it lies in S3, if so.

    `error`: why it is not even sent, or None.
    """

    name: str
    size: int
    read: Callable[[], bytes]
    source: dict | None = None
    error: str | None = None


def find(source, account=None):
    """[Item, ...] of a folder, a file, or s3://BUCKET/PREFIX in `account`.

    Raises BadArgumentsError where there is none, and what boto3 raises.
    """
    if str(source).startswith("s3://"):
        if account is None:
            raise common.BadArgumentsError(f"{source} needs AWS credentials; a local folder is rehearsed without")
        return _find_objects(str(source), account)
    root = Path(source)
    if not root.exists():
        raise common.BadArgumentsError(f"--batch {source} is neither a local folder nor an s3:// address")
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
    home = root.parent if root.is_file() else root
    names = [(file, file.relative_to(home)) for file in files]
    items = [_local(file, name.as_posix()) for file, name in names if not any(p.startswith(".") for p in name.parts)]
    if not items:
        raise common.BadArgumentsError(f"{source} holds no file")
    return items


def checked(item, shape):
    """`item` with its `error` where the handler would not take it for a picture; one in S3 is not looked into.

    `shape`: the model's (height, width, channels).
    """
    limit = min(preflight.PAYLOAD_BYTES["batch"], reading.MAX_BODY_BYTES)
    if item.size > limit:
        return dataclasses.replace(item, error=f"it has {item.size:,} bytes; expected at most {limit:,}")
    if item.source:
        return item
    try:
        reading.decode(item.read(), ANY_TYPE, shape)
    except reading.RequestError as error:
        return dataclasses.replace(item, error=str(error))
    except OSError as error:
        return dataclasses.replace(item, error=f"it cannot be read ({error.strerror or error})")
    return item


def _local(file, name):
    return Item(name, file.stat().st_size, file.read_bytes)


def _find_objects(source, account):
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    if not bucket:
        raise common.BadArgumentsError(f"{source} names no bucket; expected s3://BUCKET/PREFIX")
    client = account.client("s3")
    home = prefix[: prefix.rfind("/") + 1]

    def read(key):
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()

    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    items = [
        Item(found["Key"].removeprefix(home), found["Size"], functools.partial(read, found["Key"]),
             {"Bucket": bucket, "Key": found["Key"]})
        for page in pages
        for found in page.get("Contents", [])
        if not found["Key"].endswith("/")
    ]  # fmt: skip
    if not items:
        raise common.BadArgumentsError(f"nothing lies at {source}")
    return items
