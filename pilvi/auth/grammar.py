"""What a policy document must look like before anybody stores it, and AWS's sentence for each thing that is wrong.

Checks come in AWS's order: syntax, version, values the old parser refuses, unique statement ids, actions, resources. For
identity and trust policies the sentences are IAM's (code MalformedPolicyDocument), for resource policies S3's (MalformedPolicy).

Sources: IAM User Guide, "Grammar of the IAM JSON policy language"; answers of IAM and S3 as quoted in public issue trackers
and in other projects' recordings against AWS.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pilvi.auth import conditions
from pilvi.core.errors import Invalid

PolicyKind = Literal["identity", "resource", "trust"]
Document = Mapping[str, Any]

_SYNTAX = "Syntax errors in policy."
_LEGACY = "The policy failed legacy parsing"
_VERSIONS = ("2012-10-17", "2008-10-17")
_TOP = frozenset({"Version", "Id", "Statement"})
_ELEMENTS = frozenset({"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"})
_PRINCIPAL_TYPES = frozenset({"AWS", "Service", "Federated", "CanonicalUser"})
_PARTITIONS = frozenset({"aws", "aws-cn", "aws-us-gov", "aws-eusc", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "*"})
_IAM_PATHS = (
    "user/",
    "federated-user/",
    "role/",
    "group/",
    "instance-profile/",
    "mfa/",
    "server-certificate/",
    "policy/",
    "sms-mfa/",
    "saml-provider/",
    "oidc-provider/",
    "report/",
    "access-report/",
)


class MalformedPolicy(Invalid):
    """A policy document that AWS would refuse; the message is AWS's."""


def read_document(document: str | Document, kind: PolicyKind) -> dict[str, Any]:
    """The document as a mapping, its Statement always a list. MalformedPolicy when it is not a policy of this kind."""
    policy = _loaded(document, kind)
    statements: Any = policy.get("Statement")
    if isinstance(statements, Mapping):
        statements = [statements]
    _check_top(policy, statements, kind)
    for statement in statements:
        _check_elements(statement, kind)
    version = policy.get("Version", "2008-10-17")
    if kind == "identity" and version != "2012-10-17":
        raise MalformedPolicy("Policy document must be version 2012-10-17 or greater.")
    for statement in statements:
        _check_values(statement, kind)
    _check_ids(statements, kind)
    for statement in statements:
        _check_actions_and_resources(statement, kind)
    return {**policy, "Version": version, "Statement": statements}


def _loaded(document: str | Document, kind: PolicyKind) -> Document:
    if isinstance(document, Mapping):
        return document
    try:
        loaded = json.loads(document, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, dict):
        raise MalformedPolicy("Policies must be valid JSON and the first byte must be '{'" if kind == "resource" else _SYNTAX)
    return loaded


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# -- syntax -------------------------------------------------------------------------------------------------------------


def _check_top(policy: Document, statements: Any, kind: PolicyKind) -> None:
    if "Statement" not in policy and kind == "resource":
        raise MalformedPolicy("Missing required field Statement")
    well_formed = (
        policy.keys() <= _TOP
        and isinstance(statements, list)
        and bool(statements)
        and all(isinstance(statement, Mapping) for statement in statements)
        and policy.get("Version", _VERSIONS[0]) in _VERSIONS
        and isinstance(policy.get("Id", ""), str)
    )
    if not well_formed:
        raise MalformedPolicy(_syntax(kind))


def _syntax(kind: PolicyKind) -> str:
    return "Invalid policy syntax." if kind == "resource" else _SYNTAX


def _check_elements(statement: Document, kind: PolicyKind) -> None:
    if "Effect" not in statement and kind == "resource":
        raise MalformedPolicy("Missing required field Effect")
    effect = statement.get("Effect")
    well_formed = (
        statement.keys() <= _ELEMENTS
        and isinstance(effect, str)
        and effect.lower() in ("allow", "deny")
        and not ("Action" in statement and "NotAction" in statement)
        and not ("Resource" in statement and "NotResource" in statement)
        and not ("Principal" in statement and "NotPrincipal" in statement)
        and all(_is_texts(statement[name]) for name in ("Action", "NotAction", "Resource", "NotResource") if name in statement)
        and isinstance(statement.get("Sid", ""), str)
        and _is_condition(statement.get("Condition", {}))
        and all(_is_principal(statement[name]) for name in ("Principal", "NotPrincipal") if name in statement)
    )
    if not well_formed:
        raise MalformedPolicy(_syntax(kind))


def _is_texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _is_condition(condition: Any) -> bool:
    """Operators that exist, each with keys, each with a value or a list of values. An operator without keys says nothing."""
    if not isinstance(condition, Mapping):
        return False
    for operator, keys in condition.items():
        if not isinstance(keys, Mapping) or (keys and not conditions.known_operator(operator)):
            return False
        for values in keys.values():
            items = values if isinstance(values, list) else [values]
            if not all(isinstance(item, (str, int, float)) for item in items):
                return False
    return True


def _is_principal(principal: Any) -> bool:
    if isinstance(principal, str):
        return True
    return isinstance(principal, Mapping) and bool(principal) and all(_is_texts(value) for value in principal.values())


# -- values -------------------------------------------------------------------------------------------------------------


def _check_values(statement: Document, kind: PolicyKind) -> None:
    """What the old parser refuses: the effect's letters, values an operator cannot read, ARNs with parts missing."""
    if statement["Effect"] not in ("Allow", "Deny"):
        raise MalformedPolicy(_LEGACY if kind != "resource" else f"Invalid effect: {statement['Effect']}")
    try:
        conditions.compile_condition(statement.get("Condition", {}), variables=True)
    except conditions.BadValue:
        raise MalformedPolicy(_LEGACY if kind != "resource" else "Invalid Condition value") from None
    if kind == "identity":
        resources = texts(statement.get("Resource", statement.get("NotResource", [])))
        if any(_misses_parts(resource) for resource in resources):
            raise MalformedPolicy(_LEGACY)


def _misses_parts(resource: str) -> bool:
    parts = resource.split(":")
    return parts[0] == "arn" and len(parts) > 2 and parts[1] in _PARTITIONS and (not parts[2] or 3 < len(parts) < 6)


def _check_ids(statements: Sequence[Document], kind: PolicyKind) -> None:
    ids = [statement["Sid"] for statement in statements if statement.get("Sid")]
    if len(set(ids)) < len(ids):
        raise MalformedPolicy("Statement IDs (SID) in a single policy must be unique.")
    if kind != "resource" and any(not (sid.isascii() and sid.isalnum()) for sid in ids):
        raise MalformedPolicy(
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"
        )


def _check_actions_and_resources(statement: Document, kind: PolicyKind) -> None:
    actions = texts(statement.get("Action", statement.get("NotAction", [])))
    resources = texts(statement.get("Resource", statement.get("NotResource", [])))
    has_principal = "Principal" in statement or "NotPrincipal" in statement
    if kind == "identity":
        if has_principal:
            raise MalformedPolicy("Policy document should not specify a principal.")
        _require(actions, "Policy statement must contain actions.")
        _require_vendors(actions)
        _require(resources, "Policy statement must contain resources.")
        for resource in sorted(resources):
            _check_resource(resource)
        return
    if kind == "trust":
        if "Resource" in statement or "NotResource" in statement:
            raise MalformedPolicy(f"Has prohibited field {'Resource' if 'Resource' in statement else 'NotResource'}")
        _require(has_principal, "Missing required field Principal")
        _require(actions, "Policy statement must contain actions.")
        if any(not action.lower().startswith("sts:") for action in actions):
            raise MalformedPolicy("AssumeRole policy may only specify STS AssumeRole actions.")
    else:
        _require(has_principal, "Missing required field Principal")
        _require(actions, "Missing required field Action")
        _require(resources, "Missing required field Resource")
        if any(":" not in action and action != "*" for action in actions):
            raise MalformedPolicy("Policy has invalid action")
        if any(resource != "*" and not resource.startswith("arn:") for resource in resources):
            raise MalformedPolicy("Policy has invalid resource")
    _check_principal(statement.get("Principal", statement.get("NotPrincipal")), kind)


def _require(present: object, message: str) -> None:
    if not present:
        raise MalformedPolicy(message)


def _require_vendors(actions: Sequence[str]) -> None:
    for action in actions:
        vendor, colon, name = action.partition(":")
        if action == "*":
            continue
        if not colon:
            raise MalformedPolicy("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
        if ":" in name:
            raise MalformedPolicy("Actions/Condition can contain only one colon.")
        if not vendor.replace("-", "").replace(".", "").isalnum() or not vendor.isascii():
            raise MalformedPolicy(f"Vendor {vendor} is not valid")


def _check_resource(resource: str) -> None:
    if resource == "*":
        return
    parts = resource.split(":")
    if len(parts) == 1:
        raise MalformedPolicy(f'Resource {resource} must be in ARN format or "*".')
    if parts[1] not in _PARTITIONS:
        rest = [*parts[2:5], ":".join(parts[5:])] if len(parts) > 5 else parts[2:]
        rest += ["*"] * (4 - len(rest))
        raise MalformedPolicy(f'Partition "{parts[1]}" is not valid for resource "arn:{parts[1]}:{":".join(rest)}".')
    vendor = parts[2] if len(parts) > 2 else ""
    if not vendor or "*" in vendor or "?" in vendor:
        raise MalformedPolicy("Resource vendor must be fully qualified and cannot contain regexes.")
    region = parts[3] if len(parts) > 3 else ""
    if vendor == "iam":
        _check_iam_resource(resource, region, parts[5] if len(parts) > 5 else "")
    elif vendor == "s3" and region not in ("", "*") and not _may_have_region(parts):
        raise MalformedPolicy(f"Resource {resource} can not contain region information.")


def _may_have_region(parts: Sequence[str]) -> bool:
    """Access points and jobs of S3 live in a Region; buckets and objects carry none in their ARN."""
    return len(parts) > 5 and parts[5].startswith(("accesspoint/", "job/", "storage-lens", "access-grants"))


def _check_iam_resource(resource: str, region: str, path: str) -> None:
    if region not in ("", "*"):
        raise MalformedPolicy(f"IAM resource {resource} cannot contain region information.")
    if path[:1] not in ("*", "?") and path != "root" and not path.startswith(_IAM_PATHS):
        raise MalformedPolicy(f'IAM resource path must either be "*" or start with {", ".join(_IAM_PATHS)}.')


def _check_principal(principal: Any, kind: PolicyKind) -> None:
    if isinstance(principal, str):
        if principal != "*":
            raise MalformedPolicy("Invalid principal in policy")
        return
    for name, values in principal.items():
        if name == "*" and values == "*":
            continue
        if name not in _PRINCIPAL_TYPES:
            raise MalformedPolicy(
                f"Invalid principal in policy: {json.dumps(name)}:{json.dumps(values)}"
                if kind == "trust"
                else "Invalid principal in policy"
            )
        for value in texts(values):
            if (name == "AWS" and not _is_aws_principal(value)) or not value:
                raise MalformedPolicy(
                    f'Invalid principal in policy: "{name}":"{value}"' if kind == "trust" else "Invalid principal in policy"
                )


def _is_aws_principal(text: str) -> bool:
    """`*`, an account, a unique id, or the ARN of a user, role, session or account; no other wildcards."""
    if text == "*" or (len(text) == 12 and text.isdigit()):
        return True
    if text.startswith("arn:"):
        parts = text.split(":")
        account = parts[4] if len(parts) > 5 else ""
        is_named = len(parts) > 5 and bool(parts[5]) and "*" not in text and "?" not in text
        return is_named and parts[2] in ("iam", "sts") and ((len(account) == 12 and account.isdigit()) or account == "cloudfront")
    return text[:4] in ("AIDA", "AROA", "AGPA", "ANPA") and text.isalnum()


def texts(value: Any) -> list[str]:
    """One text or a list of them, as a list."""
    return [value] if isinstance(value, str) else list(value)
