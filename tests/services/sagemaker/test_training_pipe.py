"""Pipe mode: objects come through named pipes while the program runs."""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

PIPE = {"InputMode": "Pipe"}
READ = """
import json, os, struct, sys
def records(data):
    found = []
    while data:
        magic, length = struct.unpack("<II", data[:8])
        assert magic == 0xCED7230A
        found.append(data[8:8 + length].decode())
        data = data[8 + length + -length % 4:]
    return found
"""


def python(text: str) -> str:
    return f"python3 - <<'END'\n{READ}\n{text}\nEND\n"


def sharded(channel: dict[str, Any]) -> dict[str, Any]:
    channel["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    return channel


def test_pipe_brings_every_epoch_until_the_reader_stops(lab: Any) -> None:
    for name in ("a", "b"):
        lab.put(f"pipe/{name}", name * 3)
    script = """
cd /opt/ml/input/data
ls
for epoch in 0 1 2; do cat train_$epoch; echo; done
head -c 1 train_3; echo; cat train_4; echo
"""
    job = lab.run_file("piped", script, InputDataConfig=[lab.channel("train", f"s3://{lab.bucket}/pipe/", **PIPE)])
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert lab.lines("piped") == ["code", "train_0", "aaabbb", "aaabbb", "aaabbb", "a", "aaabbb"]


def test_pipe_unpacks_wraps_and_reads_manifests(lab: Any) -> None:
    lab.put("wrapped/one", "1")
    lab.put("wrapped/two", "22222")
    lab.put("packed/x.gz", gzip.compress(b"packed"))
    manifest = lab.put("wrapped.manifest", json.dumps([{"prefix": f"s3://{lab.bucket}/wrapped/"}, "two", "one"]))
    channels = [
        lab.channel("plain", f"s3://{lab.bucket}/wrapped/", RecordWrapperType="RecordIO", **PIPE),
        lab.channel("listed", manifest, kind="ManifestFile", RecordWrapperType="RecordIO", **PIPE),
        lab.channel("packed", f"s3://{lab.bucket}/packed/", CompressionType="Gzip", RecordWrapperType="RecordIO", **PIPE),
    ]
    text = "for name in ('plain', 'listed', 'packed'): print(records(open(f'/opt/ml/input/data/{name}_0', 'rb').read()))"
    job = lab.run_file("wrapped", python(text), InputDataConfig=channels)
    assert job["TrainingJobStatus"] == "Completed", lab.lines("wrapped")
    assert lab.lines("wrapped") == ["['1', '22222']", "['22222', '1']", "['packed']"]


def test_pipe_augmented_manifest(lab: Any) -> None:
    lab.put("images/0.png", "first")
    lab.put("images/1.png", "second")
    lines = [
        {"source-ref": f"s3://{lab.bucket}/images/{number}.png", "box": {"n": number}, "name": f"n{number}", "other": 1}
        for number in (0, 1)
    ]
    manifest = lab.put("augmented.manifest", "\n".join(map(json.dumps, lines)))
    channel = lab.channel("train", manifest, kind="AugmentedManifestFile", RecordWrapperType="RecordIO", **PIPE)
    channel["DataSource"]["S3DataSource"]["AttributeNames"] = ["source-ref", "box", "name"]
    text = "print(records(open('/opt/ml/input/data/train_0', 'rb').read()))"
    lab.run_file("augmented", python(text), InputDataConfig=[channel])
    assert lab.lines("augmented") == [str(["first", '{"n": 0}', "n0", "second", '{"n": 1}', "n1"])]
    missing = lab.put("bad.manifest", '{"a": 1}\n')
    channel["DataSource"]["S3DataSource"]["S3Uri"] = missing
    job = lab.run_file("augmented-bad", python(text), InputDataConfig=[channel])
    assert job["FailureReason"] == (
        f"ClientError: Data download failed:A line of the manifest {missing} has no attribute source-ref."
    )


def test_pipe_shuffles_each_epoch_anew(lab: Any) -> None:
    for number in range(8):
        lab.put(f"order/{number}", str(number))
    channel = lab.channel("train", f"s3://{lab.bucket}/order/", ShuffleConfig={"Seed": 7}, **PIPE)
    script = "cd /opt/ml/input/data; for epoch in 0 1 2; do cat train_$epoch; echo; done"
    for name in ("shuffled", "shuffled-again"):
        lab.run_file(name, script, InputDataConfig=[channel])
    lines = lab.lines("shuffled")
    assert all(sorted(line) == list("01234567") for line in lines)
    assert len({*lines, "01234567"}) == 4
    assert lab.lines("shuffled-again") == lines


def test_pipe_shards_over_hosts(lab: Any) -> None:
    for number in range(5):
        lab.put(f"piped-shards/{number}", str(number))
    lines = lab.put("piped.manifest", "\n".join(json.dumps({"n": str(number)}) for number in range(4)))
    augmented = sharded(lab.channel("lines", lines, kind="AugmentedManifestFile", **PIPE))
    augmented["DataSource"]["S3DataSource"]["AttributeNames"] = ["n"]
    channels = [sharded(lab.channel("train", f"s3://{lab.bucket}/piped-shards/", **PIPE)), augmented]
    script = "cd /opt/ml/input/data; echo $(cat train_0) $(cat lines_0)"
    two = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}
    lab.run_file("piped-pair", script, InputDataConfig=channels, ResourceConfig=two)
    assert sorted(lab.lines("piped-pair")) == ["024 02", "13 13"]


def test_pipe_that_breaks_fails_the_job(lab: Any) -> None:
    lab.put("gone/a", "x" * 10)
    script = "aws=1; cat /opt/ml/input/data/train_0 > /dev/null; touch /tmp/go; cat /opt/ml/input/data/train_1; sleep 60"
    # What is not gzip cannot be unpacked.
    channel = lab.channel("train", f"s3://{lab.bucket}/gone/", CompressionType="Gzip", **PIPE)
    job = lab.run_file("broken-pipe", script, InputDataConfig=[channel])
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith(
        f"ClientError: Data download failed:Failed to stream the data of s3://{lab.bucket}/gone/"
    )


def test_long_records_come_in_parts() -> None:
    from pilvi.jobs import pipes

    most, pipes._MOST_IN_A_RECORD = pipes._MOST_IN_A_RECORD, 11
    try:
        data = b"".join(pipes.recordio(iter((b"abcdefghi", b"jklmnopqrstuvwxyz")), 26))
    finally:
        pipes._MOST_IN_A_RECORD = most
    found, flags = b"", []
    while data:
        magic, word = struct.unpack("<II", data[:8])
        assert magic == 0xCED7230A
        flags.append(word >> 29)
        length = word & (1 << 29) - 1
        found += data[8 : 8 + length]
        data = data[8 + length + -length % 4 :]
    assert (found, flags) == (b"abcdefghijklmnopqrstuvwxyz", [1, 2, 2, 3])
