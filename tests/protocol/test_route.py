"""Which service and operation a request means."""

from __future__ import annotations

import pytest

from pilvi.core.http import Request
from pilvi.protocol.route import Match, Router

FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
STS = b"Action=GetCallerIdentity&Version=2011-06-15"


def routed(router: Router, method: str, path: str, query: str = "", signing_name: str | None = None, **headers: str) -> Match:
    named = {"host": "127.0.0.1:4566"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return router.route(Request(method, path, query, named), signing_name)


def named(match: Match) -> str:
    assert match.operation is not None, match
    return f"{match.service}.{match.operation.name}"


@pytest.mark.parametrize(
    ("host", "path", "bucket", "key"),
    [
        ("127.0.0.1:4566", "/b/k", "b", "k"),
        ("localhost:4566", "/b/a%2Fb%20c//d%252F/", "b", "a/b c//d%2F/"),
        ("s3.us-east-1.amazonaws.com", "/b/k+l", "b", "k+l"),
        ("s3.amazonaws.com", "/b//", "b", "/"),
        ("b.s3.amazonaws.com", "/k", "b", "k"),
        ("my.bucket.s3.eu-west-1.amazonaws.com", "/k/l", "my.bucket", "k/l"),
        ("b.s3.dualstack.eu-west-1.amazonaws.com", "/k", "b", "k"),
        ("b.s3-eu-west-1.amazonaws.com", "/k", "b", "k"),
        ("b.s3.localhost:4566", "/k", "b", "k"),
        ("b.s3.us-east-1.localhost", "/k", "b", "k"),
        ("b.localhost:4566", "/k", "b", "k"),
        ("s3.localhost:4566", "/b/k", "b", "k"),
        ("b--usw2-az1--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com", "/k", "b--usw2-az1--x-s3", "k"),
        ("b.s3.cn-north-1.amazonaws.com.cn", "/k", "b", "k"),
    ],
)
def test_route_finds_bucket_and_key(router: Router, host: str, path: str, bucket: str, key: str) -> None:
    match = routed(router, "GET", path, "", "s3", host=host)
    assert (named(match), match.path_params) == ("s3.GetObject", {"Bucket": bucket, "Key": key})
    assert match.protocol == "rest-xml"


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "operation"),
    [
        ("GET", "/", "", {}, "ListBuckets"),
        ("GET", "/b", "", {}, "ListObjects"),
        ("GET", "/b/", "list-type=2&prefix=a", {}, "ListObjectsV2"),
        ("GET", "/b", "versions", {}, "ListObjectVersions"),
        ("GET", "/b", "lifecycle", {}, "GetBucketLifecycleConfiguration"),
        ("GET", "/b", "analytics&id=1", {}, "GetBucketAnalyticsConfiguration"),
        ("GET", "/b", "analytics", {}, "ListBucketAnalyticsConfigurations"),
        ("HEAD", "/b", "", {}, "HeadBucket"),
        ("HEAD", "/b/k", "versionId=1", {}, "HeadObject"),
        ("PUT", "/b/k", "", {}, "PutObject"),
        ("PUT", "/b/k", "x-id=PutObject", {}, "PutObject"),
        ("PUT", "/b/k", "", {"x_amz_copy_source": "/a/b"}, "CopyObject"),
        ("PUT", "/b/k", "partNumber=1&uploadId=u", {}, "UploadPart"),
        ("PUT", "/b/k", "partNumber=1&uploadId=u", {"x_amz_copy_source": "/a/b"}, "UploadPartCopy"),
        ("PUT", "/b/k", "tagging", {}, "PutObjectTagging"),
        ("POST", "/b/k", "uploads", {}, "CreateMultipartUpload"),
        ("POST", "/b/k", "uploadId=u", {}, "CompleteMultipartUpload"),
        ("POST", "/b", "delete", {}, "DeleteObjects"),
        ("POST", "/b/k", "select&select-type=2", {}, "SelectObjectContent"),
        ("GET", "/b/k", "uploadId=u", {}, "ListParts"),
        ("DELETE", "/b/k", "uploadId=u", {}, "AbortMultipartUpload"),
        ("DELETE", "/b/k", "", {}, "DeleteObject"),
        ("DELETE", "/b", "policy", {}, "DeleteBucketPolicy"),
    ],
)
def test_route_finds_s3_operations(
    router: Router, method: str, path: str, query: str, headers: dict[str, str], operation: str
) -> None:
    assert named(routed(router, method, path, query, "s3", **headers)) == f"s3.{operation}"
    assert named(routed(router, method, path, query, None, **headers)) == f"s3.{operation}"


def test_route_refuses_methods_s3_has_not(router: Router) -> None:
    error = routed(router, "PATCH", "/b/k", "", "s3").error
    assert error is not None
    assert (error.code, error.status) == ("MethodNotAllowed", 405)


def test_route_finds_s3_control(router: Router) -> None:
    match = routed(router, "GET", "/v20180820/configuration/publicAccessBlock", "", "s3", x_amz_account_id="123456789012")
    assert named(match) == "s3control.GetPublicAccessBlock"


@pytest.mark.parametrize(
    ("path", "signing_name", "expected"),
    [
        ("/2015-03-31/functions/f/invocations", "lambda", "lambda.Invoke"),
        ("/2015-03-31/functions/arn:aws:lambda:us-east-1:1:function:f/invocations", "lambda", "lambda.Invoke"),
        ("/2015-03-31/functions/", "lambda", "lambda.CreateFunction"),
        ("/2015-03-31/functions", "lambda", "lambda.CreateFunction"),
        ("/endpoints/e/invocations", "sagemaker", "sagemaker-runtime.InvokeEndpoint"),
        ("/restapis", "apigateway", "apigateway.CreateRestApi"),
        ("/v2/apis", "apigateway", "apigatewayv2.CreateApi"),
        ("/model/m/converse", "bedrock", "bedrock-runtime.Converse"),
    ],
)
def test_route_finds_rest_operations(router: Router, path: str, signing_name: str, expected: str) -> None:
    assert named(routed(router, "POST", path, "", signing_name)) == expected


def test_route_decodes_labels_once(router: Router) -> None:
    match = routed(router, "GET", "/2015-03-31/functions/a%2Fb%2520c", "", "lambda")
    assert match.path_params == {"FunctionName": "a/b%20c"}


@pytest.mark.parametrize(
    ("target", "signing_name", "expected"),
    [
        ("SageMaker.CreateTrainingJob", "sagemaker", "sagemaker.CreateTrainingJob"),
        ("Logs_20140328.PutLogEvents", "logs", "logs.PutLogEvents"),
        ("AmazonSQS.SendMessage", "sqs", "sqs.SendMessage"),
        ("DynamoDB_20120810.GetItem", "dynamodb", "dynamodb.GetItem"),
        ("DynamoDBStreams_20120810.GetRecords", "dynamodb", "dynamodbstreams.GetRecords"),
        ("GraniteServiceVersion20100801.PutMetricData", "monitoring", "cloudwatch.PutMetricData"),
        ("AWSCognitoIdentityService.GetId", None, "cognito-identity.GetId"),
    ],
)
def test_route_finds_targets(router: Router, target: str, signing_name: str | None, expected: str) -> None:
    match = routed(router, "POST", "/", "", signing_name, x_amz_target=target)
    assert (named(match), match.protocol) == (expected, "json")


def test_route_finds_one_service_in_three_protocols(router: Router) -> None:
    cbor = routed(router, "POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics", smithy_protocol="rpc-v2-cbor")
    json = routed(router, "POST", "/", x_amz_target="GraniteServiceVersion20100801.ListMetrics")
    form = router.route(Request("POST", "/", "", FORM), "monitoring").with_form(b"Action=ListMetrics&Version=2010-08-01")
    assert [named(match) for match in (cbor, json, form)] == ["cloudwatch.ListMetrics"] * 3
    assert [match.protocol for match in (cbor, json, form)] == ["smithy-rpc-v2-cbor", "json", "query"]


@pytest.mark.parametrize("signing_name", ["sts", None])
def test_route_finds_actions(router: Router, signing_name: str | None) -> None:
    match = router.route(Request("POST", "/", "", FORM), signing_name)
    assert match.needs_body
    assert match.operation is None
    for _ in range(2):
        found = match.with_form(STS)
        assert (named(found), found.protocol, found.needs_body) == ("sts.GetCallerIdentity", "query", False)
    in_query = router.route(Request("GET", "/", STS.decode(), {}), signing_name)
    assert named(in_query) == "sts.GetCallerIdentity"


def test_route_tells_versions_apart(router: Router) -> None:
    match = router.route(Request("POST", "/", "", FORM), "elasticloadbalancing")
    assert named(match.with_form(b"Action=DescribeLoadBalancers&Version=2012-06-01")) == "elb.DescribeLoadBalancers"
    assert named(match.with_form(b"Version=2015-12-01&Action=DescribeLoadBalancers")) == "elbv2.DescribeLoadBalancers"


@pytest.mark.parametrize(
    ("signing_name", "body", "code", "status"),
    [
        ("sts", b"Action=Nonsense&Version=2011-06-15", "InvalidAction", 400),
        ("iam", b"Version=2010-05-08", "MissingAction", 400),
        ("ec2", b"Action=Nonsense&Version=2016-11-15", "InvalidAction", 400),
    ],
)
def test_route_refuses_unknown_actions(router: Router, signing_name: str, body: bytes, code: str, status: int) -> None:
    match = router.route(Request("POST", "/", "", FORM), signing_name).with_form(body)
    assert match.error is not None
    assert (match.service, match.error.code, match.error.status) == (signing_name, code, status)


@pytest.mark.parametrize(
    ("path", "headers", "signing_name", "code", "status"),
    [
        ("/", {"x_amz_target": "SageMaker.Nonsense"}, "sagemaker", "UnknownOperationException", 400),
        ("/", {"x_amz_target": "Nonsense"}, "sagemaker", "UnknownOperationException", 400),
        ("/service/Nope/operation/Nope", {"smithy_protocol": "rpc-v2-cbor"}, "x", "UnknownOperationException", 400),
        ("/nope", {}, "lambda", "UnknownOperationException", 404),
        ("/nope", {}, "apigateway", "MissingAuthenticationTokenException", 403),
    ],
)
def test_route_refuses_unknown_operations(
    router: Router, path: str, headers: dict[str, str], signing_name: str, code: str, status: int
) -> None:
    match = routed(router, "POST", path, "", signing_name, **headers)
    assert match.error is not None
    assert (match.error.code, match.error.status) == (code, status)


@pytest.mark.parametrize(
    ("host", "path", "service", "site", "params"),
    [
        ("abc.execute-api.us-east-1.amazonaws.com", "/prod/x", "apigateway", "execute-api", {"api_id": "abc", "rest": "/prod/x"}),
        ("abc.execute-api.localhost:1", "/prod", "apigateway", "execute-api", {"api_id": "abc", "rest": "/prod"}),
        ("localhost", "/_aws/execute-api/abc/prod/a%2Fb", "apigateway", "execute-api", {"api_id": "abc", "rest": "/prod/a%2Fb"}),
        ("localhost", "/_aws/execute-api/abc", "apigateway", "execute-api", {"api_id": "abc", "rest": "/"}),
        ("localhost", "/restapis/abc/prod/_user_request_/x/y", "apigateway", "execute-api", {"api_id": "abc", "rest": "/prod/x/y"}),
        ("localhost", "/restapis/abc/prod/_user_request_", "apigateway", "execute-api", {"api_id": "abc", "rest": "/prod"}),
        ("u1.lambda-url.us-east-1.on.aws", "/x", "lambda", "function-url", {"url_id": "u1", "rest": "/x"}),
        ("localhost", "/_aws/lambda-url/u1/x", "lambda", "function-url", {"url_id": "u1", "rest": "/x"}),
        (
            "localhost",
            "/_pilvi/lambda/t/2018-06-01/runtime",
            "lambda",
            "runtime-api",
            {"token": "t", "rest": "/2018-06-01/runtime"},
        ),
    ],
)
def test_route_finds_sites(router: Router, host: str, path: str, service: str, site: str, params: dict[str, str]) -> None:
    match = routed(router, "POST", path, host=host)
    assert (match.service, match.site, match.path_params, match.error) == (service, site, params, None)


def test_route_finds_what_browsers_send_to_s3(router: Router) -> None:
    form = routed(router, "POST", "/b", content_type="multipart/form-data; boundary=x")
    preflight = routed(router, "OPTIONS", "/k%20l", host="b.s3.amazonaws.com")
    assert (form.site, form.path_params) == ("post-object", {"Bucket": "b", "Key": ""})
    assert (preflight.site, preflight.path_params) == ("preflight", {"Bucket": "b", "Key": "k l"})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("iam.amazonaws.com", "iam"),
        ("sts.us-east-1.amazonaws.com", "sts"),
        ("logs.eu-north-1.amazonaws.com", "logs"),
    ],
)
def test_route_takes_the_service_from_the_host(router: Router, host: str, expected: str) -> None:
    match = routed(router, "POST", "/", host=host, content_type=FORM["content-type"])
    assert match.service == expected


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("runtime.sagemaker.us-east-1.amazonaws.com", "/endpoints/e/invocations", "sagemaker-runtime.InvokeEndpoint"),
        ("bedrock-agent.us-east-1.amazonaws.com", "/listTagsForResource", ""),
        (
            "data-analytics.lakeformation.us-east-1.amazonaws.com",
            "/GetEffectivePermissionsForPath",
            "lakeformation.GetEffectivePermissionsForPath",
        ),
        ("prefix-lambda.us-east-1.amazonaws.com", "/2015-03-31/functions/f/invocations", "lambda.Invoke"),
    ],
)
def test_route_lets_host_prefixes_go(router: Router, host: str, path: str, expected: str) -> None:
    match = routed(router, "POST", path, host=host)
    assert (named(match) if match.operation else "") == expected


def test_a_bucket_may_be_called_as_our_own_paths(router: Router) -> None:
    assert named(routed(router, "GET", "/restapis/a/b/_user_request_/c", "", "s3")) == "s3.GetObject"
    assert named(routed(router, "POST", "/service/AmazonSQS/operation/x", "uploads", "s3")) == "s3.CreateMultipartUpload"


@pytest.mark.parametrize(
    ("host", "bucket", "vpce"),
    [
        ("team-a-123456789012.s3-accesspoint.us-east-1.amazonaws.com", "arn:aws:s3:us-east-1:123456789012:accesspoint/team-a", ""),
        (
            "t-123456789012.s3-accesspoint.dualstack.cn-north-1.amazonaws.com.cn",
            "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/t",
            "",
        ),
        ("t-123456789012.s3-accesspoint-fips.us-east-1.amazonaws.com", "arn:aws:s3:us-east-1:123456789012:accesspoint/t", ""),
        ("b.bucket.vpce-01-ab.s3.us-east-1.vpce.amazonaws.com", "b", "vpce-01"),
        ("my.b.bucket.vpce-01-ab.s3.us-east-1.vpce.amazonaws.com", "my.b", "vpce-01"),
        (
            "t-123456789012.accesspoint.vpce-01-ab.s3.us-east-1.vpce.amazonaws.com",
            "arn:aws:s3:us-east-1:123456789012:accesspoint/t",
            "vpce-01",
        ),
    ],
)
def test_hosts_of_access_points_and_vpc_endpoints(router: Router, host: str, bucket: str, vpce: str) -> None:
    match = routed(router, "GET", "/k", host=host)
    assert (match.operation.name, match.path_params, match.vpce) == ("GetObject", {"Bucket": bucket, "Key": "k"}, vpce)


def test_a_vpc_endpoint_leads_to_path_style_and_to_s3_control(router: Router) -> None:
    match = routed(router, "GET", "/b/k", host="bucket.vpce-01-ab.s3.us-east-1.vpce.amazonaws.com")
    assert (match.path_params, match.vpce) == ({"Bucket": "b", "Key": "k"}, "vpce-01")
    control = routed(router, "GET", "/v20180820/accesspoint", host="1.control.vpce-01-ab.s3.us-east-1.vpce.amazonaws.com")
    assert (control.service, control.operation.name) == ("s3control", "ListAccessPoints")


def test_a_host_that_is_no_name_is_not_taken_apart(router: Router) -> None:
    match = routed(router, "GET", "/b/k", "", None, host="a-." * 20_000 + "amazonaws.com")  # took hours on the event loop
    assert named(match) == "s3.GetObject"
