"""How a refusal is worded: by service and protocol, naming caller, action, resource and which policy stood in the way.

Source: IAM User Guide, "Troubleshoot access denied error messages"; S3 User Guide, "Troubleshoot access denied (403) errors"
(S3 puts the resource in quotes, says nothing of it for account-wide actions, and tells strangers nothing at all).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.auth.errors import S3_SERVICES
from pilvi.core.errors import ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Access

if TYPE_CHECKING:
    from pilvi.auth.policy import Decision

_CODES = {
    "query": ("AccessDenied", 403),
    "ec2": ("UnauthorizedOperation", 403),
    "rest-xml": ("AccessDenied", 403),
    "rest-json": ("AccessDeniedException", 403),
}


def denied(principal: Principal, access: Access, decision: Decision, protocol: str, service: str) -> ServiceError:
    """The error a service answers when policies do not let a caller in."""
    code, status = _CODES.get(protocol, ("AccessDeniedException", 400))
    if service == "sns":
        code = "AuthorizationError"
    if service in S3_SERVICES:
        return ServiceError("AccessDenied", _s3_message(principal, access, decision), 403)
    if protocol == "ec2":
        return ServiceError(
            code, f"You are not authorized to perform this operation. {sentence(principal, access, decision)}", status
        )
    return ServiceError(code, sentence(principal, access, decision), status)


def sentence(principal: Principal, access: Access, decision: Decision) -> str:
    """User: ... is not authorized to perform: ... on resource: ... because ..."""
    return (
        f"{_who(principal)} is not authorized to perform: {access.action} on resource: {access.resource} {decision.reason}".rstrip()
    )


def _s3_message(principal: Principal, access: Access, decision: Decision) -> str:
    is_stranger = bool(access.resource_account) and access.resource_account != principal.account
    if principal.kind == "anonymous" or is_stranger:
        return "Access Denied"
    on = "" if access.resource == "*" or access.resource.endswith(":s3:::*") else f' on resource: "{access.resource}"'
    return f"{_who(principal)} is not authorized to perform: {access.action}{on} {decision.reason}".rstrip()


def _who(principal: Principal) -> str:
    return f"User: {principal.arn or principal.name or 'anonymous'}"
