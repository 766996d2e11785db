"""Object Lambda: access points of their own kind, and functions that rewrite what is read through them."""

from __future__ import annotations

import io
import itertools
import json
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer, eventually

Reach = Callable[..., Any]
_numbers = itertools.count(1)
_points = itertools.count(1)

FUNCTIONS = """
import io, json, re, threading, time, urllib.request, urllib.error
import xml.etree.ElementTree as ET
import boto3

from botocore.config import Config

s3 = boto3.client("s3")


def fetch(url, method="GET", headers={}):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers))
    except urllib.error.HTTPError as error:
        return error


def write(event, **answer):
    context = event["getObjectContext"]
    return s3.write_get_object_response(RequestRoute=context["outputRoute"], RequestToken=context["outputToken"], **answer)


def write_stream(event, pieces, pause=0.0):
    # Over AWS's own name, unsigned, as boto3 wants it for streams that cannot be read twice.
    config = Config(ignore_configured_endpoint_urls=True, s3={"payload_signing_enabled": False}, retries={"total_max_attempts": 1})
    context = event["getObjectContext"]
    boto3.client("s3", config=config).write_get_object_response(
        RequestRoute=context["outputRoute"], RequestToken=context["outputToken"], Body=Slow(pieces, pause)
    )


def original(event):
    return fetch(event["getObjectContext"]["inputS3Url"]).read()


def upper(event, context):
    write(event, Body=original(event).upper(), ContentType="text/plain", Metadata={"rewritten": "yes"}, ETag='"up"')


def to_json(event, context):
    rows = [{cell.tag: cell.text for cell in row} for row in ET.fromstring(original(event))]
    write(event, Body=json.dumps(rows).encode(), ContentType="application/json")


def redact(event, context):
    text = original(event).decode()
    for pattern in json.loads(event["configuration"]["payload"])["patterns"]:
        text = re.sub(pattern, "****", text)
    write(event, Body=text.encode())


def augment(event, context):
    place = json.loads(event["configuration"]["payload"])
    table = dict(line.split(",") for line in s3.get_object(**place)["Body"].read().decode().split())
    rows = [line.split(",") for line in original(event).decode().split()]
    write(event, Body="\\n".join(",".join([*row, table.get(row[0], "?")]) for row in rows).encode())


def own_role(event, context):
    place = json.loads(event["configuration"]["payload"])
    write(event, Body=s3.get_object(**place)["Body"].read().upper())


def show(event, context):
    write(event, Body=json.dumps(event).encode())


def refuse(event, context):
    write(event, StatusCode=403, ErrorCode="NotForYou", ErrorMessage="not today")


def pass_on(event, context):
    answer = fetch(event["getObjectContext"]["inputS3Url"])
    body = answer.read()
    if answer.status >= 400:
        error = ET.fromstring(body)
        return write(event, StatusCode=answer.status, ErrorCode=error.findtext("Code"), ErrorMessage=error.findtext("Message"))
    write(event, Body=body)


def ranged(event, context):
    headers = {name.lower(): value for name, value in event["userRequest"]["headers"].items()}
    body, given = original(event).upper(), re.match(r"bytes=(\\d+)-(\\d+)", headers.get("range", ""))
    if given is None:
        return write(event, Body=body)
    start, end = int(given[1]), min(int(given[2]), len(body) - 1)
    write(event, Body=body[start : end + 1], StatusCode=206, ContentRange=f"bytes {start}-{end}/{len(body)}", AcceptRanges="bytes")


class Slow:
    # A body that takes its time, without an end in sight.

    def __init__(self, pieces, pause=0.0):
        self.pieces, self.pause, self.given = iter(pieces), pause, 0

    def read(self, size=-1):
        piece = next(self.pieces, b"")
        if self.given:
            time.sleep(self.pause)
        self.given += 1
        return piece


def stream(event, context):
    write_stream(event, [b"first\\n", b"second\\n"], 1.5)


def large(event, context):
    piece = bytes(range(256)) * 4096
    try:
        write_stream(event, [piece] * 24)
    except Exception as error:
        s3.put_object(**json.loads(event["configuration"]["payload"]), Body=repr(error).encode())
        raise


def broken(event, context):
    def pieces():
        yield b"x" * 300000
        raise RuntimeError("half way")

    write_stream(event, pieces())


def fail(event, context):
    raise ValueError("no")


def silent(event, context):
    return "done"


def sleep(event, context):
    time.sleep(20)


def wrong(event, context):
    for answer in json.loads(event["configuration"]["payload"]):
        write(event, **answer)


def twice(event, context):
    write(event, Body=b"once")
    try:
        write(event, Body=b"again")
    except Exception as error:
        s3.put_object(**json.loads(event["configuration"]["payload"]), Body=json.dumps(error.response["Error"]["Code"]).encode())


def steal(event, context):
    place = json.loads(event["configuration"]["payload"])
    s3.put_object(**place, Body=json.dumps(event["getObjectContext"]).encode())
    time.sleep(3)
    write(event, Body=b"mine")


def head(event, context):
    answer = fetch(event["headObjectContext"]["inputS3Url"], "HEAD")
    if answer.status >= 400:
        return {"statusCode": answer.status, "errorCode": "RequestFailure", "errorMessage": "Request to S3 failed"}
    return {"statusCode": 200, "headers": {**dict(answer.headers), "Content-Type": "application/x-seen", "x-amz-meta-seen": "1"}}


def listing(event, context):
    place = event.get("listObjectsV2Context") or event["listObjectsContext"]
    answer = fetch(place["inputS3Url"])
    text = answer.read().decode()
    if answer.status >= 400:
        error = ET.fromstring(text)
        return {"statusCode": answer.status, "errorCode": error.findtext("Code"), "errorMessage": error.findtext("Message")}
    return {"statusCode": 200, "listResultXml": re.sub(r"<Contents><Key>secret.*?</Contents>", "", text)}


def payload(event, context):
    return json.loads(event["configuration"]["payload"])
"""


def refused(call: Any, **params: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement} for statement in statements]})


def allowing(*actions: str, **more: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*", **more}]}


CALLED_VIA = {"ForAnyValue:StringEquals": {"aws:CalledVia": ["s3-object-lambda.amazonaws.com"]}}


class Lab:
    """An account with a bucket, an access point, and a function for each handler in FUNCTIONS."""

    def __init__(self, account: Account, control: Any) -> None:
        self.aws, self.control, self.s3 = account, control, account.client("s3")
        self.bucket = f"lenses{next(_numbers)}-{account.account}"
        self.s3.create_bucket(Bucket=self.bucket)
        made = control.create_access_point(AccountId=account.account, Name="behind", Bucket=self.bucket)
        self.point = made["AccessPointArn"]
        self.role = account.role("rewriter", "lambda.amazonaws.com", allowing("s3-object-lambda:WriteGetObjectResponse", "s3:*"))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("index.py", FUNCTIONS)
        self.code = {"ZipFile": buffer.getvalue()}

    def function(self, handler: str, **settings: Any) -> str:
        name = handler.replace("_", "-") + settings.pop("suffix", "")
        settings = {"Runtime": "python3.11", "Handler": f"index.{handler}", "Role": self.role, "Timeout": 30, **settings}
        client = self.aws.client("lambda")
        try:
            return str(client.create_function(FunctionName=name, Code=self.code, **settings)["FunctionArn"])
        except client.exceptions.ResourceConflictException:
            return f"arn:aws:lambda:us-east-1:{self.aws.account}:function:{name}"

    def configuration(
        self, *handlers: str, payload: Any = None, features: tuple[str, ...] = (), function: str = ""
    ) -> dict[str, Any]:
        """handlers: HANDLER (GetObject) or HANDLER:ACTION."""
        entries = []
        for each in handlers:
            handler, _, action = each.partition(":")
            entry: dict[str, Any] = {"FunctionArn": function or self.function(handler)}
            if payload is not None:
                entry["FunctionPayload"] = json.dumps(payload)
            entries.append({"Actions": (action or "GetObject").split(","), "ContentTransformation": {"AwsLambda": entry}})
        return {"SupportingAccessPoint": self.point, "TransformationConfigurations": entries, "AllowedFeatures": list(features)}

    def lens(self, *handlers: str, **settings: Any) -> tuple[str, str]:
        """A new Object Lambda access point: ARN and alias."""
        name = f"lens{next(_points)}"
        made = self.control.create_access_point_for_object_lambda(
            AccountId=self.aws.account, Name=name, Configuration=self.configuration(*handlers, **settings)
        )
        return made["ObjectLambdaAccessPointArn"], made["Alias"]["Value"]

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def read(self, lens: str, key: str, **more: Any) -> bytes:
        return bytes(self.s3.get_object(Bucket=lens, Key=key, **more)["Body"].read())


@pytest.fixture(scope="module")
def lab(server: TestServer, reach: Reach) -> Lab:
    account = server.account("412000000077")
    return Lab(account, reach(account, "s3control"))


@pytest.fixture
def mine(lab: Lab, server: TestServer) -> Iterator[Lab]:
    """The shared lab, which must be left without requests that wait."""
    yield lab
    waitings = server.cloud.memory.get("s3-object-lambda")
    eventually(lambda: waitings is None or not (waitings.by_token or waitings.invocations))


# -- life -----------------------------------------------------------------------------------------------------------------


def test_create_access_point_for_object_lambda_and_get_it(mine: Lab) -> None:
    control, named = mine.control, {"AccountId": mine.aws.account, "Name": "my-lens"}
    given = mine.configuration("upper", features=("GetObject-Range",))
    made = control.create_access_point_for_object_lambda(**named, Configuration=given)
    assert made["ObjectLambdaAccessPointArn"] == f"arn:aws:s3-object-lambda:us-east-1:{mine.aws.account}:accesspoint/my-lens"
    assert made["Alias"]["Status"] == "READY"
    assert made["Alias"]["Value"].startswith("my-lens-")
    assert made["Alias"]["Value"].endswith("--ol-s3")
    found = control.get_access_point_for_object_lambda(**named)
    assert (found["Name"], found["Alias"]) == ("my-lens", made["Alias"])
    assert all(found["PublicAccessBlockConfiguration"].values())
    assert control.get_access_point_configuration_for_object_lambda(**named)["Configuration"] == {
        **given,
        "CloudWatchMetricsEnabled": False,
    }
    other = mine.configuration("to_json")
    control.put_access_point_configuration_for_object_lambda(**named, Configuration=other)
    found = control.get_access_point_configuration_for_object_lambda(**named)["Configuration"]
    assert found["TransformationConfigurations"] == other["TransformationConfigurations"]
    control.delete_access_point_for_object_lambda(**named)
    for call in (control.get_access_point_for_object_lambda, control.delete_access_point_for_object_lambda):
        assert refused(call, **named) == ("NoSuchAccessPoint", 404)
    for call in (control.get_access_point_configuration_for_object_lambda, control.get_access_point_policy_for_object_lambda):
        assert refused(call, **named) == ("NoSuchAccessPoint", 404)
    assert refused(control.put_access_point_configuration_for_object_lambda, **named, Configuration=given)[0] == "NoSuchAccessPoint"
    assert refused(mine.s3.get_object, Bucket=made["Alias"]["Value"], Key="k") == ("NoSuchBucket", 404)


def test_create_access_point_for_object_lambda_refuses(mine: Lab, other_aws: Account, reach: Reach) -> None:
    good = mine.configuration("upper")
    mine.control.create_access_point_for_object_lambda(AccountId=mine.aws.account, Name="taken", Configuration=good)

    def create(name: str = "new-one", **changed: Any) -> tuple[str, int]:
        call = mine.control.create_access_point_for_object_lambda
        return refused(call, AccountId=mine.aws.account, Name=name, Configuration={**good, **changed})

    def entry(function: str, *actions: str) -> dict[str, Any]:
        return {"Actions": list(actions), "ContentTransformation": {"AwsLambda": {"FunctionArn": function}}}

    arn = mine.function("upper")
    assert create("taken") == ("AccessPointAlreadyOwnedByYou", 409)
    for name in ("Team", "a--ol-s3", "xn--abc"):
        assert create(name) == ("InvalidAccessPoint", 400)
    assert create(SupportingAccessPoint=mine.point + "x") == ("InvalidRequest", 400)
    assert create(AllowedFeatures=["GetObject-Anything"]) == ("InvalidRequest", 400)
    assert create(CloudWatchMetricsEnabled=True) == ("NotImplemented", 501)
    assert create(TransformationConfigurations=[]) == ("InvalidRequest", 400)
    assert create(TransformationConfigurations=[entry(arn, "PutObject")]) == ("InvalidRequest", 400)
    assert create(TransformationConfigurations=[entry(arn, "GetObject"), entry(arn, "GetObject")]) == ("InvalidRequest", 400)
    assert create(TransformationConfigurations=[entry("upper", "GetObject")]) == ("InvalidRequest", 400)
    elsewhere = arn.replace("us-east-1", "eu-west-1")
    assert create(TransformationConfigurations=[entry(elsewhere, "GetObject")]) == ("InvalidRequest", 400)
    theirs = reach(other_aws, "s3control")
    call = theirs.create_access_point_for_object_lambda
    assert refused(call, AccountId=other_aws.account, Name="new-one", Configuration=good) == ("InvalidRequest", 400)
    assert refused(call, AccountId=mine.aws.account, Name="new-one", Configuration=good) == ("AccessDenied", 403)


def test_list_access_points_for_object_lambda_in_pages(aws: Account, reach: Reach) -> None:
    lab = Lab(aws, reach(aws, "s3control"))
    arns = [lab.lens("upper")[0] for _ in range(4)]
    first = lab.control.list_access_points_for_object_lambda(AccountId=aws.account, MaxResults=3)
    rest = lab.control.list_access_points_for_object_lambda(AccountId=aws.account, MaxResults=3, NextToken=first["NextToken"])
    found = [entry["ObjectLambdaAccessPointArn"] for page in (first, rest) for entry in page["ObjectLambdaAccessPointList"]]
    assert found == sorted(arns)
    assert "NextToken" not in rest
    call = lab.control.list_access_points_for_object_lambda
    assert refused(call, AccountId=aws.account, NextToken="nonsense") == ("InvalidRequest", 400)


def test_access_point_policies_for_object_lambda(mine: Lab) -> None:
    control, (arn, _) = mine.control, mine.lens("upper")
    named = {"AccountId": mine.aws.account, "Name": arn.rpartition("/")[2]}
    for call in (control.get_access_point_policy_for_object_lambda, control.get_access_point_policy_status_for_object_lambda):
        assert refused(call, **named) == ("NoSuchAccessPointPolicy", 404)
    text = policy({"Principal": {"AWS": mine.aws.account}, "Action": "s3-object-lambda:GetObject", "Resource": arn})
    control.put_access_point_policy_for_object_lambda(**named, Policy=text)
    assert control.get_access_point_policy_for_object_lambda(**named)["Policy"] == text
    assert control.get_access_point_policy_status_for_object_lambda(**named)["PolicyStatus"]["IsPublic"] is False
    put = control.put_access_point_policy_for_object_lambda
    public = policy({"Principal": "*", "Action": "s3-object-lambda:GetObject", "Resource": arn})
    assert refused(put, **named, Policy=public) == ("AccessDenied", 403)
    for wrong in (
        "{",
        policy({"Principal": {"AWS": mine.aws.account}, "Action": "s3:GetObject", "Resource": arn}),
        policy({"Principal": {"AWS": mine.aws.account}, "Action": "s3-object-lambda:GetObject", "Resource": mine.point}),
    ):
        assert refused(put, **named, Policy=wrong) == ("MalformedPolicy", 400)
    control.delete_access_point_policy_for_object_lambda(**named)
    control.delete_access_point_policy_for_object_lambda(**named)
    missing = {"AccountId": mine.aws.account, "Name": "missing"}
    for call in (control.delete_access_point_policy_for_object_lambda, control.get_access_point_policy_status_for_object_lambda):
        assert refused(call, **missing) == ("NoSuchAccessPoint", 404)
    assert refused(put, **missing, Policy=text) == ("NoSuchAccessPoint", 404)


# -- what functions make of objects ---------------------------------------------------------------------------------------


def test_get_object_is_rewritten_by_arn_alias_and_host(mine: Lab, reach: Reach) -> None:
    mine.put("a/ü k.txt", b"quiet words")
    arn, alias = mine.lens("upper")
    answer = mine.s3.get_object(Bucket=alias, Key="a/ü k.txt")
    assert answer["Body"].read() == b"QUIET WORDS"
    assert (answer["ContentType"], answer["ETag"], answer["Metadata"]) == ("text/plain", '"up"', {"rewritten": "yes"})
    assert answer["ContentLength"] == 11
    through = reach(mine.aws, "s3")
    assert through.get_object(Bucket=arn, Key="a/ü k.txt")["Body"].read() == b"QUIET WORDS"
    assert through.get_object(Bucket=alias, Key="a/ü k.txt")["Body"].read() == b"QUIET WORDS"
    assert mine.read(mine.bucket, "a/ü k.txt") == b"quiet words"
    assert refused(through.get_object, Bucket=arn + "x", Key="k") == ("NoSuchAccessPoint", 404)


def test_get_object_converts_xml_to_json(mine: Lab) -> None:
    mine.put("rows.xml", b"<rows><row><id>1</id><name>Ada</name></row><row><id>2</id><name>Grace</name></row></rows>")
    found = json.loads(mine.read(mine.lens("to_json")[1], "rows.xml"))
    assert found == [{"id": "1", "name": "Ada"}, {"id": "2", "name": "Grace"}]


def test_get_object_masks_personal_data(mine: Lab) -> None:
    mine.put("letter.txt", b"Dear Ada Lovelace <ada@example.com>, your card ends in 4242.")
    patterns = [r"[\w.]+@[\w.]+", r"[A-Z]\w+ Lovelace"]
    _, alias = mine.lens("redact", payload={"patterns": patterns})
    assert mine.read(alias, "letter.txt") == b"Dear **** <****>, your card ends in 4242."


def test_get_object_adds_a_column_that_is_looked_up(mine: Lab) -> None:
    mine.put("orders.csv", b"7,pen\n9,ink\n8,cap")
    mine.put("customers.csv", b"7,Helsinki\n9,Turku")
    _, alias = mine.lens("augment", payload={"Bucket": mine.bucket, "Key": "customers.csv"})
    assert mine.read(alias, "orders.csv") == b"7,pen,Helsinki\n9,ink,Turku\n8,cap,?"


def test_the_event_says_who_asks_for_what(mine: Lab) -> None:
    mine.put("k", b"1")
    arn, alias = mine.lens("show", payload={"depth": 2}, features=("GetObject-Range",))
    answer = mine.s3.get_object(Bucket=alias, Key="k", Range="bytes=0-3", ResponseContentType="a/b")
    event = json.loads(answer["Body"].read())
    assert event["protocolVersion"] == "1.00"
    assert event["configuration"] == {
        "accessPointArn": arn,
        "supportingAccessPointArn": mine.point,
        "payload": '{"depth": 2}',
    }
    host = f"{arn.rpartition('/')[2]}-{mine.aws.account}.s3-object-lambda.us-east-1.amazonaws.com"
    assert event["userRequest"]["url"] == f"https://{host}/k?response-content-type=a/b"
    assert event["userRequest"]["headers"]["Host"] == host
    assert event["userRequest"]["headers"]["Range"] == "bytes=0-3"
    assert "Authorization" not in event["userRequest"]["headers"]
    me = event["userIdentity"]
    assert (me["type"], me["arn"], me["accountId"]) == ("Root", f"arn:aws:iam::{mine.aws.account}:root", mine.aws.account)
    url = event["getObjectContext"]["inputS3Url"]
    assert "X-Amz-Expires=61" in url
    assert "X-Amz-SignedHeaders=host&" in url
    assert "artNumber" not in url
    assert len(event["getObjectContext"]["outputToken"]) >= 128
    role = mine.aws.client("iam").create_role(
        RoleName="reader", AssumeRolePolicyDocument=policy({"Principal": {"AWS": mine.aws.account}, "Action": "sts:AssumeRole"})
    )["Role"]
    mine.aws.client("iam").put_role_policy(RoleName="reader", PolicyName="all", PolicyDocument=json.dumps(allowing("*")))
    someone = mine.aws.user("assumer", allowing("sts:AssumeRole"))
    keys = someone.client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="me")["Credentials"]
    session = mine.aws.with_keys(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    me = json.loads(session.client("s3").get_object(Bucket=alias, Key="k")["Body"].read())["userIdentity"]
    assert me["type"] == "AssumedRole"
    assert me["sessionContext"]["sessionIssuer"]["arn"] == role["Arn"]
    assert keys["SessionToken"] not in json.dumps(me)


def test_a_version_of_an_object_is_rewritten(aws: Account, reach: Reach) -> None:
    lab = Lab(aws, reach(aws, "s3control"))
    lab.s3.put_bucket_versioning(Bucket=lab.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = lab.s3.put_object(Bucket=lab.bucket, Key="k", Body=b"first")["VersionId"]
    lab.put("k", b"second")
    _, alias = lab.lens("upper")
    assert lab.read(alias, "k", VersionId=first) == b"FIRST"
    assert lab.read(alias, "k") == b"SECOND"


def test_ranges_and_parts_are_the_functions_business(mine: Lab) -> None:
    mine.put("k", b"abcdefgh")
    _, plain = mine.lens("ranged", "head:HeadObject")
    for more in ({"Range": "bytes=0-1"}, {"PartNumber": 1}):
        assert refused(mine.s3.get_object, Bucket=plain, Key="k", **more) == ("NotImplemented", 501)
        assert refused(mine.s3.head_object, Bucket=plain, Key="k", **more) == ("501", 501)
    _, alias = mine.lens("ranged", features=("GetObject-Range", "GetObject-PartNumber"))
    answer = mine.s3.get_object(Bucket=alias, Key="k", Range="bytes=2-4")
    assert answer["Body"].read() == b"CDE"
    assert answer["ContentRange"] == "bytes 2-4/8"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert mine.read(alias, "k", PartNumber=1) == b"ABCDEFGH"


# -- errors ---------------------------------------------------------------------------------------------------------------


def test_errors_of_functions(mine: Lab) -> None:
    mine.put("k", b"1")

    def read(*handlers: str, **settings: Any) -> tuple[str, int]:
        return refused(mine.s3.get_object, Bucket=mine.lens(*handlers, **settings)[1], Key="k")

    assert read("fail") == ("LambdaRuntimeError", 500)
    assert read("silent") == ("LambdaResponseNotReceived", 500)
    assert read("sleep", function=mine.function("sleep", suffix="-short", Timeout=1)) == ("LambdaTimeout", 500)
    assert read("upper", function=mine.function("upper") + "-missing") == ("LambdaNotFound", 404)
    assert read("upper", function=mine.function("upper") + ":none") == ("LambdaNotFound", 404)
    throttled = mine.function("upper", suffix="-throttled")
    mine.aws.client("lambda").put_function_concurrency(FunctionName="upper-throttled", ReservedConcurrentExecutions=0)
    assert read("upper", function=throttled) == ("SlowDown", 503)
    assert read("refuse") == ("NotForYou", 403)
    assert refused(mine.s3.get_object, Bucket=mine.lens("pass_on")[1], Key="missing") == ("NoSuchKey", 404)


def test_a_function_that_is_too_slow(mine: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.services.s3.object_lambda.FUNCTION_S", 0.5)
    function = mine.function("sleep", suffix="-four", Timeout=4)
    _, alias = mine.lens("sleep", "sleep:HeadObject", function=function)
    assert refused(mine.s3.get_object, Bucket=alias, Key="k") == ("LambdaTimeout", 500)
    assert refused(mine.s3.head_object, Bucket=alias, Key="k") == ("500", 500)


def test_write_get_object_response_refuses_what_does_not_fit(mine: Lab) -> None:
    mine.put("k", b"1")
    for wrong in (
        {"StatusCode": 418},
        {"StatusCode": 200, "ErrorCode": "Bad"},
        {"ErrorMessage": "Bad"},
        {"StatusCode": 400, "ErrorCode": "not-one"},
        {"StatusCode": 400, "ErrorCode": "Bad", "Body": "x"},
        {"Body": "x", "ChecksumCRC32": "AAAAAA==", "ChecksumSHA1": "x"},
    ):
        _, alias = mine.lens("wrong", payload=[wrong])
        assert refused(mine.s3.get_object, Bucket=alias, Key="k") == ("LambdaInvalidResponse", 400), wrong


def test_a_token_is_good_once_for_its_own_request_and_account(mine: Lab, other_aws: Account) -> None:
    mine.put("k", b"1")
    _, alias = mine.lens("twice", payload={"Bucket": mine.bucket, "Key": "second"})
    assert mine.read(alias, "k") == b"once"

    def said() -> bytes | None:
        try:
            return mine.read(mine.bucket, "second")
        except mine.s3.exceptions.NoSuchKey:
            return None

    assert eventually(said) == b'"ValidationError"'
    call = mine.s3.write_get_object_response
    assert refused(call, RequestRoute="io-abc", RequestToken="0" * 128, Body=b"x") == ("ValidationError", 400)
    _, alias = mine.lens("steal", payload={"Bucket": mine.bucket, "Key": "stolen"})
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(mine.read, alias, "k")

        def stolen() -> Any:
            try:
                return json.loads(mine.read(mine.bucket, "stolen"))
            except mine.s3.exceptions.NoSuchKey:
                return None

        context = eventually(stolen)
        route, token = context["outputRoute"], context["outputToken"]
        theirs = other_aws.client("s3").write_get_object_response
        assert refused(theirs, RequestRoute=route, RequestToken=token, Body=b"x") == ("ValidationError", 400)
        assert refused(call, RequestRoute=route + "x", RequestToken=token, Body=b"x") == ("ValidationError", 400)
        nobody = mine.aws.user("nobody").client("s3").write_get_object_response
        assert refused(nobody, RequestRoute=route, RequestToken=token, Body=b"x") == ("AccessDenied", 403)
        assert reading.result() == b"mine"


# -- streams --------------------------------------------------------------------------------------------------------------


def test_the_answer_streams_while_the_function_writes(mine: Lab) -> None:
    _, alias = mine.lens("stream")
    body = mine.s3.get_object(Bucket=alias, Key="k")["Body"]
    begun = time.monotonic()
    assert body.read(6) == b"first\n"
    between = time.monotonic() - begun
    assert body.read() == b"second\n"
    assert time.monotonic() - begun - between > 0.8, "the first part came long before the second"


def test_large_answers_and_slow_clients(mine: Lab) -> None:
    _, alias = mine.lens("large", payload={"Bucket": mine.bucket, "Key": "complaint"})
    body = mine.s3.get_object(Bucket=alias, Key="k")["Body"]
    size = 0
    while piece := body.read(4 << 20):
        size += len(piece)
        assert piece[:512] == bytes(range(256)) * 2
        time.sleep(0.05)  # a client that takes its time: that is what is tested
    assert size == 24 << 20


def test_a_client_that_leaves_frees_everything(mine: Lab, server: TestServer) -> None:
    key = "left"
    _, alias = mine.lens("large", payload={"Bucket": mine.bucket, "Key": key})
    signer = mine.aws.session.client("s3", endpoint_url=mine.aws.endpoint, config=Config(signature_version="s3v4"))
    url = signer.generate_presigned_url("get_object", Params={"Bucket": alias, "Key": "k"})
    signer.close()
    host, _, path = url.partition("://")[2].partition("/")
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port))) as client:
        client.sendall(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        begun = client.recv(2000)
        assert begun.startswith(b"HTTP/1.1 200"), begun

    def complaint() -> bytes | None:
        try:
            return mine.read(mine.bucket, key)
        except mine.s3.exceptions.NoSuchKey:
            return None

    assert b"ValidationError" in eventually(complaint) or b"onnection" in (complaint() or b"")
    waitings = server.cloud.memory["s3-object-lambda"]
    eventually(lambda: not waitings.by_token and not waitings.invocations)


def test_an_answer_that_breaks_off_is_not_taken_for_whole(mine: Lab) -> None:
    _, alias = mine.lens("broken")
    with pytest.raises(Exception, match=r"(?i)connection|incomplete|read|prematurely"):
        mine.s3.get_object(Bucket=alias, Key="k")["Body"].read()


# -- HEAD and listings ----------------------------------------------------------------------------------------------------


def test_head_object_is_rewritten(mine: Lab) -> None:
    mine.put("seen", b"12345")
    _, alias = mine.lens("head:HeadObject")
    answer = mine.s3.head_object(Bucket=alias, Key="seen")
    assert (answer["ContentLength"], answer["ContentType"], answer["Metadata"]) == (5, "application/x-seen", {"seen": "1"})
    assert answer["ETag"] == mine.s3.head_object(Bucket=mine.bucket, Key="seen")["ETag"]
    assert refused(mine.s3.head_object, Bucket=alias, Key="unseen") == ("404", 404)
    assert mine.read(alias, "seen") == b"12345", "without a function for it GetObject goes straight on"


def test_listings_are_rewritten(mine: Lab) -> None:
    for key in ("l/open 1", "l/open2", "secret/1", "secret/2"):
        mine.put(key, b"1")
    _, alias = mine.lens("listing:ListObjects,ListObjectsV2")
    found = mine.s3.list_objects_v2(Bucket=alias)["Contents"]
    assert {"l/open 1", "l/open2"} <= {entry["Key"] for entry in found}
    assert not any(entry["Key"].startswith("secret") for entry in found)
    answer = mine.s3.list_objects_v2(Bucket=alias, Prefix="l/", MaxKeys=1)
    assert [entry["Key"] for entry in answer["Contents"]] == ["l/open 1"]
    answer = mine.s3.list_objects_v2(Bucket=alias, Prefix="l/", ContinuationToken=answer["NextContinuationToken"])
    assert [entry["Key"] for entry in answer["Contents"]] == ["l/open2"]
    answer = mine.s3.list_objects(Bucket=alias, Prefix="l/", Delimiter="/")
    assert [entry["Key"] for entry in answer["Contents"]] == ["l/open 1", "l/open2"]
    assert refused(mine.s3.list_objects_v2, Bucket=alias, MaxKeys=-1) == ("InvalidArgument", 400)


@pytest.mark.parametrize(
    "payload",
    [
        "text",
        {},
        {"statusCode": "200"},
        {"statusCode": 200},
        {"statusCode": 299},
        {"statusCode": 200, "listResultXml": "<open", "headers": {"Content-Type": "a/b"}},
        {"statusCode": 200, "listResultXml": "<Other/>", "headers": {"Content-Length": "x"}},
        {"statusCode": 200, "headers": {"Content-Length": 1, "Content-Type": "a\r\nb: c"}},
    ],
)
def test_what_functions_return_is_checked(mine: Lab, payload: Any) -> None:
    _, alias = mine.lens("payload:HeadObject,ListObjectsV2,ListObjects", payload=payload)
    assert refused(mine.s3.head_object, Bucket=alias, Key="k") == ("400", 400)
    assert refused(mine.s3.list_objects_v2, Bucket=alias) == ("LambdaInvalidResponse", 400)
    assert refused(mine.s3.list_objects, Bucket=alias) == ("LambdaInvalidResponse", 400)


def test_errors_of_head_and_list_functions(mine: Lab) -> None:
    own = {"statusCode": 409, "errorCode": "TooEarly", "errorMessage": "wait"}
    _, alias = mine.lens("payload:HeadObject,ListObjectsV2", payload=own)
    assert refused(mine.s3.head_object, Bucket=alias, Key="k") == ("409", 409)
    assert refused(mine.s3.list_objects_v2, Bucket=alias) == ("TooEarly", 409)
    _, alias = mine.lens("fail:HeadObject,ListObjectsV2")
    assert refused(mine.s3.head_object, Bucket=alias, Key="k") == ("500", 500)
    assert refused(mine.s3.list_objects_v2, Bucket=alias) == ("LambdaRuntimeError", 500)
    _, alias = mine.lens("upper:HeadObject,ListObjectsV2", function=mine.function("upper") + "-missing")
    assert refused(mine.s3.head_object, Bucket=alias, Key="k") == ("404", 404)
    assert refused(mine.s3.list_objects_v2, Bucket=alias) == ("LambdaNotFound", 404)


# -- who may --------------------------------------------------------------------------------------------------------------


def test_what_is_not_rewritten_goes_straight_on(mine: Lab) -> None:
    arn, alias = mine.lens("upper")
    mine.s3.put_object(Bucket=alias, Key="straight", Body=b"kept as it is", Tagging="a=b")
    assert mine.read(mine.bucket, "straight") == b"kept as it is"
    assert mine.s3.get_object_tagging(Bucket=alias, Key="straight")["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert mine.s3.head_object(Bucket=alias, Key="straight")["ContentLength"] == 13
    assert mine.s3.list_objects_v2(Bucket=alias, Prefix="straight")["KeyCount"] == 1
    upload = mine.s3.create_multipart_upload(Bucket=alias, Key="parts")["UploadId"]
    mine.s3.upload_part(Bucket=alias, Key="parts", UploadId=upload, PartNumber=1, Body=b"1")
    mine.s3.abort_multipart_upload(Bucket=alias, Key="parts", UploadId=upload)
    assert mine.s3.delete_objects(Bucket=alias, Delete={"Objects": [{"Key": "straight"}]})["Deleted"] == [{"Key": "straight"}]
    assert refused(mine.s3.get_bucket_versioning, Bucket=alias) == ("MethodNotAllowed", 405)
    source = {"Bucket": alias, "Key": "straight"}
    assert refused(mine.s3.copy_object, Bucket=mine.bucket, Key="x", CopySource=source) == ("InvalidRequest", 400)
    assert arn.startswith("arn:aws:s3-object-lambda:")


def test_a_user_with_the_objectlambda_wildcard_and_the_right_to_invoke(mine: Lab) -> None:
    mine.put("k", b"whispered")
    _, alias = mine.lens("own_role", payload={"Bucket": mine.bucket, "Key": "k"})
    actions = allowing("s3-object-lambda:*", "lambda:InvokeFunction")
    user = mine.aws.user("only-lens", actions)
    assert user.client("s3").get_object(Bucket=alias, Key="k")["Body"].read() == b"WHISPERED"
    assert refused(user.client("s3").get_object, Bucket=mine.bucket, Key="k") == ("AccessDenied", 403)
    assert refused(user.client("s3").head_object, Bucket=alias, Key="k") == ("403", 403), "HEAD goes on to the access point"
    without = mine.aws.user("no-invoke", allowing("s3-object-lambda:*"))
    assert refused(without.client("s3").get_object, Bucket=alias, Key="k") == ("LambdaPermissionError", 403)
    other = mine.aws.user("no-lens", allowing("lambda:InvokeFunction", "s3:*"))
    assert refused(other.client("s3").get_object, Bucket=alias, Key="k") == ("AccessDenied", 403)


def test_rights_that_hold_only_by_way_of_object_lambda(mine: Lab) -> None:
    mine.put("k", b"whispered")
    _, alias = mine.lens("pass_on")
    function = mine.function("pass_on")
    lens = {"Effect": "Allow", "Action": "s3-object-lambda:*", "Resource": "*"}
    run = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": f"{function}:*", "Condition": CALLED_VIA}
    see = {
        "Effect": "Allow",
        "Action": ["s3:Get*", "s3:List*"],
        "Resource": [mine.point, f"{mine.point}/*"],
        "Condition": CALLED_VIA,
    }
    reads = {**see, "Resource": f"arn:aws:s3:::{mine.bucket}*"}
    user = mine.aws.user("via", {"Version": "2012-10-17", "Statement": [lens, run, see, reads]}).client("s3")
    assert user.get_object(Bucket=alias, Key="k")["Body"].read() == b"whispered"
    assert user.head_object(Bucket=alias, Key="k")["ContentLength"] == 9
    assert "k" in {entry["Key"] for entry in user.list_objects_v2(Bucket=alias)["Contents"]}
    assert refused(user.put_object, Bucket=alias, Key="new", Body=b"") == ("AccessDenied", 403)
    assert refused(user.get_object, Bucket=mine.bucket, Key="k") == ("AccessDenied", 403)
    point = mine.control.get_access_point(AccountId=mine.aws.account, Name="behind")["Alias"]
    assert refused(user.get_object, Bucket=point, Key="k") == ("AccessDenied", 403)


def test_callers_of_other_accounts_need_every_policy(mine: Lab, other_aws: Account) -> None:
    mine.put("k", b"shared")
    arn, alias = mine.lens("upper", function=mine.function("upper", suffix="-shared"))
    theirs = other_aws.client("s3")
    assert refused(theirs.get_object, Bucket=alias, Key="k") == ("AccessDenied", 403)
    them = {"Principal": {"AWS": other_aws.account}}
    text = policy({**them, "Action": "s3-object-lambda:GetObject", "Resource": arn})
    named = {"AccountId": mine.aws.account, "Name": arn.rpartition("/")[2]}
    mine.control.put_access_point_policy_for_object_lambda(**named, Policy=text)
    assert refused(theirs.get_object, Bucket=alias, Key="k") == ("LambdaPermissionError", 403)
    mine.aws.client("lambda").add_permission(
        FunctionName="upper-shared", StatementId="them", Action="lambda:InvokeFunction", Principal=other_aws.account
    )
    assert b"AccessDenied".upper() in theirs.get_object(Bucket=alias, Key="k")["Body"].read(), "the URL speaks for the caller"
    at_point = policy({**them, "Action": "s3:GetObject", "Resource": f"{mine.point}/object/*", "Condition": CALLED_VIA})
    mine.control.put_access_point_policy(AccountId=mine.aws.account, Name="behind", Policy=at_point)
    behind = policy({**them, "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{mine.bucket}/*", "Condition": CALLED_VIA})
    mine.s3.put_bucket_policy(Bucket=mine.bucket, Policy=behind)
    try:
        assert theirs.get_object(Bucket=alias, Key="k")["Body"].read() == b"SHARED"
        assert refused(theirs.get_object, Bucket=mine.bucket, Key="k") == ("AccessDenied", 403)
    finally:
        mine.s3.delete_bucket_policy(Bucket=mine.bucket)
        mine.control.delete_access_point_policy(AccountId=mine.aws.account, Name="behind")


def test_nobody_reads_without_a_signature(mine: Lab) -> None:
    client = mine.aws.session.client("s3", endpoint_url=mine.aws.endpoint, config=Config(signature_version=UNSIGNED))
    assert refused(client.get_object, Bucket=mine.lens("upper")[1], Key="k") == ("AccessDenied", 403)
    client.close()


def test_control_operations_need_their_actions(mine: Lab, reach: Reach) -> None:
    user = reach(mine.aws.user("controller", allowing("s3:GetAccessPointForObjectLambda")), "s3control")
    named = {"AccountId": mine.aws.account, "Name": mine.lens("upper")[0].rpartition("/")[2]}
    assert user.get_access_point_for_object_lambda(**named)["Name"] == named["Name"]
    assert refused(user.delete_access_point_for_object_lambda, **named) == ("AccessDenied", 403)
    assert refused(user.list_access_points_for_object_lambda, AccountId=mine.aws.account) == ("AccessDenied", 403)
