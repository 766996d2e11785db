"""Copy uploads to a second bucket: a story told by boto3 alone, against AWS or whatever AWS_ENDPOINT_URL names.

    eval "$(pilvi env)"; python demo/uploads/copy_uploads.py [--layer pillow.zip]

The function copies what is uploaded under in/ with the suffix .txt; another makes thumbnails of pictures (--layer: a Lambda layer with
Pillow for Python 3.11); the lesson's own code fails where everybody sees it; and one that answers uploads with uploads is stopped.
"""

from __future__ import annotations

import argparse
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import boto3

sys.path.insert(0, str(Path(__file__).parent.parent))

from uploads.cloud import Cloud, eventually, on_objects, say

ROUNDS = 16
"""Source: Lambda developer guide, "Use Lambda recursive loop detection to prevent infinite loops"."""


def copies(cloud: Cloud) -> dict[str, tuple[str, str]]:
    """Only what matches is copied; gives the ETags of each key there and here."""
    s3, source, target = cloud.client("s3"), f"uploads-{cloud.account}", f"copies-{cloud.account}"
    for bucket in (source, target):
        s3.create_bucket(Bucket=bucket)
    role = cloud.role("copies", on_objects(source, "GetObject"), on_objects(target, "PutObject"))
    arn = cloud.function("copy-uploads", role, "copy_handler.py", {"DESTINATION": target})
    cloud.starts(source, (arn, "in/", ".txt"))
    for key in ("in/wrong suffix.csv", "elsewhere/wrong prefix.txt", "in/a name with blanks & ünïcode+.txt", "in/plain.txt"):
        s3.put_object(Bucket=source, Key=key, Body=key.encode() * 1000)
    wanted = ["in/a name with blanks & ünïcode+.txt", "in/plain.txt"]
    eventually(lambda: cloud.keys(target) == wanted)
    say("copied", cloud.keys(target))
    etags = {key: tuple(s3.head_object(Bucket=where, Key=key)["ETag"] for where in (source, target)) for key in cloud.keys(target)}
    say("the ETags are", "the same" if all(there == here for there, here in etags.values()) else "DIFFERENT")
    return etags


def thumbnail(cloud: Cloud, layer: bytes) -> tuple[bytes, bytes]:
    """A picture and what became of it."""
    s3, bucket = cloud.client("s3"), f"pictures-{cloud.account}"
    s3.create_bucket(Bucket=bucket)
    pillow = cloud.client("lambda").publish_layer_version(
        LayerName="pillow", Content={"ZipFile": layer}, CompatibleRuntimes=["python3.11"]
    )["LayerVersionArn"]
    role = cloud.role("thumbnails", on_objects(bucket, "GetObject", "PutObject"))
    arn = cloud.function("thumbnail", role, "thumbnail_handler.py", Layers=[pillow])
    cloud.starts(bucket, (arn, "pictures/", ".png"))
    picture = png(640, 480)
    s3.put_object(Bucket=bucket, Key="pictures/rainbow.png", Body=picture, ContentType="image/png")
    eventually(lambda: "thumbnails/rainbow.png" in cloud.keys(bucket))
    small: bytes = s3.get_object(Bucket=bucket, Key="thumbnails/rainbow.png")["Body"].read()
    say(
        "a picture of",
        size_of(picture),
        "and",
        len(picture),
        "bytes has a thumbnail of",
        size_of(small),
        "and",
        len(small),
        "bytes",
    )
    return picture, small


def given_code(cloud: Cloud) -> tuple[list[str], float]:
    """The lesson's code: what its log says, and the metric Errors."""
    s3, bucket = cloud.client("s3"), f"given-{cloud.account}"
    s3.create_bucket(Bucket=bucket)
    arn = cloud.function("given", cloud.role("given"), "given_handler.py")
    cloud.client("lambda").put_function_event_invoke_config(FunctionName="given", MaximumRetryAttempts=0)
    cloud.starts(bucket, (arn, "", ".txt"))
    s3.put_object(Bucket=bucket, Key="a.txt", Body=b"x")
    trace = eventually(lambda: cloud.lines("given", "KeyError"))
    errors = cloud.metric("given", "Errors")
    say("the log says", repr(trace[0].splitlines()[0]), "and the metric Errors is", errors)
    return trace, errors


def loop(cloud: Cloud) -> tuple[int, float]:
    """How often a function ran that loops over its own bucket, and the metric of what was dropped: once, as there is one chain."""
    s3, bucket = cloud.client("s3"), f"circle-{cloud.account}"
    s3.create_bucket(Bucket=bucket)
    arn = cloud.function("looping", cloud.role("looping", on_objects(bucket, "GetObject", "PutObject")), "looping_handler.py")
    cloud.client("lambda").put_function_recursion_config(FunctionName="looping", RecursiveLoop="Terminate")
    cloud.starts(bucket, (arn, "", ""))
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    eventually(lambda: len(cloud.keys(bucket)) > ROUNDS)
    dropped = cloud.metric("looping", "RecursiveInvocationsDropped")
    runs = len(cloud.keys(bucket)) - 1
    say("the loop was cut after", runs, "runs; RecursiveInvocationsDropped is", dropped)
    return runs, dropped


def png(width: int, height: int) -> bytes:
    """A picture, without a library."""
    rows = b"".join(
        b"\0" + b"".join(bytes((x * 255 // width, y * 255 // height, (x * y) % 256)) for x in range(width)) for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def size_of(picture: bytes) -> tuple[int, int]:
    """Width and height of a PNG that is whole; SystemExit for one that is not."""
    if picture[:8] != b"\x89PNG\r\n\x1a\n":
        raise SystemExit("this is no PNG")
    at, pixels, size = 8, b"", (0, 0)
    while at < len(picture):
        length, kind = struct.unpack(">I4s", picture[at : at + 8])
        data = picture[at + 8 : at + 8 + length]
        if zlib.crc32(kind + data) != struct.unpack(">I", picture[at + 8 + length : at + 12 + length])[0]:
            raise SystemExit("this PNG is damaged")
        if kind == b"IHDR":
            size = struct.unpack(">II", data[:8])
        pixels += data if kind == b"IDAT" else b""
        at += length + 12
    if len(zlib.decompress(pixels)) != size[1] * (1 + 3 * size[0]):
        raise SystemExit("this PNG is not whole")
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", type=Path, help="a layer zip with Pillow")
    options = parser.parse_args()
    made: dict[str, Any] = {}
    cloud = Cloud(lambda name: made.get(name) or made.setdefault(name, boto3.client(name)))
    copies(cloud)
    if options.layer:
        thumbnail(cloud, options.layer.read_bytes())
    given_code(cloud)
    loop(cloud)


if __name__ == "__main__":
    main()
