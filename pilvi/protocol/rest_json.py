"""REST with JSON bodies: Lambda, API Gateway, most of what came after 2012."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.http import Request, Response
from pilvi.protocol import aws_json, eventstream, rest
from pilvi.protocol.shapes import Shape
from pilvi.protocol.tree import TreeReader, TreeWriter

if TYPE_CHECKING:
    from pilvi.protocol.faults import Fault
    from pilvi.protocol.models import Operation, RequestDecoder, ResponseEncoder

CONTENT_TYPE = "application/json"


def compile_request(operation: Operation) -> RequestDecoder:
    reader = TreeReader()

    def read_document(shape: Shape) -> Any:
        convert = reader.compile(shape)
        return lambda data: convert(aws_json.parse(data))

    def read_members(_shape: Shape, members: Mapping[str, Shape]) -> Any:
        convert = reader.structure(members)
        return lambda data: convert(aws_json.parse_object(data))

    def read_events(shape: Shape) -> Any:
        return eventstream.compile_input(shape, reader, aws_json.parse)

    return rest.compile_request(operation, read_document, read_members, read_events)


def compile_response(operation: Operation) -> ResponseEncoder:
    writer = TreeWriter()
    status = operation.response_status

    def write_document(shape: Shape) -> Any:
        convert = writer.compile(shape)
        return lambda value: (aws_json.write(convert(value) if convert is not None else value), CONTENT_TYPE)

    def write_members(_shape: Shape, members: Mapping[str, Shape]) -> Any:
        convert = writer.structure(members)

        def write_body(result: Mapping[str, Any]) -> tuple[bytes, str]:
            body = convert(result)
            return (aws_json.write(body), CONTENT_TYPE) if body or status != 204 else (b"", "")

        return write_body

    def write_events(shape: Shape) -> Any:
        return eventstream.compile_packer(shape, writer, aws_json.write, CONTENT_TYPE)

    return rest.compile_response(operation, write_document, write_members, write_events)


def render_error(fault: Fault, request_id: str, request: Request) -> Response:
    headers = [("Content-Type", CONTENT_TYPE), ("x-amzn-RequestId", request_id), ("x-amzn-errortype", fault.name)]
    in_body = dict(fault.fields)
    if fault.shape is not None:
        rest.headers_writer(fault.shape)(fault.fields, headers)
        placed = {name for name, member in fault.shape.members.items() if member.location}
        in_body = {name: value for name, value in fault.fields.items() if name not in placed}
    body = aws_json.write(aws_json.error_members(fault.with_fields(in_body)))
    return Response(fault.status, headers, b"" if request.method == "HEAD" else body)
