"""Where a service does not do what its model says: one table or one small function per oddity."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pilvi.core.errors import ServiceError
from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream
from pilvi.protocol import xml
from pilvi.protocol.query import parse_query
from pilvi.protocol.shapes import Malformed

if TYPE_CHECKING:
    from pilvi.protocol.faults import Fault
    from pilvi.protocol.models import Operation, RequestDecoder, ResponseEncoder

# -- errors the engine itself raises ------------------------------------------------------------------------------------

# What a request that breaks the model's constraints earns. Source: the services' API references, "Common errors" and
# the operations' error lists; where an operation has no error for it, AWS answers ValidationException.
VALIDATION_CODES: Mapping[str, str] = {
    "apigateway": "BadRequestException",
    "apigatewayv2": "BadRequestException",
    "athena": "InvalidRequestException",
    "cloudfront": "InvalidArgument",
    "cognito-identity": "InvalidParameterException",
    "cognito-idp": "InvalidParameterException",
    "docdb": "InvalidParameterValue",
    "ec2": "InvalidParameterValue",
    "ecr": "InvalidParameterException",
    "ecs": "InvalidParameterException",
    "efs": "BadRequest",
    "elasticache": "InvalidParameterValue",
    "iot": "InvalidRequestException",
    "logs": "InvalidParameterException",
    "neptune": "InvalidParameterValue",
    "rds": "InvalidParameterValue",
    "redshift": "InvalidParameterValue",
    "route53": "InvalidInput",
    "s3": "MalformedXML",
    "s3control": "InvalidRequest",
    "sqs": "InvalidParameterValue",
}
# Required members that are missing have a code of their own in the older protocols.
MISSING_CODES: Mapping[str, tuple[str, str]] = {
    "ec2": ("MissingParameter", "The request must contain the parameter {0}"),
    "elasticache": ("MissingParameter", "The request must contain the parameter {0}"),
    "rds": ("MissingParameter", "The request must contain the parameter {0}"),
    "redshift": ("MissingParameter", "The request must contain the parameter {0}"),
    "sqs": ("MissingParameter", "The request must contain the parameter {0}."),
    "s3": ("MissingRequestBodyError", "Request Body is empty"),
}
# Services that take values their model does not list, or that refuse them in words only they know: left to the service.
# By shape; '*' is all of them.
_ALL = frozenset({"*"})
OPEN_ENUMS: Mapping[str, frozenset[str]] = {
    "ec2": _ALL,
    "lambda": frozenset({"Runtime"}),
    "rds": _ALL,
    "route53": _ALL,
    "s3": _ALL,
    "s3control": _ALL,
    "sqs": _ALL,
}
# EC2 and S3 name their own limits ("InvalidBucketName", "KeyTooLongError", "InvalidInstanceID.Malformed").
LENGTHS_LEFT_TO_SERVICE = frozenset({"ec2", "s3", "s3control"})

# IAM has words of its own for names and paths. Source: answers of IAM quoted in public issue trackers (qontract-reconcile
# 2640, cfn-lint 782).
_IAM_NAMES = "It must contain only alphanumeric characters and/or the following: +=,.@_-"
_IAM_PATHS = "It must begin and end with / and contain only alphanumeric characters and/or / characters."
PATTERN_WORDS: Mapping[str, Mapping[str, str]] = {
    "iam": {
        r"[\w+=,.@-]+": _IAM_NAMES,
        r"[\w+=,.@-]*": _IAM_NAMES,
        r"(\u002F)|(\u002F[\u0021-\u007E]+\u002F)": _IAM_PATHS,
        r"((/[A-Za-z0-9\.,\+@=_-]+)*)/": _IAM_PATHS,
    }
}
_PATTERN_PROBLEM = re.compile(
    r"at '(.*)' failed to satisfy constraint: Member must satisfy regular expression pattern: (.*)", re.DOTALL
)

MALFORMED_XML = "The XML you provided was not well-formed or did not validate against our published schema"


def message_of(service: str, problems: list[str]) -> str:
    """All that is wrong with a request, in the service's words."""
    words = PATTERN_WORDS.get(service)
    if words is not None and len(problems) == 1 and (found := _PATTERN_PROBLEM.search(problems[0])) is not None:
        member, pattern = found.groups()
        if pattern in words:
            return f"The specified value for {member} is invalid. {words[pattern]}"
    count = len(problems)
    return f"{count} validation error{'s' if count > 1 else ''} detected: {'; '.join(problems)}"


def validation_error(service: str, protocol: str, message: str, missing: str = "") -> ServiceError:
    """The error for a request that breaks the model. `missing`: the one required member that is not there."""
    if missing and service in MISSING_CODES:
        code, text = MISSING_CODES[service]
        return ServiceError(code, text.format(missing), 400)
    if service in S3_LIKE:
        message = MALFORMED_XML
    default = "ValidationError" if protocol in ("query", "ec2") else "ValidationException"
    return ServiceError(VALIDATION_CODES.get(service, default), message, 400)


def malformed(service: str, protocol: str, reason: str) -> ServiceError:
    """The error for bytes that do not have the form of the protocol."""
    if service in S3_LIKE:
        return ServiceError("MalformedXML", MALFORMED_XML, 400)
    if service == "lambda":
        return ServiceError("InvalidRequestContentException", f"Could not parse request body into json: {reason}", 400, Type="User")
    if service == "apigateway":
        return ServiceError("BadRequestException", "Invalid request body", 400)
    if protocol in ("query", "ec2"):
        return ServiceError("MalformedInput", reason, 400)
    if protocol == "rest-xml":
        return ServiceError("InvalidInput", reason, 400)
    return ServiceError("SerializationException", reason, 400)


def unknown_operation(service: str, protocol: str, action: str, version: str) -> ServiceError:
    """The error for an operation the model does not have."""
    if protocol in ("query", "ec2"):
        if not action:
            return ServiceError("MissingAction", "The request must contain the parameter Action", 400)
        return ServiceError("InvalidAction", f"The action {action} is not valid for this web service: version {version}", 400)
    if service in S3_LIKE:
        return ServiceError("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)
    if service == "apigateway":
        return ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
    return ServiceError("UnknownOperationException", "", 404 if protocol.startswith("rest") else 400)


# What the links in messages ask for: without a signature (the token, or the confirmation, says whether that will do), and without a
# Version. Source: SNS API reference, ConfirmSubscription and Unsubscribe.
ACTIONS_OF_LINKS: Mapping[str, str] = {"ConfirmSubscription": "sns", "Unsubscribe": "sns"}


# Codes that services moved from query to JSON still say in x-amzn-query-error, where their models no longer do.
# Source: SQS API reference, 2012-11-05, "Errors" of each action; SDKs of the query protocol match on them.
_SQS_PREFIXED = (
    "BatchEntryIdsNotDistinct",
    "BatchRequestTooLong",
    "EmptyBatchRequest",
    "InvalidBatchEntryId",
    "MessageNotInflight",
    "PurgeQueueInProgress",
    "QueueDeletedRecently",
    "TooManyEntriesInBatchRequest",
    "UnsupportedOperation",
)
OLD_CODES: Mapping[str, Mapping[str, str]] = {
    "sqs": {
        "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
        "QueueNameExists": "QueueAlreadyExists",
        **{name: f"AWS.SimpleQueueService.{name}" for name in _SQS_PREFIXED},
    }
}

# Errors every service knows. Source: "Common Errors" of the API references; JSON services answer 400 where others answer 403.
_COMMON_STATUS: Mapping[str, int] = {
    "AccessDenied": 403,
    "AccessDeniedException": 403,
    "AuthFailure": 401,
    "ExpiredToken": 403,
    "ExpiredTokenException": 403,
    "IncompleteSignature": 403,
    "IncompleteSignatureException": 403,
    "InternalError": 500,
    "InternalFailure": 500,
    "InternalServerError": 500,
    "InvalidClientTokenId": 403,
    "InvalidSignatureException": 403,
    "MissingAuthenticationToken": 403,
    "MissingAuthenticationTokenException": 403,
    "NotImplemented": 501,
    "OptInRequired": 403,
    "RequestExpired": 400,
    "ServiceUnavailable": 503,
    "ServiceUnavailableException": 503,
    "SignatureDoesNotMatch": 403,
    "UnauthorizedOperation": 403,
    "UnrecognizedClientException": 403,
}


def common_status(code: str, protocol: str) -> int:
    status = _COMMON_STATUS.get(code, 400)
    return 400 if status in (401, 403) and protocol in ("json", "smithy-rpc-v2-cbor") else status


# -- S3 -----------------------------------------------------------------------------------------------------------------

S3_LIKE = frozenset({"s3"})
S3_ACCELERATED = "_accelerated"
"""The label, and the member, of requests that came by the host for transfer acceleration: only some buckets take them."""
S3_AS_SENT = "_request"
"""The label of requests that may be for an Object Lambda access point, whose function is told what the client sent; as a member the
request itself."""
S3_MADE = "_made"
"""The member of results that hold an answer to send as it is: status, headers, body (None: of the result)."""
OBJECT_LAMBDA_ALIAS = "--ol-s3"
S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
# Root elements the model does not name. Source: S3 API reference, "Response Syntax" of each operation.
S3_ROOTS: Mapping[str, str] = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "CreateSession": "CreateSessionResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLifecycle": "LifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketWebsite": "WebsiteConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBucketAnalyticsConfigurations": "ListBucketAnalyticsConfigurationResult",
    "ListBucketInventoryConfigurations": "ListInventoryConfigurationsResult",
    "ListBucketMetricsConfigurations": "ListMetricsConfigurationsResult",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListDirectoryBuckets": "ListAllMyDirectoryBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
}
# Source: S3 API reference, "Error Responses", list of error codes.
S3_STATUS: Mapping[str, int] = {
    "AccessControlListNotSupported": 400,
    "AccessDenied": 403,
    "AccountProblem": 403,
    "AllAccessDisabled": 403,
    "AuthorizationHeaderMalformed": 400,
    "BucketAlreadyExists": 409,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "ConditionalRequestConflict": 409,
    "CrossLocationLoggingProhibited": 403,
    "ExpiredToken": 400,
    "IllegalLocationConstraintException": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidBucketState": 409,
    "InvalidObjectState": 403,
    "InvalidPartNumber": 416,
    "InvalidRange": 416,
    "InvalidToken": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchBucketPolicy": 404,
    "NoSuchCORSConfiguration": 404,
    "NoSuchKey": 404,
    "NoSuchLifecycleConfiguration": 404,
    "NoSuchObjectLockConfiguration": 404,
    "NoSuchPublicAccessBlockConfiguration": 404,
    "NoSuchTagSet": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NoSuchWebsiteConfiguration": 404,
    "NotImplemented": 501,
    "NotModified": 304,
    "NotSignedUp": 403,
    "ObjectLockConfigurationNotFoundError": 404,
    "ObjectNotInActiveTierError": 403,
    "OperationAborted": 409,
    "OwnershipControlsNotFoundError": 404,
    "PermanentRedirect": 301,
    "PreconditionFailed": 412,
    "Redirect": 307,
    "ReplicationConfigurationNotFoundError": 404,
    "RequestTimeTooSkewed": 403,
    "RestoreAlreadyInProgress": 409,
    "ServerSideEncryptionConfigurationNotFoundError": 404,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "TemporaryRedirect": 307,
}
# Presigned URLs carry in the query string what would be headers: botocore's SigV2 form and other SDKs' SigV4 form do so.
_HOISTED = (
    "content-type",
    "content-md5",
    "content-encoding",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
)
_S3_BODILESS = frozenset({304})


_S3_SSE = "x-amz-server-side-encryption"
_S3_NUMBERS = ("max-keys", "max-uploads", "max-parts", "max-buckets", "part-number-marker", "max-directory-buckets")
_S3_NO_CONTENT = ("PutBucketPolicy", "PutBucketTagging")
"""Operations that answer 204, though the model says nothing of it."""


def s3_request_headers(request: Request) -> Mapping[str, str]:
    """The headers of a request, with those a presigned URL carries in its query string."""
    query = request.query
    if "ignature=" not in query:
        return request.headers
    values = {name.lower(): value[-1] for name, value in parse_query(query).items()}
    is_old = "awsaccesskeyid" in values
    kept = {name: value for name, value in values.items() if name.startswith("x-amz-") or (is_old and name in _HOISTED)}
    if is_old:
        kept.pop("expires", None)
    return {**kept, **request.headers}


def s3_headers(request_id: str) -> list[tuple[str, str]]:
    """x-amz-request-id and x-amz-id-2, the name of the host that answered."""
    return [("x-amz-request-id", request_id), ("x-amz-id-2", _host_id(request_id))]


def _host_id(request_id: str) -> str:
    """In the form of AWS's, base 64; which host it was is no secret here: this one."""
    return f"cGlsdmk{request_id.replace('-', '')}"


def s3_error(fault: Fault, request_id: str, request: Request, elements: str) -> Response:
    """`<Error>` is the root; HEAD and 304 have no body; header members of the error's fields (`_headers`) go out as headers."""
    headers = [*s3_headers(request_id), *(fault.fields.get("_headers") or {}).items()]
    if request.method == "HEAD" or fault.status in _S3_BODILESS:
        return Response(fault.status, headers, b"")
    known = any(f"<{name}>" in elements for name in ("Resource", "Key", "BucketName"))
    resource = "" if known else xml.element("Resource", unquote(request.raw_path))
    tail = f"<RequestId>{request_id}</RequestId><HostId>{_host_id(request_id)}</HostId>"
    headers.append(("Content-Type", "application/xml"))
    return Response(fault.status, headers, f"{xml.DECLARATION}<Error>{elements}{resource}{tail}</Error>".encode())


def s3_request(operation: Operation, decode: RequestDecoder) -> RequestDecoder:
    """S3 takes headers from presigned URLs, too, and refuses how to encrypt where an object is read."""
    reads = operation.name in ("GetObject", "HeadObject")

    def decode_s3(request: Request, body: bytes | ByteStream, params: Mapping[str, str]) -> dict[str, Any]:
        headers = s3_request_headers(request) if request.query else request.headers
        if headers is not request.headers:
            request = replace(request, headers=headers)
        if reads and _S3_SSE in headers:
            raise _s3_argument(f"{_S3_SSE} header is not supported for this operation.", _S3_SSE, headers[_S3_SSE])
        try:
            members = decode(request, body, params)
        except Malformed:
            check_s3_numbers(request.query)
            raise
        if S3_ACCELERATED in params:
            members[S3_ACCELERATED] = True
        if S3_AS_SENT in params:
            members[S3_AS_SENT] = request
        return members

    return decode_s3


def check_s3_numbers(query: str) -> None:
    """Source: as S3 words it for max-keys and partNumber."""
    for name, values in parse_query(query).items():
        value = values[-1]
        if name == "partNumber" and not value.isdigit():
            raise _s3_argument("Part number must be an integer between 1 and 10000, inclusive", name, value)
        if name in _S3_NUMBERS and not value.lstrip("-").isdigit():
            raise _s3_argument(f"Provided {name} not an integer or within integer range", name, value)


def _s3_argument(message: str, name: str, value: str) -> ServiceError:
    return ServiceError("InvalidArgument", message, 400, ArgumentName=name, ArgumentValue=value)


def s3_response(operation: Operation, encode: ResponseEncoder) -> ResponseEncoder:
    """S3's own header names, and the operations whose answers its model misdescribes."""
    name = operation.name
    if name == "GetBucketLocation":
        encode = _with_body(encode, _bucket_location)
    has_no_content = name in _S3_NO_CONTENT
    ranged = name in ("GetObject", "HeadObject")
    made = ranged or name in ("ListObjects", "ListObjectsV2")

    def encode_s3(result: Mapping[str, Any], request_id: str, request: Request) -> Response:
        response = encode(result, request_id, request)
        response.headers[:1] = s3_headers(request_id)
        if has_no_content:
            response.status = 204
        if ranged and result.get("ContentRange"):
            response.status = 206
        if made and S3_MADE in result:
            response.status, headers, content = result[S3_MADE]
            response.headers += headers
            response.body = response.body if content is None else content
        return response

    return encode_s3


def _with_body(encode: ResponseEncoder, body: Any) -> ResponseEncoder:
    def encode_body(result: Mapping[str, Any], request_id: str, request: Request) -> Response:
        response = encode(result, request_id, request)
        response.body = body(result)
        return response

    return encode_body


def _bucket_location(result: Mapping[str, Any]) -> bytes:
    """The constraint is the root itself; us-east-1 has none."""
    where = xml.escape(result.get("LocationConstraint") or "")
    return f'{xml.DECLARATION}<LocationConstraint xmlns="{S3_NAMESPACE}">{where}</LocationConstraint>'.encode()


# -- routing ------------------------------------------------------------------------------------------------------------

# Of several services with one signing name and overlapping paths, these are asked after the others.
ROUTE_LAST: Mapping[str, int] = {"docdb": 1, "neptune": 2, "wisdom": 1}
# Operations anybody may call without a signature, which nothing but path and headers tells apart from S3's path style.
UNSIGNED_REST: tuple[tuple[str, Callable[[Request], bool]], ...] = (
    ("sso", lambda request: "x-amz-sso_bearer_token" in request.headers),
    ("sso-oidc", lambda request: request.method == "POST" and _is_json(request)),
)


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("application/json")
