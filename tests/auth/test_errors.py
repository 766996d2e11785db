"""Each fault in each protocol's words."""

from __future__ import annotations

import typing

import pytest

from pilvi.auth.errors import AuthError, Kind, code_for, service_error

KINDS = typing.get_args(Kind)
PROTOCOLS = ["query", "ec2", "json", "rest-json", "rest-xml", "smithy-rpc-v2-cbor"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_fault_has_a_code_everywhere(kind, protocol):
    for service in ("s3", "sts"):
        code, message, status = code_for(kind, protocol, service)
        assert code
        assert message
        assert 400 <= status <= 411


@pytest.mark.parametrize(
    ("kind", "protocol", "service", "code", "status"),
    [
        ("unknown_key", "rest-xml", "s3", "InvalidAccessKeyId", 403),
        ("signature", "rest-xml", "s3", "SignatureDoesNotMatch", 403),
        ("skewed", "rest-xml", "s3", "RequestTimeTooSkewed", 403),
        ("expired", "rest-xml", "s3", "AccessDenied", 403),
        ("expired_token", "rest-xml", "s3", "ExpiredToken", 400),
        ("bad_token", "rest-xml", "s3", "InvalidToken", 400),
        ("malformed", "rest-xml", "s3", "AuthorizationHeaderMalformed", 400),
        ("malformed_query", "rest-xml", "s3", "AuthorizationQueryParametersError", 400),
        ("payload_mismatch", "rest-xml", "s3", "XAmzContentSHA256Mismatch", 400),
        ("unknown_key", "query", "iam", "InvalidClientTokenId", 403),
        ("signature", "query", "sts", "SignatureDoesNotMatch", 403),
        ("skewed", "query", "sts", "SignatureDoesNotMatch", 403),
        ("expired_token", "query", "sts", "ExpiredToken", 403),
        ("malformed", "query", "sts", "IncompleteSignature", 400),
        ("missing_token", "query", "sts", "MissingAuthenticationToken", 403),
        ("unknown_key", "json", "sagemaker", "UnrecognizedClientException", 400),
        ("unknown_key", "rest-json", "lambda", "UnrecognizedClientException", 403),
        ("signature", "json", "sagemaker", "InvalidSignatureException", 400),
        ("signature", "rest-json", "lambda", "InvalidSignatureException", 403),
        ("expired_token", "json", "logs", "ExpiredTokenException", 400),
        ("missing_token", "rest-json", "lambda", "MissingAuthenticationTokenException", 403),
        ("malformed", "smithy-rpc-v2-cbor", "monitoring", "IncompleteSignatureException", 400),
        ("unknown_key", "ec2", "ec2", "AuthFailure", 401),
        ("signature", "rest-xml", "route53", "SignatureDoesNotMatch", 403),
    ],
)
def test_codes(kind, protocol, service, code, status):
    assert (code_for(kind, protocol, service)[0], code_for(kind, protocol, service)[2]) == (code, status)


def test_words_of_the_request_are_kept():
    error = AuthError("skewed", "S3 words", plain="other words", RequestTime="now")
    s3, sts, ec2 = (
        service_error(error, protocol, service) for protocol, service in (("rest-xml", "s3"), ("query", "sts"), ("ec2", "ec2"))
    )
    assert (s3.message, s3.fields) == ("S3 words", {"RequestTime": "now"})
    assert (sts.message, sts.fields) == ("other words", {})
    assert ec2.message == "AWS was not able to validate the provided access credentials"
    assert str(error) == "skewed: S3 words"
    assert str(AuthError("skewed")) == "skewed"


def test_a_wrong_region_names_both():
    error = AuthError("wrong_region", region="eu-east-1", expected="us-east-1")
    s3 = service_error(error, "rest-xml", "s3")
    assert s3.code == "AuthorizationHeaderMalformed"
    assert s3.message == "The authorization header is malformed; the region 'eu-east-1' is wrong; expecting 'us-east-1'"
    assert service_error(error, "query", "sts").message == "Credential should be scoped to a valid region, not 'eu-east-1'. "
