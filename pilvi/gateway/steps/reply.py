"""Say what came of it, as the client's protocol words it: a result, or an error by AWS's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.auth.errors import AuthError, service_error
from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.http import Response
from pilvi.gateway.dispatch import DEFAULT_CODES

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call


def reply(gateway: Gateway, call: Call) -> None:
    assert call.match is not None
    call.response = call.operation.encode(
        call.result, protocol=call.match.protocol, request_id=call.request_id, request=call.request
    )


def refuse(gateway: Gateway, call: Call, error: PilviError) -> None:
    known = error_of(call, error)
    call.error_code = known.code
    match = call.match
    call.response = gateway.cloud.models.encode_error(
        known,
        service=match.service if match is not None else "s3",
        protocol=match.protocol if match is not None else "rest-xml",
        request_id=call.request_id,
        request=call.request,
    )


def error_of(call: Call, error: PilviError) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, AuthError):
        match = call.match
        signing_name = call.claim.service if call.claim is not None else match.service if match is not None else "s3"
        return service_error(error, match.protocol if match is not None else "rest-xml", signing_name)
    for kind, code, status in DEFAULT_CODES:
        if isinstance(error, kind):
            return ServiceError(code, error.message, status, **error.fields)
    return internal_failure()


def internal_failure() -> ServiceError:
    return ServiceError("InternalFailure", "The request processing has failed because of an unknown error.", 500)


def plain(status: int, body: bytes, content_type: str = "application/json") -> Response:
    return Response(status, [("Content-Type", content_type)], body)
