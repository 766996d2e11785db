"""Batch Operations jobs: what they do to objects, what they report, how they wait, fail and are cancelled."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import itertools
import json
import threading
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer, eventually
from tests.services.s3.conftest import refused

SERVICE = "batchoperations.s3.amazonaws.com"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "lambda:*"], "Resource": "*"}]}
TAG = {"S3PutObjectTagging": {"TagSet": [{"Key": "done", "Value": "yes"}]}}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def aws(server: TestServer) -> Account:
    return server.account("310000000001")


@pytest.fixture(scope="module")
def role(aws: Account) -> str:
    return aws.role("batch", SERVICE, EVERYTHING)


@pytest.fixture
def s3(aws: Account) -> Any:
    return aws.client("s3")


@pytest.fixture
def control(aws: Account, reach: Callable[..., Any]) -> Any:
    return reach(aws, "s3control")


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"batch-{next(_numbers)}-310000000001"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def begin(aws: Account, control: Any, s3: Any, role: str, bucket: str) -> Callable[..., str]:
    """`begin(["a", "b"], TAG)`: puts a manifest of these keys and makes a job; gives its id."""

    def make(keys: list[str], operation: Mapping[str, Any], **more: Any) -> str:
        return str(control.create_job(**parameters(keys, operation, **more))["JobId"])

    def parameters(keys: list[str], operation: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        text = "".join(f"{bucket},{key}\n" for key in keys)
        name = f"manifests/{next(_numbers)}.csv"
        etag = s3.put_object(Bucket=bucket, Key=name, Body=text.encode())["ETag"]
        return {
            "AccountId": aws.account,
            "Operation": operation,
            "Manifest": {
                "Spec": {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key"]},
                "Location": {"ObjectArn": f"arn:aws:s3:::{bucket}/{name}", "ETag": etag},
            },
            "Report": {
                "Bucket": f"arn:aws:s3:::{bucket}",
                "Format": "Report_CSV_20180820",
                "Enabled": True,
                "Prefix": "reports",
                "ReportScope": "AllTasks",
            },
            "Priority": 10,
            "RoleArn": role,
            "ClientRequestToken": f"token-{next(_numbers)}",
            "ConfirmationRequired": False,
            **more,
        }

    make.parameters = parameters  # type: ignore[attr-defined]
    return make


@pytest.fixture
def ended(aws: Account, control: Any) -> Callable[[str], dict[str, Any]]:
    """`ended(id)`: the job, once it has come to its end."""

    def wait(id: str, *statuses: str) -> dict[str, Any]:
        wanted = statuses or ("Complete", "Failed", "Cancelled")

        def look() -> dict[str, Any] | None:
            job = control.describe_job(AccountId=aws.account, JobId=id)["Job"]
            return dict(job) if job["Status"] in wanted else None

        return eventually(look, within_s=60)

    return wait


def report_of(s3: Any, bucket: str, id: str) -> list[list[str]]:
    folder = f"reports/job-{id}"
    text = s3.get_object(Bucket=bucket, Key=f"{folder}/manifest.json")["Body"].read()
    assert s3.get_object(Bucket=bucket, Key=f"{folder}/manifest.json.md5")["Body"].read().decode() == hashlib.md5(text).hexdigest()
    lines: list[list[str]] = []
    for result in json.loads(text)["Results"]:
        part = s3.get_object(Bucket=result["Bucket"], Key=result["Key"])["Body"].read()
        assert hashlib.md5(part).hexdigest() == result["MD5Checksum"]
        lines += csv.reader(io.StringIO(part.decode()))
    return lines


def test_create_job_tags_every_object_and_reports(s3: Any, bucket: str, begin: Any, ended: Any) -> None:
    for key in ("a", "b c", "d"):
        s3.put_object(Bucket=bucket, Key=key)
    id = begin(["a", "b+c", "d", "missing"], TAG, Description="four")
    job = ended(id)
    assert job["Status"] == "Complete"
    assert job["ProgressSummary"]["TotalNumberOfTasks"] == 4
    assert (job["ProgressSummary"]["NumberOfTasksSucceeded"], job["ProgressSummary"]["NumberOfTasksFailed"]) == (3, 1)
    assert job["JobArn"] == f"arn:aws:s3:us-east-1:310000000001:job/{id}"
    assert s3.get_object_tagging(Bucket=bucket, Key="b c")["TagSet"] == [{"Key": "done", "Value": "yes"}]
    lines = report_of(s3, bucket, id)
    assert [bucket, "b+c", "", "succeeded", "200", "", "Successful"] in lines
    assert [bucket, "missing", "", "failed", "404", "NoSuchKey", "The specified key does not exist."] in lines


def test_create_job_does_each_operation(aws: Account, s3: Any, bucket: str, begin: Any, ended: Any) -> None:
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    s3.put_object(Bucket=bucket, Key="cold", Body=b"x", StorageClass="GLACIER")
    s3.put_object(Bucket=bucket, Key="warm", Body=b"x", Tagging="a=b", Metadata={"m": "1"})
    target = f"copies-{bucket}"
    s3.create_bucket(Bucket=target, ObjectLockEnabledForBucket=True)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    copy = {
        "TargetResource": f"arn:aws:s3:::{target}",
        "TargetKeyPrefix": "in",
        "StorageClass": "STANDARD_IA",
        "NewObjectTagging": [{"Key": "new", "Value": "1 2"}],
    }
    canned = {"AccessControlPolicy": {"CannedAccessControlList": "bucket-owner-full-control"}}
    assert ended(begin(["warm"], {"S3PutObjectCopy": copy}))["ProgressSummary"]["NumberOfTasksSucceeded"] == 1
    found = s3.head_object(Bucket=target, Key="in/warm")
    assert (found["StorageClass"], found["Metadata"]) == ("STANDARD_IA", {"m": "1"})
    assert s3.get_object_tagging(Bucket=target, Key="in/warm")["TagSet"] == [{"Key": "new", "Value": "1 2"}]
    jobs = [
        begin(["warm"], {"S3DeleteObjectTagging": {}}),
        begin(["warm"], {"S3PutObjectAcl": canned}),
        begin(["cold"], {"S3InitiateRestoreObject": {"ExpirationInDays": 3, "GlacierJobTier": "BULK"}}),
    ]
    assert [ended(id)["ProgressSummary"]["NumberOfTasksSucceeded"] for id in jobs] == [1, 1, 1]
    assert s3.get_object_tagging(Bucket=bucket, Key="warm")["TagSet"] == []
    assert s3.head_object(Bucket=bucket, Key="cold")["Restore"] == 'ongoing-request="true"'
    locked = f"{target},in/warm\n".encode()
    place = {"Location": {"ObjectArn": f"arn:aws:s3:::{bucket}/locks.csv"}}
    etag = s3.put_object(Bucket=bucket, Key="locks.csv", Body=locked)["ETag"]
    spec = {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key"]}
    manifest = {"Spec": spec, "Location": {**place["Location"], "ETag": etag}}
    retention = {"Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": until}}
    jobs = [
        begin([], {"S3PutObjectRetention": retention}, Manifest=manifest),
        begin([], {"S3PutObjectLegalHold": {"LegalHold": {"Status": "ON"}}}, Manifest=manifest),
    ]
    assert [ended(id)["ProgressSummary"]["NumberOfTasksSucceeded"] for id in jobs] == [1, 1]
    found = s3.head_object(Bucket=target, Key="in/warm")
    assert (found["ObjectLockMode"], found["ObjectLockRetainUntilDate"], found["ObjectLockLegalHoldStatus"]) == (
        "GOVERNANCE",
        until,
        "ON",
    )


def test_create_job_replicates_existing_objects(aws: Account, s3: Any, bucket: str, begin: Any, ended: Any) -> None:
    target = f"replicas-{bucket}"
    s3.create_bucket(Bucket=target)
    for name in (bucket, target):
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key="in/old", Body=b"12345")["VersionId"]
    s3.put_object(Bucket=bucket, Key="out", Body=b"1")
    early = ended(begin(["in/old"], {"S3ReplicateObject": {}}))
    assert early["ProgressSummary"]["NumberOfTasksFailed"] == 1
    rule = {
        "ID": "in",
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {"Prefix": "in/"},
        "DeleteMarkerReplication": {"Status": "Disabled"},
        "Destination": {"Bucket": f"arn:aws:s3:::{target}"},
    }
    replicator = aws.role(f"replicator-{bucket}", "s3.amazonaws.com", EVERYTHING)
    s3.put_bucket_replication(Bucket=bucket, ReplicationConfiguration={"Role": replicator, "Rules": [rule]})
    id = begin(["in/old", "out"], {"S3ReplicateObject": {}})
    assert ended(id)["ProgressSummary"]["NumberOfTasksSucceeded"] == 1
    assert s3.get_object(Bucket=target, Key="in/old", VersionId=version)["Body"].read() == b"12345"
    assert s3.head_object(Bucket=bucket, Key="in/old")["ReplicationStatus"] == "COMPLETED"
    assert [line[1] for line in report_of(s3, bucket, id) if line[3] == "failed"] == ["out"]


FUNCTION = """
def handler(event, context):
    task = event["tasks"][0]
    key = task["s3Key"]
    code = "PermanentFailure" if key == "bad" else "Succeeded"
    text = event["invocationSchemaVersion"] + " " + task.get("s3Bucket", task.get("s3BucketArn"))
    text += str(event["job"].get("userArguments"))
    result = {"taskId": task["taskId"], "resultCode": code, "resultString": text}
    return {"invocationSchemaVersion": "1.0", "treatMissingKeysAs": "PermanentFailure",
            "invocationId": event["invocationId"], "results": [result]}
"""


def test_create_job_invokes_a_function(aws: Account, s3: Any, bucket: str, begin: Any, ended: Any) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("f.py", FUNCTION)
    arn = aws.client("lambda").create_function(
        FunctionName="per-object",
        Runtime="python3.11",
        Role=aws.role("worker", "lambda.amazonaws.com"),
        Handler="f.handler",
        Code={"ZipFile": packed.getvalue()},
    )["FunctionArn"]
    aws.client("lambda").get_waiter("function_active_v2").wait(FunctionName="per-object")
    old = begin(["good", "bad"], {"LambdaInvoke": {"FunctionArn": arn}})
    new = begin(["x"], {"LambdaInvoke": {"FunctionArn": arn, "InvocationSchemaVersion": "2.0", "UserArguments": {"k": "v"}}})
    assert ended(old)["ProgressSummary"]["NumberOfTasksFailed"] == 1
    lines = report_of(s3, bucket, old)
    assert [bucket, "good", "", "succeeded", "200", "", f"1.0 arn:aws:s3:::{bucket}None"] in lines
    assert [bucket, "bad", "", "failed", "200", "PermanentFailure", f"1.0 arn:aws:s3:::{bucket}None"] in lines
    ended(new)
    assert report_of(s3, bucket, new)[0][6] == f"2.0 {bucket}{{'k': 'v'}}"


def test_create_job_generates_its_manifest(control: Any, s3: Any, bucket: str, begin: Any, ended: Any) -> None:
    for key in ("in/a.txt", "in/b.bin", "out/c.txt"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"12345")
    generator = {
        "SourceBucket": f"arn:aws:s3:::{bucket}",
        "Filter": {"KeyNameConstraint": {"MatchAnyPrefix": ["in/"], "MatchAnySuffix": [".txt"]}, "ObjectSizeGreaterThanBytes": 4},
        "EnableManifestOutput": True,
        "ManifestOutputLocation": {
            "Bucket": f"arn:aws:s3:::{bucket}",
            "ManifestPrefix": "made",
            "ManifestFormat": "S3InventoryReport_CSV_20211130",
        },
    }
    given = begin.parameters([], TAG, ManifestGenerator={"S3JobManifestGenerator": generator})
    del given["Manifest"]
    job = ended(control.create_job(**given)["JobId"])
    assert job["ProgressSummary"]["NumberOfTasksSucceeded"] == 1
    assert s3.get_object_tagging(Bucket=bucket, Key="in/a.txt")["TagSet"]
    location = job["GeneratedManifestDescriptor"]["Location"]
    again = {"Spec": {"Format": "S3InventoryReport_CSV_20161130"}, "Location": location}
    assert ended(begin([], {"S3DeleteObjectTagging": {}}, Manifest=again))["ProgressSummary"]["NumberOfTasksSucceeded"] == 1


def test_create_job_reports_failed_tasks_only(s3: Any, bucket: str, begin: Any, ended: Any) -> None:
    s3.put_object(Bucket=bucket, Key="a")
    report = {**begin.parameters([], TAG)["Report"], "ReportScope": "FailedTasksOnly"}
    id = begin(["a", "missing"], TAG, Report=report)
    ended(id)
    assert [line[1] for line in report_of(s3, bucket, id)] == ["missing"]


def test_update_job_status_confirms_and_cancels(aws: Account, control: Any, s3: Any, bucket: str, begin: Any, ended: Any) -> None:
    s3.put_object(Bucket=bucket, Key="a")
    first, second = (begin(["a"], TAG, ConfirmationRequired=True) for _ in range(2))
    assert ended(first, "Suspended")["SuspendedCause"] == "Awaiting confirmation"
    assert s3.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == []
    ended(second, "Suspended")
    update = control.update_job_status
    assert update(AccountId=aws.account, JobId=first, RequestedJobStatus="Ready")["Status"] == "Ready"
    assert ended(first)["Status"] == "Complete"
    update(AccountId=aws.account, JobId=second, RequestedJobStatus="Cancelled", StatusUpdateReason="no more")
    assert ended(second)["StatusUpdateReason"] == "no more"
    for status in ("Ready", "Cancelled"):
        assert refused(update, AccountId=aws.account, JobId=second, RequestedJobStatus=status)["Code"] == "JobStatusException"
    assert refused(control.update_job_priority, AccountId=aws.account, JobId=second, Priority=1)["Code"] == "JobStatusException"


def test_update_job_priority_lets_a_job_wait_for_another(
    aws: Account, control: Any, bucket: str, begin: Any, ended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pilvi.services.s3control.job_run as running

    goes_on = threading.Event()
    started: list[str] = []
    real = running.perform

    async def slow(ctx: Any, job: Any, *task: Any) -> Any:
        started.append(job["JobId"])
        while job["Priority"] > 1 and not goes_on.is_set():
            await asyncio.sleep(0.02)
        return await real(ctx, job, *task)

    monkeypatch.setattr(running, "perform", slow)
    high = begin(["a"], TAG, Priority=50, Report={"Enabled": False})
    eventually(lambda: high in started)
    low = begin(["a"], TAG, Priority=1, Report={"Enabled": False})
    ended(low, "Paused")
    assert low not in started
    goes_on.set()
    assert [ended(id)["Status"] for id in (high, low)] == ["Complete", "Complete"]


def test_update_job_priority_changes_it(aws: Account, control: Any, begin: Any, ended: Any) -> None:
    id = begin(["a"], TAG, ConfirmationRequired=True)
    ended(id, "Suspended")
    assert control.update_job_priority(AccountId=aws.account, JobId=id, Priority=99)["Priority"] == 99
    assert ended(id, "Suspended")["Priority"] == 99
    missing = refused(control.update_job_priority, AccountId=aws.account, JobId="none-at-all", Priority=1)
    assert (missing["Code"], missing["Status"]) == ("NotFoundException", 404)


def test_create_job_fails_with_its_reason(aws: Account, control: Any, s3: Any, bucket: str, begin: Any, ended: Any) -> None:
    def reason(keys: list[str], **more: Any) -> str:
        job = ended(begin(keys, TAG, **more))
        assert job["Status"] == "Failed"
        return str(job["FailureReasons"][0]["FailureCode"])

    given = begin.parameters(["a"], TAG)["Manifest"]
    wrong = {**given, "Location": {**given["Location"], "ETag": "0" * 32}}
    assert reason(["a"], Manifest=wrong) == "ManifestETagMismatch"
    missing = {**given, "Location": {**given["Location"], "ObjectArn": f"arn:aws:s3:::{bucket}/nowhere"}}
    assert reason(["a"], Manifest=missing) == "NoSuchKey"
    assert reason([]) == "ManifestEmpty"
    assert reason(["a,b"]) == "ManifestInvalid"
    assert reason([f"a\nother,{bucket}"]) == "ManifestInvalid"
    stranger = aws.role(f"stranger-{bucket}", "ec2.amazonaws.com", EVERYTHING)
    assert ended(begin(["a"], TAG, RoleArn=stranger))["Status"] == "Failed"
    weak = aws.role(
        f"weak-{bucket}", SERVICE, {**EVERYTHING, "Statement": [{**EVERYTHING["Statement"][0], "Action": "s3:GetObject"}]}
    )
    s3.put_object(Bucket=bucket, Key="a")
    report = {"Enabled": False}
    job = ended(begin(["a"], TAG, RoleArn=weak, Report=report))
    assert (job["Status"], job["ProgressSummary"]["NumberOfTasksFailed"]) == ("Complete", 1)


def test_create_job_fails_when_most_tasks_fail(begin: Any, ended: Any) -> None:
    job = ended(begin([f"missing{number}" for number in range(1500)], TAG, Report={"Enabled": False}))
    assert job["Status"] == "Failed"
    assert job["ProgressSummary"]["NumberOfTasksFailed"] == 1000
    assert job["FailureReasons"]


def test_create_job_refuses_bad_requests(aws: Account, control: Any, reach: Any, begin: Any) -> None:
    def code(**changes: Any) -> str:
        given = {**begin.parameters(["a"], TAG), **changes}
        return str(refused(control.create_job, **{name: value for name, value in given.items() if value is not None})["Code"])

    assert code(Operation={}) == "InvalidRequest"
    assert code(Operation={**TAG, "S3DeleteObjectTagging": {}}) == "InvalidRequest"
    assert code(Operation={"S3ComputeObjectChecksum": {}}) == "NotImplemented"
    assert code(Operation={"LambdaInvoke": {}}) == "InvalidRequest"
    assert code(Operation={"LambdaInvoke": {"FunctionArn": "f", "UserArguments": {"a": "b"}}}) == "InvalidRequest"
    assert code(Operation={"LambdaInvoke": {"FunctionArn": "f", "InvocationSchemaVersion": "9"}}) == "InvalidRequest"
    assert code(Operation={"S3PutObjectCopy": {}}) == "InvalidRequest"
    assert code(Operation={"S3InitiateRestoreObject": {}}) == "InvalidRequest"
    assert code(Operation={"S3PutObjectTagging": {"TagSet": [{"Key": "a", "Value": "b"}] * 2}}) == "InvalidTag"
    assert code(Manifest=None) == "InvalidRequest"
    assert code(Report={"Enabled": True}) == "InvalidRequest"
    manifest = begin.parameters(["a"], TAG)["Manifest"]
    assert code(Manifest={**manifest, "Spec": {**manifest["Spec"], "Fields": ["Key"]}}) == "InvalidRequest"
    assert code(Manifest={**manifest, "Spec": {**manifest["Spec"], "Fields": ["Bucket", "Key", "Key"]}}) == "InvalidRequest"
    assert code(Manifest={**manifest, "Spec": {"Format": "S3InventoryReport_CSV_20161130", "Fields": ["Key"]}}) == "InvalidRequest"
    generator = {"SourceBucket": "arn:aws:s3:::b", "EnableManifestOutput": True}
    assert code(Manifest=None, ManifestGenerator={"S3JobManifestGenerator": generator}) == "InvalidRequest"
    eligible = {**generator, "EnableManifestOutput": False, "Filter": {"EligibleForReplication": True}}
    assert code(Manifest=None, ManifestGenerator={"S3JobManifestGenerator": eligible}) == "NotImplemented"
    user = aws.user("no-passing", {**EVERYTHING, "Statement": [{**EVERYTHING["Statement"][0], "Action": "s3:*"}]})
    assert refused(reach(user, "s3control").create_job, **begin.parameters(["a"], TAG))["Code"] == "AccessDenied"


def test_describe_job_knows_only_the_callers_jobs(new_account: Callable[[], Account], reach: Any, control: Any, begin: Any) -> None:
    id = begin(["a"], TAG, ConfirmationRequired=True)
    stranger = new_account()
    foreign = reach(stranger, "s3control")
    assert refused(foreign.describe_job, AccountId=stranger.account, JobId=id)["Code"] == "NotFoundException"
    assert refused(foreign.describe_job, AccountId="310000000001", JobId=id)["Code"] == "AccessDenied"
    for call, more in ((foreign.update_job_status, {"RequestedJobStatus": "Ready"}), (foreign.put_job_tagging, {"Tags": []})):
        assert refused(call, AccountId=stranger.account, JobId=id, **more)["Status"] == 404


def test_jobs_that_nobody_confirms_fail_and_are_forgotten(
    begin: Any, control: Any, ended: Any, server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilvi.services.s3control import job_run

    id = begin(["a"], TAG, ConfirmationRequired=True)
    ended(id, "Suspended")
    monkeypatch.setattr(job_run, "SUSPENDED_S", -1)
    job_run.sweep(server.cloud)
    assert ended(id)["FailureReasons"][0]["FailureCode"] == "JobConfirmationExpired"
    monkeypatch.setattr(job_run, "KEPT_S", -1)
    job_run.sweep(server.cloud)
    assert refused(control.describe_job, AccountId="310000000001", JobId=id)["Code"] == "NotFoundException"


def test_create_job_knows_its_token_again(aws: Account, control: Any, begin: Any) -> None:
    given = {**begin.parameters(["a"], TAG, ConfirmationRequired=True), "ClientRequestToken": "once"}
    id = control.create_job(**given)["JobId"]
    assert control.create_job(**given)["JobId"] == id
    assert refused(control.create_job, **{**given, "Priority": 11})["Code"] == "IdempotencyException"


def test_list_jobs_pages_newest_first(
    new_account: Callable[[], Account], reach: Any, aws: Account, control: Any, begin: Any, ended: Any
) -> None:
    ids = {begin(["a"], TAG, ConfirmationRequired=True, Priority=77) for _ in range(3)}
    for id in ids:
        ended(id, "Suspended")
    seen: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = control.list_jobs(AccountId=aws.account, JobStatuses=["Suspended"], MaxResults=2, **more)
        seen += [job["JobId"] for job in page["Jobs"] if job["Priority"] == 77]
        if "NextToken" not in page:
            break
        more = {"NextToken": page["NextToken"]}
    assert set(seen) == ids
    assert page["Jobs"][0]["Operation"] == "S3PutObjectTagging"
    assert refused(control.list_jobs, AccountId=aws.account, NextToken="strange")["Code"] == "InvalidNextTokenException"
    assert refused(control.list_jobs, AccountId=aws.account, MaxResults=2000)["Code"] == "InvalidRequest"
    stranger = new_account()
    assert reach(stranger, "s3control").list_jobs(AccountId=stranger.account)["Jobs"] == []


def test_put_job_tagging_replaces_tags(aws: Account, control: Any, begin: Any) -> None:
    id = begin(["a"], TAG, ConfirmationRequired=True, Tags=[{"Key": "x", "Value": "1"}])
    place = {"AccountId": aws.account, "JobId": id}
    assert control.get_job_tagging(**place)["Tags"] == [{"Key": "x", "Value": "1"}]
    control.put_job_tagging(**place, Tags=[{"Key": "y", "Value": "2"}])
    assert control.get_job_tagging(**place)["Tags"] == [{"Key": "y", "Value": "2"}]
    many = [{"Key": f"k{number}", "Value": "v"} for number in range(51)]
    assert refused(control.put_job_tagging, **place, Tags=many)["Code"] == "TooManyTagsException"
    assert refused(control.put_job_tagging, **place, Tags=[{"Key": "aws:x", "Value": "v"}])["Code"] == "InvalidTag"
    control.delete_job_tagging(**place)
    assert control.get_job_tagging(**place)["Tags"] == []
    assert refused(control.get_job_tagging, AccountId=aws.account, JobId="none-at-all")["Code"] == "NotFoundException"
