"""Batch transform: every object gets its .out; splitting, batches, assembling, filters and joins; what fails is named."""

from __future__ import annotations

import gzip
import itertools
import json
import struct
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import eventually
from tests.services.sagemaker_runtime.conftest import SCRIPT, Desk

ECHO = """\
def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    if "bad" in str(body):
        raise ValueError("a bad record")
    return f"<{len(body)}>", "text/plain"
"""
_numbers = itertools.count(730000000001)
_names = (f"job-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def desk(server: Any) -> Desk:
    made = Desk(server.account(str(next(_numbers))))
    made.model("times")
    made.model("echo", script=ECHO)
    return made


def request(desk: Desk, prefix: str, model: str = "times", **changes: Any) -> dict[str, Any]:
    source = {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{desk.bucket}/{prefix}"}},
        "ContentType": "text/csv",
        "SplitType": "Line",
        **changes.pop("source", {}),
    }
    output = {
        "S3OutputPath": f"s3://{desk.bucket}/out/{prefix}",
        "AssembleWith": "Line",
        "Accept": "text/csv",
        **changes.pop("output", {}),
    }
    return {
        "TransformJobName": next(_names),
        "ModelName": model,
        "TransformInput": source,
        "TransformOutput": output,
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **changes,
    }


def ended(desk: Desk, name: str) -> Mapping[str, Any]:
    def there() -> Any:
        found = desk.sagemaker.describe_transform_job(TransformJobName=name)
        return found if found["TransformJobStatus"] in ("Completed", "Failed", "Stopped") else None

    found: Mapping[str, Any] = eventually(there, within_s=60)
    return found


def run(desk: Desk, prefix: str, *args: Any, **changes: Any) -> Mapping[str, Any]:
    wanted = request(desk, prefix, *args, **changes)
    desk.sagemaker.create_transform_job(**wanted)
    return ended(desk, wanted["TransformJobName"])


def test_create_transform_job_writes_an_output_for_every_object(desk: Desk) -> None:
    for name in ("a.csv", "deep/b.csv"):
        desk.put(f"many/{name}", "".join(f"{number},1\n" for number in range(1000)))
    found = run(desk, "many/", MaxPayloadInMB=1)
    assert found["TransformJobStatus"] == "Completed", found
    assert desk.keys("out/many/") == ["out/many/a.csv.out", "out/many/deep/b.csv.out"]
    expected = [2.0 * (number + 1) for number in range(1000)]
    assert [float(line) for line in desk.get("out/many/a.csv.out").split()] == expected
    assert (found["ModelName"], found["TransformResources"]["InstanceCount"]) == ("times", 1)
    assert found["TransformEndTime"] >= found["TransformStartTime"]


def test_create_transform_job_sends_single_records(desk: Desk) -> None:
    desk.put("single/x.txt", "one\nthree\n\nfive\n")
    found = run(desk, "single/", "echo", BatchStrategy="SingleRecord", output={"Accept": "text/plain"}, MaxConcurrentTransforms=2)
    assert found["TransformJobStatus"] == "Completed", found
    assert desk.get("out/single/x.txt.out") == b"<3>\n<5>\n<4>\n"


def test_create_transform_job_without_split_or_assembly(desk: Desk) -> None:
    desk.put("whole/x.txt", "one\nthree\n")
    found = run(desk, "whole/x.txt", "echo", source={"SplitType": "None"}, output={"AssembleWith": "None"})
    assert found["TransformJobStatus"] == "Completed", found
    assert desk.get("out/whole/x.txt/x.txt.out") == b"<10>"


def test_create_transform_job_filters_and_joins_csv(desk: Desk) -> None:
    desk.put("join/x.csv", 'id-1,1,2\n"id,2",3,4\n')
    processing = {"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}
    found = run(desk, "join/", DataProcessing=processing)
    assert found["TransformJobStatus"] == "Completed", found
    assert desk.get("out/join/x.csv.out") == b'id-1,6.0\n"id,2",14.0\n'


def test_create_transform_job_filters_and_joins_json_lines(desk: Desk) -> None:
    desk.put("lines/x.jsonl", '{"id": 1, "features": [1, 2]}\n{"id": 2, "features": [3, 4]}\n')
    script = SCRIPT + "\n\ndef input_fn(body, content_type):\n    return [json.loads(line) for line in body.splitlines()]\n\n"
    script += "def output_fn(prediction, accept):\n    return ''.join(json.dumps({'score': one}) + '\\n' for one in prediction)\n"
    desk.model("lines", script=script)
    types = {"source": {"ContentType": "application/jsonlines"}, "output": {"Accept": "application/jsonlines"}}
    processing = {"InputFilter": "$.features", "JoinSource": "Input", "OutputFilter": "$['id','SageMakerOutput']"}
    found = run(desk, "lines/", "lines", DataProcessing=processing, **types)
    assert found["TransformJobStatus"] == "Completed", found
    assert [json.loads(line) for line in desk.get("out/lines/x.jsonl.out").splitlines()] == [
        {"id": 1, "SageMakerOutput": {"score": 6.0}},
        {"id": 2, "SageMakerOutput": {"score": 14.0}},
    ]


def test_create_transform_job_reads_gzip_manifests_and_recordio(desk: Desk) -> None:
    packed = gzip.compress(b"1,2\n")
    desk.s3.put_object(Bucket=desk.bucket, Key="packed/x.csv", Body=packed)
    desk.put("packed/manifest", json.dumps([{"prefix": f"s3://{desk.bucket}/packed/"}, "x.csv"]))
    s3 = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{desk.bucket}/packed/manifest"}
    found = run(desk, "packed/", source={"CompressionType": "Gzip", "DataSource": {"S3DataSource": s3}})
    assert found["TransformJobStatus"] == "Completed", found
    assert desk.get("out/packed/x.csv.out") == b"6.0\n"
    record = struct.pack("<II", 0xCED7230A, 5) + b"hello\0\0\0"
    desk.s3.put_object(Bucket=desk.bucket, Key="recordio/x.rec", Body=record * 3)
    kind = {"SplitType": "RecordIO", "ContentType": "application/x-recordio-protobuf"}
    found = run(desk, "recordio/", "echo", source=kind, BatchStrategy="SingleRecord", output={"AssembleWith": "None"})
    assert found["TransformJobStatus"] == "Completed", found
    assert desk.get("out/recordio/x.rec.out") == b"<16><16><16>"


def test_create_transform_job_leads_records_through_a_row_of_containers(desk: Desk) -> None:
    add = "def model_fn(folder):\n    return None\n\ndef predict_fn(data, model):\n    return [[value + 1 for value in row] for row in data]\n"
    last = desk.container("row-last", 10.0)
    desk.sagemaker.create_model(
        ModelName="row", Containers=[desk.container("row-first", script=add), last], ExecutionRoleArn=desk.role
    )
    desk.put("row/x.json", "[[1], [2]]")
    whole = {"source": {"ContentType": "application/json", "SplitType": "None"}, "output": {"Accept": "application/json"}}
    found = run(desk, "row/", "row", **whole)
    assert found["TransformJobStatus"] == "Completed", found
    assert json.loads(desk.get("out/row/x.json.out")) == [20.0, 30.0]


def test_create_transform_job_names_the_file_that_fails(desk: Desk) -> None:
    desk.put("partly/good.txt", "fine\n")
    desk.put("partly/wrong.txt", "bad\n")
    found = run(desk, "partly/", "echo", ModelClientConfig={"InvocationsMaxRetries": 0})
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"].startswith(
        "ClientError: 1 of the input files could not be transformed: wrong.txt: Bad HTTP status"
    )
    assert "a bad record" in found["FailureReason"]
    assert desk.keys("out/partly/") == ["out/partly/good.txt.out"]


def test_create_transform_job_tells_that_the_model_does_not_load(desk: Desk) -> None:
    desk.model("unloadable", script="def model_fn(model_dir):\n    raise ValueError('not today')\n")
    desk.put("never/x.csv", "1\n")
    found = run(desk, "never/", "unloadable")
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("AlgorithmError: The primary container ended with exit status 1")


def test_stop_transform_job_and_list_transform_jobs(desk: Desk) -> None:
    desk.put("slow/x.json", '{"sleep": 60}')
    wanted = request(
        desk, "slow/", source={"ContentType": "application/json", "SplitType": "None"}, output={"AssembleWith": "None"}
    )
    name = wanted["TransformJobName"]
    desk.sagemaker.create_transform_job(**wanted)
    with pytest.raises(ClientError, match="already exists"):
        desk.sagemaker.create_transform_job(**wanted)
    eventually(lambda: "TransformStartTime" in desk.sagemaker.describe_transform_job(TransformJobName=name))
    desk.sagemaker.stop_transform_job(TransformJobName=name)
    assert ended(desk, name)["TransformJobStatus"] == "Stopped"
    listed = desk.sagemaker.list_transform_jobs(StatusEquals="Stopped")["TransformJobSummaries"]
    assert [entry["TransformJobName"] for entry in listed] == [name]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ModelName": "nobody"}, "Could not find model"),
        ({"BatchStrategy": "MultiRecord", "source": {"SplitType": "None"}}, "BatchStrategy MultiRecord requires"),
        ({"MaxPayloadInMB": 50, "MaxConcurrentTransforms": 3}, "must not be larger than 100 MB"),
        ({"DataProcessing": {"JoinSource": "Input"}, "output": {"AssembleWith": "None"}}, "must be the same"),
        ({"DataProcessing": {"InputFilter": "x"}}, "must be a JSONPath"),
    ],
)
def test_create_transform_job_refuses(desk: Desk, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words) as failure:
        desk.sagemaker.create_transform_job(**request(desk, "refused/", **changes))
    assert failure.value.response["Error"]["Code"] == "ValidationException"


def test_describe_transform_job_without_one(desk: Desk) -> None:
    with pytest.raises(ClientError, match="Could not find requested job with name: nobody"):
        desk.sagemaker.describe_transform_job(TransformJobName="nobody")
