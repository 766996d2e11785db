"""REST with XML bodies: S3, Route 53, CloudFront. What is S3's alone stands in quirks.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.http import Request, Response
from pilvi.protocol import eventstream, query, quirks, rest, xml
from pilvi.protocol.s3_listing import ListingWriter
from pilvi.protocol.shapes import Shape

if TYPE_CHECKING:
    from pilvi.protocol.faults import Fault
    from pilvi.protocol.models import Operation, RequestDecoder, ResponseEncoder

CONTENT_TYPE = "application/xml"


def compile_request(operation: Operation) -> RequestDecoder:
    reader = xml.XmlReader()

    def read_document(shape: Shape) -> Any:
        convert = reader.compile(shape)
        return lambda data: convert(xml.parse(data))

    def read_members(_shape: Shape, members: Mapping[str, Shape]) -> Any:
        convert = reader.structure(members)
        return lambda data: convert(xml.parse(data))

    def read_events(shape: Shape) -> Any:
        return eventstream.compile_input(shape, reader, xml.parse)

    decode = rest.compile_request(operation, read_document, read_members, read_events)
    return quirks.s3_request(operation, decode) if operation.service == "s3" else decode


def compile_response(operation: Operation) -> ResponseEncoder:
    service = operation.service_model
    is_s3 = service.name == "s3"
    writer = ListingWriter() if is_s3 else xml.XmlWriter()
    namespace = quirks.S3_NAMESPACE if is_s3 else service.xml_namespace

    def write_document(shape: Shape) -> Any:
        write = writer.element(shape, shape.wire_name or shape.name, namespace)
        return lambda value: ((xml.DECLARATION + write(value)).encode(), CONTENT_TYPE)

    def write_members(shape: Shape, members: Mapping[str, Shape]) -> Any:
        root = quirks.S3_ROOTS.get(operation.name, shape.name) if is_s3 else shape.wire_name or shape.name
        content = writer.members(members)
        opening = f'{xml.DECLARATION}<{root} xmlns="{namespace}">' if namespace else f"{xml.DECLARATION}<{root}>"
        return lambda result: (f"{opening}{content(result)}</{root}>".encode(), CONTENT_TYPE)

    def write_events(shape: Shape) -> Any:
        return eventstream.compile_packer(shape, writer, str.encode, "text/xml")

    encode = rest.compile_response(operation, write_document, write_members, write_events)
    return quirks.s3_response(operation, encode) if is_s3 else encode


def render_error(fault: Fault, request_id: str, request: Request) -> Response:
    if fault.service in quirks.S3_LIKE:
        return quirks.s3_error(fault, request_id, request, query.error_elements(fault))
    response = query.render_error(fault, request_id, request)
    if request.method == "HEAD":
        response.body = b""
    return response
