"""The model's constraints, with AWS's codes and words."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from pilvi.core.errors import ServiceError
from pilvi.core.http import Request
from pilvi.protocol.models import Models
from pilvi.protocol.patterns import compile_pattern

REQUEST = Request("POST", "/", "", {})


def refusal(models: Models, service: str, operation: str, params: dict[str, Any]) -> tuple[str, str]:
    found = models.service(service).operation(operation)
    assert found is not None
    with pytest.raises(ServiceError) as caught:
        found.check(params)
    return caught.value.code, caught.value.message


NAME_PATTERN = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"


@pytest.mark.parametrize(
    ("service", "operation", "params", "code", "message"),
    [
        (
            "sagemaker",
            "DescribeTrainingJob",
            {"TrainingJobName": "my_job"},
            "ValidationException",
            (
                "1 validation error detected: Value 'my_job' at 'trainingJobName' failed to satisfy constraint: "
                f"Member must satisfy regular expression pattern: {NAME_PATTERN}"
            ),
        ),
        (
            "sagemaker",
            "DescribeTrainingJob",
            {},
            "ValidationException",
            "1 validation error detected: Value null at 'trainingJobName' failed to satisfy constraint: Member must not be null",
        ),
        (
            "sagemaker",
            "ListTrainingJobs",
            {"MaxResults": 101},
            "ValidationException",
            (
                "1 validation error detected: Value '101' at 'maxResults' failed to satisfy constraint: "
                "Member must have value less than or equal to 100"
            ),
        ),
        (
            "sagemaker",
            "ListTrainingJobs",
            {"SortOrder": "Up", "MaxResults": 0},
            "ValidationException",
            (
                "2 validation errors detected: Value '0' at 'maxResults' failed to satisfy constraint: "
                "Member must have value greater than or equal to 1; Value 'Up' at 'sortOrder' failed to satisfy constraint: "
                "Member must satisfy enum value set: [Ascending, Descending]"
            ),
        ),
        (
            "sagemaker",
            "AddTags",
            {"ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/a", "Tags": [{"Key": "", "Value": "v"}]},
            "ValidationException",
            (
                "1 validation error detected: Value '' at 'tags.1.member.key' failed to satisfy constraint: "
                "Member must have length greater than or equal to 1"
            ),
        ),
        (
            "iam",
            "CreateUser",
            {"UserName": "x" * 65},
            "ValidationError",
            (
                f"1 validation error detected: Value '{'x' * 65}' at 'userName' failed to satisfy constraint: "
                "Member must have length less than or equal to 64"
            ),
        ),
        (
            "iam",
            "CreateUser",
            {"UserName": "a b"},
            "ValidationError",
            "The specified value for userName is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-",
        ),
        (
            "lambda",
            "Invoke",
            {"FunctionName": "f", "InvocationType": "Now"},
            "ValidationException",
            (
                "1 validation error detected: Value 'Now' at 'invocationType' failed to satisfy constraint: "
                "Member must satisfy enum value set: [Event, RequestResponse, DryRun]"
            ),
        ),
        (
            "sts",
            "AssumeRole",
            {"RoleArn": "x", "RoleSessionName": "session"},
            "ValidationError",
            (
                "1 validation error detected: Value 'x' at 'roleArn' failed to satisfy constraint: "
                "Member must have length greater than or equal to 20"
            ),
        ),
        (
            "logs",
            "CreateLogGroup",
            {"logGroupName": "a b"},
            "InvalidParameterException",
            (
                "1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy constraint: "
                r"Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+"
            ),
        ),
        ("ec2", "TerminateInstances", {}, "MissingParameter", "The request must contain the parameter InstanceIds"),
        ("s3", "PutBucketTagging", {"Bucket": "b"}, "MissingRequestBodyError", "Request Body is empty"),
        (
            "s3",
            "PutBucketTagging",
            {"Bucket": "b", "Tagging": {"TagSet": [{"Key": "k"}]}},
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published schema",
        ),
        ("sqs", "CreateQueue", {}, "MissingParameter", "The request must contain the parameter QueueName."),
        (
            "sns",
            "CreateTopic",
            {},
            "ValidationError",
            "1 validation error detected: Value null at 'name' failed to satisfy constraint: Member must not be null",
        ),
    ],
)
def test_check_refuses_in_the_services_words(
    service: str, operation: str, params: dict[str, Any], code: str, message: str, models: Models
) -> None:
    assert refusal(models, service, operation, params) == (code, message)


@pytest.mark.parametrize(
    ("service", "operation", "params"),
    [
        ("sagemaker", "DescribeTrainingJob", {"TrainingJobName": "my-job"}),
        ("s3", "PutObject", {"Bucket": "b", "Key": "k", "StorageClass": "NEW_CLASS"}),
        ("lambda", "UpdateFunctionConfiguration", {"FunctionName": "f", "Runtime": "python9.99"}),
        ("sqs", "GetQueueAttributes", {"QueueUrl": "u", "AttributeNames": ["Whatever"]}),
        ("sts", "GetCallerIdentity", {}),
        ("logs", "PutLogEvents", {"logGroupName": "g", "logStreamName": "s", "logEvents": [{"timestamp": 1, "message": "m"}]}),
        ("sagemaker", "CreateModelPackage", {"ModelPackageName": None}),
    ],
)
def test_check_lets_through(service: str, operation: str, params: dict[str, Any], models: Models) -> None:
    found = models.service(service).operation(operation)
    assert found is not None
    found.check(params)


@pytest.mark.parametrize(
    ("service", "operation", "body", "code", "text"),
    [
        (
            "sagemaker",
            "ListTrainingJobs",
            b'{"MaxResults": "5"}',
            "SerializationException",
            "STRING_VALUE can not be converted to an Integer",
        ),
        (
            "sagemaker",
            "DescribeTrainingJob",
            b'{"TrainingJobName": 5}',
            "SerializationException",
            "NUMBER_VALUE can not be converted to a String",
        ),
        (
            "sagemaker",
            "AddTags",
            b'{"Tags": {"a": 1}}',
            "SerializationException",
            "Start of structure or map found where not expected.",
        ),
        ("sagemaker", "AddTags", b"{", "SerializationException", ""),
        ("sagemaker", "AddTags", b"[]", "SerializationException", ""),
        ("lambda", "CreateFunction", b"{", "InvalidRequestContentException", "Could not parse request body into json"),
        ("s3", "CreateBucket", b"<a", "MalformedXML", "The XML you provided was not well-formed"),
        ("iam", "ListUsers", b"Action=ListUsers&MaxItems=many", "MalformedInput", ""),
    ],
)
def test_decode_refuses_what_has_not_the_form(
    service: str, operation: str, body: bytes, code: str, text: str, models: Models
) -> None:
    found = models.service(service).operation(operation)
    assert found is not None
    with pytest.raises(ServiceError) as caught:
        found.decode(REQUEST, body, {})
    assert caught.value.code == code
    assert text in caught.value.message


def test_decode_drops_what_the_model_has_not(models: Models) -> None:
    found = models.service("sagemaker").operation("CreateModel")
    assert found is not None
    body = b'{"ModelName": "m", "Nonsense": 1, "ExecutionRoleArn": null, "PrimaryContainer": {"Image": "i", "x": 1, "Environment": {"a": null}}}'
    assert found.decode(REQUEST, body, {}) == {"ModelName": "m", "PrimaryContainer": {"Image": "i", "Environment": {}}}


def test_decode_gives_instants_and_bytes(models: Models) -> None:
    kms = models.service("kms").operation("Encrypt")
    jobs = models.service("sagemaker").operation("ListTrainingJobs")
    assert kms is not None
    assert jobs is not None
    assert kms.decode(REQUEST, b'{"KeyId": "k", "Plaintext": "aGk="}', {})["Plaintext"] == b"hi"
    decoded = jobs.decode(REQUEST, b'{"CreationTimeAfter": 1767225600.5}', {})
    assert decoded == {"CreationTimeAfter": datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", ["käse 日本_1"], ["a#b"]),
        (r"^([\p{L}]+)$", ["ß"], ["1", "a\n"]),
        (r"\p{Alnum}+", ["aZ9"], ["ä"]),
        (r"\P{L}+", ["12"], ["a"]),
        (r"[a-z[]+", ["a["], ["A"]),
        (r"[]a]+", ["]a"], ["b"]),
        (r"[^]]+", ["a"], ["]"]),
        (r"\S*", ["a"], ["a b"]),
        (r"a\z", ["a"], ["ab"]),
        (r"[\P{C}\n]+", ["a\nß"], ["\x00"]),
        (r"[\w-.]+", ["a-."], ["a b"]),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", ["a\t😹"], ["\x01"]),
        (r"^(?i)(true|false)$", ["TRUE"], ["yes"]),
        (r"(?!(?i)AWS_)[a-zA-Z_]+", ["a_"], ["Aws_a"]),
        (r"[\x{41}-\x{43}]", ["B"], ["D"]),
        (r"(?<name>a)b", [], []),
        (r"[a&&b]", [], []),
    ],
)
def test_patterns_mean_what_they_mean_in_java(pattern: str, good: list[str], bad: list[str]) -> None:
    compiled = compile_pattern(pattern)
    if not good:
        assert compiled is None or not bad
        return
    assert compiled is not None
    assert all(compiled.fullmatch(text) for text in good)
    assert not any(compiled.fullmatch(text) for text in bad)


def test_nearly_every_pattern_can_be_checked() -> None:
    models, patterns = Models(), set()
    for name in models.names():
        patterns |= {shape["pattern"] for shape in models.service(name).shapes.values() if "pattern" in shape}
        models._services.clear()
    lost = sorted(pattern for pattern in patterns if compile_pattern.__wrapped__(pattern) is None)
    assert len(lost) < len(patterns) / 300, lost
    assert not any(re.search("[*+]{3}", pattern) for pattern in lost)
