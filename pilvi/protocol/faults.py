"""From an error a handler raised to what the wire needs: name, code, status, and the error's shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import ServiceError
from pilvi.protocol import quirks
from pilvi.protocol.shapes import Shape

if TYPE_CHECKING:
    from pilvi.protocol.models import ServiceModel


@dataclass(frozen=True, slots=True)
class Fault:
    """Everything a protocol's `render_error` may ask."""

    name: str
    """What JSON and CBOR call it: the shape's name (`QueueDoesNotExist`)."""
    code: str
    """What XML calls it: the modelled code (`AWS.SimpleQueueService.NonExistentQueue`)."""
    message: str
    status: int
    sender: bool = True
    """Whether the caller is to blame."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    shape: Shape | None = None
    query_error: str = ""
    """`code;Sender` for services that once spoke query."""
    service: str = ""
    json_version: str = "1.1"
    xml_namespace: str = ""

    def with_fields(self, fields: Mapping[str, Any]) -> Fault:
        return replace(self, fields=fields)


def fault_of(error: ServiceError, protocol: str, service: ServiceModel | str) -> Fault:
    """What an error is on the wire of a protocol. service: its model, or only its name, or ''."""
    if isinstance(service, str):
        status = error.status or status_of(error.code, protocol, service, None)
        return Fault(error.code, error.code, error.message, status, status < 500, error.fields, service=service)
    shape = service.error_shape(error.code)
    status = error.status or status_of(error.code, protocol, service.name, shape)
    if shape is None:
        code = error.code
        blank = Fault(code, code, error.message, status, status < 500, error.fields, service=service.name)
        return replace(blank, json_version=service.json_version, xml_namespace=service.xml_namespace)
    modelled = shape.traits.get("error", {})
    code = modelled.get("code") or service.old_codes.get(shape.name) or shape.name
    sender = bool(modelled.get("senderFault", status < 500))
    return Fault(
        shape.name,
        code,
        error.message,
        status,
        sender,
        error.fields,
        shape,
        f"{code};{'Sender' if sender else 'Receiver'}" if service.is_query_compatible else "",
        service.name,
        service.json_version,
        service.xml_namespace,
    )


def status_of(code: str, protocol: str, service: str, shape: Shape | None) -> int:
    """The model's status, else the one AWS is known to use, else 400."""
    if service in quirks.S3_LIKE and code in quirks.S3_STATUS:
        return quirks.S3_STATUS[code]
    if shape is not None:
        modelled = shape.traits.get("error", {}).get("httpStatusCode")
        if modelled:
            return int(modelled)
        if shape.traits.get("fault"):
            return 500
    return quirks.common_status(code, protocol)
