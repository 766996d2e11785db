"""What stands on the wire where clients other than botocore look closer than it does: headers, roots, statuses, error bodies."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import boto3
import msgspec
import pytest
from botocore.config import Config
from oracle import parsed

from pilvi.core.errors import ServiceError
from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream
from pilvi.protocol import cbor
from pilvi.protocol.models import Models, Operation, encode_error
from pilvi.protocol.route import Router

POST = Request("POST", "/", "", {})


def operation(models: Models, service: str, name: str) -> Operation:
    found = models.service(service).operation(name)
    assert found is not None
    return found


def encoded(models: Models, service: str, name: str, result: dict[str, Any] | None, request: Request = POST) -> Response:
    found = operation(models, service, name)
    return found.encode(result, protocol=found.service_model.protocol, request_id="R1", request=request)


def refused(models: Models, service: str, name: str, error: ServiceError, request: Request = POST, protocol: str = "") -> Response:
    found = operation(models, service, name)
    return found.encode_error(error, protocol=protocol or found.service_model.protocol, request_id="R1", request=request)


def text(response: Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


# -- S3 -------------------------------------------------------------------------------------------------------------------


def test_s3_names_its_requests(models: Models) -> None:
    response = encoded(models, "s3", "PutObject", {"ETag": '"e"'})
    headers = dict(response.headers)
    assert headers["x-amz-request-id"] == "R1"
    assert headers["x-amz-id-2"]
    assert "x-amzn-RequestId" not in headers
    assert response.body == b""


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("CompleteMultipartUpload", "CompleteMultipartUploadResult"),
        ("CreateMultipartUpload", "InitiateMultipartUploadResult"),
        ("ListBuckets", "ListAllMyBucketsResult"),
        ("ListObjectsV2", "ListBucketResult"),
        ("ListObjectVersions", "ListVersionsResult"),
        ("DeleteObjects", "DeleteResult"),
        ("GetBucketVersioning", "VersioningConfiguration"),
    ],
)
def test_s3_names_roots_as_aws_does(models: Models, name: str, root: str) -> None:
    assert f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">' in text(encoded(models, "s3", name, {}))


def test_s3_payloads_are_roots(models: Models) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    body = text(encoded(models, "s3", "CopyObject", {"CopyObjectResult": {"ETag": '"e"', "LastModified": when}}))
    assert body.endswith(
        '<CopyObjectResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><ETag>"e"</ETag>'
        "<LastModified>2026-01-02T03:04:05.000Z</LastModified></CopyObjectResult>"
    )


@pytest.mark.parametrize(("where", "inner"), [(None, ""), ("eu-west-1", "eu-west-1")])
def test_s3_bucket_location_is_the_root_itself(models: Models, where: str | None, inner: str) -> None:
    body = text(encoded(models, "s3", "GetBucketLocation", {"LocationConstraint": where}))
    assert body.endswith(f'<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</LocationConstraint>')


def test_s3_answers_ranges_with_206(models: Models) -> None:
    result = {"Body": ByteStream(b"ab"), "ContentRange": "bytes 0-1/5", "ContentLength": 2}
    assert encoded(models, "s3", "GetObject", result).status == 206
    assert encoded(models, "s3", "GetObject", {"Body": b"abcde"}).status == 200


def test_s3_streams_bodies_and_writes_metadata(models: Models) -> None:
    stream = ByteStream(sync=iter([b"a"]), length=1)
    response = encoded(models, "s3", "GetObject", {"Body": stream, "Metadata": {"a": "b"}, "ContentType": "text/csv"})
    assert response.body is stream
    assert {("x-amz-meta-a", "b"), ("Content-Type", "text/csv")} <= set(response.headers)


def test_head_has_no_body(models: Models) -> None:
    request = Request("HEAD", "/b/k", "", {})
    response = encoded(models, "s3", "HeadObject", {"ContentLength": 5}, request)
    error = refused(models, "s3", "HeadObject", ServiceError("NoSuchKey", "x"), request)
    assert (response.body, dict(response.headers)["Content-Length"]) == (b"", "5")
    assert (error.status, error.body) == (404, b"")


def test_s3_errors_have_no_wrapper(models: Models) -> None:
    request = Request("GET", "/b/k%20l", "", {})
    body = text(refused(models, "s3", "GetObject", ServiceError("NoSuchKey", "The key <k>", Key="k l"), request))
    assert (
        "<Error><Code>NoSuchKey</Code><Message>The key &lt;k&gt;</Message><Key>k l</Key><RequestId>R1</RequestId><HostId>" in body
    )
    plain = text(refused(models, "s3", "GetObject", ServiceError("AccessDenied", "Access Denied"), request))
    assert "<Resource>/b/k l</Resource>" in plain


@pytest.mark.parametrize(
    ("code", "status"),
    [("NoSuchBucket", 404), ("AccessDenied", 403), ("PreconditionFailed", 412), ("NotModified", 304), ("InvalidRange", 416)],
)
def test_s3_statuses_come_from_its_table(models: Models, code: str, status: int) -> None:
    assert refused(models, "s3", "GetObject", ServiceError(code, "x")).status == status
    assert encode_error(ServiceError(code), protocol="rest-xml", request_id="R", request=POST, service="s3").status == status


def test_s3_errors_may_carry_headers(models: Models) -> None:
    error = ServiceError("PermanentRedirect", "x", _headers={"x-amz-bucket-region": "eu-west-1"})
    response = refused(models, "s3", "HeadBucket", error, Request("HEAD", "/b", "", {}))
    assert (response.status, dict(response.headers)["x-amz-bucket-region"]) == (301, "eu-west-1")


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_s3_takes_headers_from_presigned_urls(models: Models, version: str) -> None:
    """botocore's SigV2 form carries x-amz- headers in the query string; its SigV4 form leaves them to the caller."""
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        endpoint_url="http://127.0.0.1:1",
        config=Config(signature_version=version),
    )
    params = {"Bucket": "b", "Key": "k", "ACL": "private", "Metadata": {"m": "v"}, "ContentType": "text/csv"}
    url = urlsplit(client.generate_presigned_url("put_object", params))
    given = {} if version == "s3" else {"x-amz-acl": "private", "x-amz-meta-m": "v", "content-type": "text/csv"}
    request = Request("PUT", url.path, url.query, {"host": url.netloc, **given})
    match = Router(models).route(request, None)
    assert match.operation is not None
    decoded = match.operation.decode(request, ByteStream(b"x"), match.path_params, match.protocol)
    assert {name: decoded.get(name) for name in params} == params


def test_s3_copies_by_presigned_urls(models: Models) -> None:
    query = "x-amz-copy-source=%2Fa%2Fb&AWSAccessKeyId=a&Signature=s&Expires=1"
    match = Router(models).route(Request("PUT", "/b/k", query, {}), None)
    assert match.operation is operation(models, "s3", "CopyObject")
    assert match.operation.decode(Request("PUT", "/b/k", query, {}), b"", match.path_params)["CopySource"] == "/a/b"


def test_s3_metadata_beyond_latin_goes_encoded(models: Models) -> None:
    response = encoded(models, "s3", "HeadObject", {"Metadata": {"a": "日", "b": "\xc3\xa4"}})
    assert {("x-amz-meta-a", "=?UTF-8?B?5pel?="), ("x-amz-meta-b", "\xc3\xa4")} <= set(response.headers)


def test_s3_decodes_lists_of_parts(models: Models) -> None:
    body = (
        b'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<Part><ETag>&quot;a&quot;</ETag><PartNumber>1</PartNumber></Part><Part><PartNumber>2</PartNumber></Part>"
        b"</CompleteMultipartUpload>"
    )
    found = operation(models, "s3", "CompleteMultipartUpload")
    decoded = found.decode(Request("POST", "/b/k", "uploadId=u", {}), body, {"Bucket": "b", "Key": "k"})
    parts = [{"ETag": '"a"', "PartNumber": 1}, {"PartNumber": 2}]
    assert decoded == {"Bucket": "b", "Key": "k", "UploadId": "u", "MultipartUpload": {"Parts": parts}}


# -- query and EC2 --------------------------------------------------------------------------------------------------------


def test_query_wraps_results(models: Models) -> None:
    body = text(encoded(models, "sts", "GetCallerIdentity", {"Account": "1", "_private": "x", "UserId": None}))
    assert body == (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        "<GetCallerIdentityResult><Account>1</Account></GetCallerIdentityResult>"
        "<ResponseMetadata><RequestId>R1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    )


def test_query_errors_take_the_modelled_code(models: Models) -> None:
    for code in ("NoSuchEntity", "NoSuchEntityException"):
        response = refused(models, "iam", "GetUser", ServiceError(code, "no user"))
        assert response.status == 404
        assert text(response) == (
            '<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>NoSuchEntity</Code>'
            "<Message>no user</Message></Error><RequestId>R1</RequestId></ErrorResponse>"
        )


def test_ec2_has_no_wrapper(models: Models) -> None:
    body = text(encoded(models, "ec2", "DeleteVpc", None))
    assert body.endswith(
        '<DeleteVpcResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15"><requestId>R1</requestId><return>true</return></DeleteVpcResponse>'
    )
    error = text(refused(models, "ec2", "DeleteVpc", ServiceError("InvalidVpcID.NotFound", "no")))
    assert error.endswith(
        "<Response><Errors><Error><Code>InvalidVpcID.NotFound</Code><Message>no</Message></Error></Errors>"
        "<RequestID>R1</RequestID></Response>"
    )


# -- JSON -----------------------------------------------------------------------------------------------------------------


def test_json_answers_in_the_callers_version(models: Models) -> None:
    response = encoded(models, "sagemaker", "ListTrainingJobs", {"TrainingJobSummaries": [], "NextToken": None})
    assert response.headers == [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-RequestId", "R1")]
    assert response.body == b'{"TrainingJobSummaries":[]}'
    asked = Request("POST", "/", "", {"content-type": "application/x-amz-json-1.0; charset=utf-8"})
    assert encoded(models, "sagemaker", "ListTrainingJobs", {}, asked).headers[0][1] == "application/x-amz-json-1.0"


def test_json_errors_name_the_message_as_the_model_does(models: Models) -> None:
    error = ServiceError("ResourceNotFound", "no job")
    response = refused(models, "sagemaker", "DescribeTrainingJob", error)
    assert msgspec.json.decode(text(response)) == {"__type": "ResourceNotFound", "Message": "no job"}
    assert response.status == 400
    unknown = refused(models, "sagemaker", "DescribeTrainingJob", ServiceError("AccessDeniedException", "no"))
    assert (unknown.status, msgspec.json.decode(text(unknown))["message"]) == (400, "no")


def test_json_services_that_once_spoke_query_say_their_old_codes(models: Models) -> None:
    for code in ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"):
        response = refused(models, "sqs", "SendMessage", ServiceError(code, "no queue"))
        assert dict(response.headers)["x-amzn-query-error"] == "AWS.SimpleQueueService.NonExistentQueue;Sender"
        assert json.loads(text(response)) == {"__type": "QueueDoesNotExist", "message": "no queue"}
        error = parsed(response, operation(models, "sqs", "SendMessage").model, "json")["Error"]
        assert error["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_rest_json_errors_have_a_header(models: Models) -> None:
    error = ServiceError("ResourceNotFoundException", "Function not found", Type="User")
    response = refused(models, "lambda", "GetFunction", error)
    assert dict(response.headers)["x-amzn-errortype"] == "ResourceNotFoundException"
    assert (response.status, json.loads(text(response))) == (404, {"Type": "User", "Message": "Function not found"})
    late = refused(models, "lambda", "Invoke", ServiceError("TooManyRequestsException", "slow", retryAfterSeconds="3"))
    assert (late.status, dict(late.headers)["Retry-After"]) == (429, "3")


def test_rest_json_statuses_and_headers(models: Models) -> None:
    assert encoded(models, "lambda", "DeleteAlias", None).status == 204
    created = encoded(models, "lambda", "CreateFunction", {"FunctionName": "f", "LastModified": "x"})
    assert (created.status, created.body) == (201, b'{"FunctionName":"f","LastModified":"x"}')
    result = {"StatusCode": 202, "Payload": b"", "FunctionError": "Unhandled", "ExecutedVersion": "$LATEST"}
    invoked = encoded(models, "lambda", "Invoke", result)
    assert (invoked.status, dict(invoked.headers)["X-Amz-Function-Error"]) == (202, "Unhandled")


def test_cbor_says_its_protocol(models: Models) -> None:
    found = operation(models, "cloudwatch", "ListMetrics")
    protocol = "smithy-rpc-v2-cbor"
    response = found.encode({"Metrics": []}, protocol=protocol, request_id="R1", request=POST)
    assert {("smithy-protocol", "rpc-v2-cbor"), ("Content-Type", "application/cbor")} <= set(response.headers)
    assert isinstance(response.body, bytes)
    assert cbor.loads(response.body) == {"Metrics": []}
    error = refused(models, "cloudwatch", "ListMetrics", ServiceError("InvalidNextToken", "no"), protocol=protocol)
    assert isinstance(error.body, bytes)
    assert cbor.loads(error.body) == {"__type": "InvalidNextToken", "message": "no"}


def test_errors_of_no_service(models: Models) -> None:
    for protocol in ("json", "rest-json", "query", "ec2", "rest-xml", "smithy-rpc-v2-cbor"):
        response = models.encode_error(
            ServiceError("UnknownOperationException", "what?"), service="", protocol=protocol, request_id="R1", request=POST
        )
        assert response.status == 400
        error = parsed(response, operation(models, "sts", "GetCallerIdentity").model, protocol)["Error"]
        assert (error["Code"], error["Message"]) == ("UnknownOperationException", "what?")


def test_decode_unpacks_compressed_requests(models: Models) -> None:
    found = operation(models, "cloudwatch", "PutMetricData")
    request = Request("POST", "/", "", {"content-encoding": "gzip"})
    body = gzip.compress(b'{"Namespace":"n"}')
    assert found.decode(request, body, {}, "json") == {"Namespace": "n"}
    assert found.decode(request, b'{"Namespace":"n"}', {}, "json") == {"Namespace": "n"}
    with pytest.raises(ServiceError):
        found.decode(request, body[:-9], {}, "json")
