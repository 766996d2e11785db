"""EC2's dialect of the query protocol: other names in the form, no result wrapper in the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.http import Request, Response
from pilvi.protocol import query, xml
from pilvi.protocol.shapes import Shape

if TYPE_CHECKING:
    from pilvi.protocol.faults import Fault
    from pilvi.protocol.models import Operation, RequestDecoder, ResponseEncoder


class Ec2FormReader(query.FormReader):
    """Names are queryName, else the capitalised locationName; lists are always flat."""

    def names(self, name: str, member: Shape) -> list[str]:
        if "queryName" in member.traits:
            return [member.traits["queryName"]]
        wire = member.wire_name or name
        capital = wire[0].upper() + wire[1:]
        return [capital] if member.wire_name else [name, capital]

    def list_(self, shape: Shape) -> query.ReadBranch:
        read = self.compile(shape.member)
        return lambda branch: [read(item) for item in query.indexed(branch)]


def compile_request(operation: Operation) -> RequestDecoder:
    return query.compile_form(operation, Ec2FormReader())


def compile_response(operation: Operation) -> ResponseEncoder:
    opening = f'{xml.DECLARATION}<{operation.name}Response xmlns="{operation.service_model.xml_namespace}">'
    closing = f"</{operation.name}Response>"
    shape = operation.output
    content = xml.XmlWriter(millis=True).content(shape) if shape is not None else None

    def encode(result: Mapping[str, Any], request_id: str, _request: Request) -> Response:
        inner = "<return>true</return>" if content is None else content(result)
        body = f"{opening}<requestId>{request_id}</requestId>{inner}{closing}"
        return Response(200, [("Content-Type", "text/xml;charset=UTF-8"), ("x-amzn-RequestId", request_id)], body.encode())

    return encode


def render_error(fault: Fault, request_id: str, _request: Request) -> Response:
    errors = f"<Errors><Error>{query.error_elements(fault)}</Error></Errors>"
    body = f"{xml.DECLARATION}<Response>{errors}<RequestID>{request_id}</RequestID></Response>"
    headers = [("Content-Type", "text/xml;charset=UTF-8"), ("x-amzn-RequestId", request_id)]
    return Response(fault.status, headers, body.encode())
