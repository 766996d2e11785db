"""Names of functions and layers in every form AWS accepts, and the errors that go with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pilvi.core.arn import Arn, partition_of
from pilvi.core.errors import ServiceError
from pilvi.core.service import Context

LATEST = "$LATEST"

_FUNCTION = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?"
    r"(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
_LAYER = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):layer:)?(?P<name>[a-zA-Z0-9-_]+)(?::(?P<version>\d+))?"
)


class FunctionRef(NamedTuple):
    """A function somebody named. `qualifier` is '' when none was given."""

    account: str
    region: str
    name: str
    qualifier: str

    @property
    def arn(self) -> str:
        """Without the qualifier."""
        return str(Arn(partition_of(self.region), "lambda", self.region, self.account, f"function:{self.name}"))

    @property
    def qualified_arn(self) -> str:
        """As named: with the qualifier, when one was given."""
        return f"{self.arn}:{self.qualifier}" if self.qualifier else self.arn

    @property
    def version_or_alias(self) -> str:
        """'' for $LATEST, however it was spelt."""
        return "" if self.qualifier == LATEST else self.qualifier


class LayerRef(NamedTuple):
    account: str
    region: str
    name: str
    version: int
    """0 when none was given."""

    @property
    def arn(self) -> str:
        return str(Arn(partition_of(self.region), "lambda", self.region, self.account, f"layer:{self.name}"))

    @property
    def version_arn(self) -> str:
        return f"{self.arn}:{self.version}"


def function_ref(ctx: Context, req: Mapping[str, Any], member: str = "FunctionName") -> FunctionRef:
    """Which function `req` names: a name, a partial or a full ARN, each with an optional qualifier, or a Qualifier beside it."""
    found = _FUNCTION.fullmatch(req[member])
    if found is None or (req[member].startswith("arn:") and ":function:" not in req[member]):
        raise invalid_form(req[member], member, _FUNCTION.pattern)
    region, inline, given = found["region"] or ctx.region, found["qualifier"] or "", req.get("Qualifier") or ""
    if region != ctx.region:
        raise ServiceError(
            "ResourceNotFoundException", f"Functions from '{region}' are not reachable in this region ('{ctx.region}')"
        )
    if inline and given and inline != given:
        raise invalid("The derived qualifier from the function name does not match the specified qualifier.")
    return FunctionRef(found["account"] or ctx.account, region, found["name"], given or inline)


def layer_ref(ctx: Context, text: str, version: int = 0) -> LayerRef:
    """Which layer (version) a name or an ARN means."""
    found = _LAYER.fullmatch(text)
    if found is None:
        raise invalid_form(text, "layerName", _LAYER.pattern)
    return LayerRef(
        found["account"] or ctx.account, found["region"] or ctx.region, found["name"], version or int(found["version"] or 0)
    )


def version_id(name: str, version: str) -> str:
    """The row of a published version: '/' is in no name, and the number sorts as a number."""
    return f"{name}/{int(version):012d}"


def invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterValueException", message, Type="User")


def invalid_form(value: str, member: str, pattern: str) -> ServiceError:
    return failed_constraint(value, member, f"Member must satisfy regular expression pattern: {pattern}")


def failed_constraint(value: object, member: str, rule: str) -> ServiceError:
    """What AWS's front end says. Limits that are tighter than the model's are checked here."""
    name = member[:1].lower() + member[1:]
    return ServiceError(
        "ValidationException", f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: {rule}", 400
    )


def not_found(message: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", message, Type="User", Message=message)


def function_not_found(ref: FunctionRef) -> ServiceError:
    return not_found(f"Function not found: {ref.qualified_arn}")


def conflict(message: str) -> ServiceError:
    return ServiceError("ResourceConflictException", message, Type="User")


def stale_revision() -> ServiceError:
    return ServiceError(
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        Type="User",
    )
