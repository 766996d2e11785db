"""The query protocol: a form with Action and Version in, XML out. Also the form reader that ec2.py shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_plus

from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream
from pilvi.protocol import scalars, xml
from pilvi.protocol.aws_json import body_bytes
from pilvi.protocol.shapes import Malformed, Shape

if TYPE_CHECKING:
    from pilvi.protocol.faults import Fault
    from pilvi.protocol.models import Operation, RequestDecoder, ResponseEncoder

CONTENT_TYPE = "text/xml"
_MAX_DEPTH = 64
_SHORT_FORM = 64
"""Bytes; calls without parameters are shorter than this, and nothing secret is."""
_MAX_MEMBERS = 100_000

Branch = dict[str, Any]
"""`A.B.1=x` as {"A": {"B": {"1": {"": "x"}}}}: a value stands under the empty name."""
ReadBranch = Callable[[Branch], Any]


@lru_cache(maxsize=1024)
def parse_query(raw: str) -> Mapping[str, list[str]]:
    """A query string's values by name, in order; `?acl` has the value ''. Cached: routing and decoding both ask."""
    found: dict[str, list[str]] = {}
    if raw:
        for part in raw.split("&"):
            if part:
                name, _, value = part.partition("=")
                found.setdefault(_decoded(name), []).append(_decoded(value))
    return found


def _decoded(text: str) -> str:
    if "%" in text:
        return unquote_plus(text)
    return text.replace("+", " ") if "+" in text else text


def parse_form(body: bytes) -> Mapping[str, str]:
    """A form's values by name; the last of a repeated name counts."""
    return _known_form(body) if len(body) <= _SHORT_FORM else _parse_form(body)


def _parse_form(body: bytes) -> dict[str, str]:
    try:
        text = body.decode("ascii") if body.isascii() else body.decode()
    except UnicodeDecodeError:
        raise Malformed("the form is not text") from None
    found = {}
    for part in text.strip().split("&"):
        if part:
            name, _, value = part.partition("=")
            found[_decoded(name)] = _decoded(value)
    return found


_known_form = lru_cache(maxsize=512)(_parse_form)


def form_of(request: Request, body: bytes) -> Mapping[str, str]:
    """All parameters of a query request: of the query string, then of the body."""
    form = parse_form(body)
    if not request.query:
        return form
    return {**{name: values[-1] for name, values in parse_query(request.query).items()}, **form}


def branch_of(form: Mapping[str, str]) -> Branch:
    """The tree that dotted names spell."""
    if len(form) > _MAX_MEMBERS:
        raise Malformed("too many parameters")
    root: Branch = {}
    for name, value in form.items():
        parts = name.split(".")
        if len(parts) > _MAX_DEPTH:
            raise Malformed("parameters are nested too deeply")
        here = root
        for part in parts:
            here = here.setdefault(part, {})
        here[""] = value
    return root


def indexed(branch: Branch) -> list[Branch]:
    """The items `1`, `2`, ... in order; gaps are allowed."""
    numbered = [(int(name), item) for name, item in branch.items() if name.isdecimal()]
    numbered.sort(key=lambda pair: pair[0])
    return [item for _, item in numbered]


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "integer": scalars.parse_int,
    "long": scalars.parse_int,
    "float": scalars.parse_float,
    "double": scalars.parse_float,
    "boolean": scalars.parse_bool,
    "blob": scalars.parse_blob,
    "timestamp": scalars.parse_timestamp,
}


class FormReader:
    """Compiles readers of forms."""

    def __init__(self) -> None:
        self._structures: dict[str, ReadBranch] = {}

    def compile(self, shape: Shape) -> ReadBranch:
        if shape.kind == "structure":
            return self._structure(shape)
        if shape.kind == "list":
            return self.list_(shape)
        if shape.kind == "map":
            return self._map(shape)
        convert = _SCALARS.get(shape.kind)
        if convert is None:
            return lambda branch: branch.get("", "")
        return lambda branch: convert(branch.get("", ""))

    def names(self, name: str, member: Shape) -> list[str]:
        """Under which names a member may stand."""
        wire = member.wire_name or name
        if member.kind == "list" and member.is_flat and member.member.wire_name:
            return [member.member.wire_name, wire]
        return [wire]

    def _structure(self, shape: Shape) -> ReadBranch:
        done = self._structures.get(shape.name)
        if done is not None:
            return done
        table: dict[str, tuple[str, ReadBranch]] = {}

        def read(branch: Branch) -> dict[str, Any]:
            out = {}
            for key, item in branch.items():
                entry = table.get(key)
                if entry is not None:
                    out[entry[0]] = entry[1](item)
            return out

        self._structures[shape.name] = read
        for name, member in shape.members.items():
            convert = self.compile(member)
            for wire in self.names(name, member):
                table.setdefault(wire, (name, convert))
        return read

    def list_(self, shape: Shape) -> ReadBranch:
        read = self.compile(shape.member)
        inner = shape.member.wire_name or "member"
        flat = shape.is_flat

        def read_list(branch: Branch) -> list[Any]:
            below = branch if flat or inner not in branch else branch[inner]
            return [read(item) for item in indexed(below)]

        return read_list

    def _map(self, shape: Shape) -> ReadBranch:
        key_name, value_name = shape.key.wire_name or "key", shape.value.wire_name or "value"
        read = self.compile(shape.value)
        flat = shape.is_flat

        def read_map(branch: Branch) -> dict[str, Any]:
            below = branch if flat else branch.get("entry", {})
            pairs = [item for item in indexed(below) if key_name in item]
            return {item[key_name].get("", ""): read(item.get(value_name, {})) for item in pairs}

        return read_map


def compile_request(operation: Operation) -> RequestDecoder:
    return compile_form(operation, FormReader())


def compile_form(operation: Operation, reader: FormReader) -> RequestDecoder:
    if operation.input is None:
        return lambda _request, _body, _params: {}
    read = reader.compile(operation.input)

    def decode(request: Request, body: bytes | ByteStream, _params: Mapping[str, str]) -> dict[str, Any]:
        result: dict[str, Any] = read(branch_of(form_of(request, body_bytes(body))))
        return result

    return decode


def action_of(form: bytes, query: str) -> tuple[str, str]:
    """Action and Version, without decoding the rest."""
    return _known_action(form, query) if len(form) + len(query) <= _SHORT_FORM else _find_action(form, query)


def _find_action(form: bytes, query: str) -> tuple[str, str]:
    action, version = "", ""
    for text in (query, form.decode("utf-8", "replace")):
        for part in text.strip().split("&"):
            if part.startswith("Action="):
                action = unquote(part[7:])
            elif part.startswith("Version="):
                version = unquote(part[8:])
    return action, version


_known_action = lru_cache(maxsize=512)(_find_action)
"""Short forms are few and come again and again: calls without parameters."""


def headers(request_id: str) -> list[tuple[str, str]]:
    return [("Content-Type", CONTENT_TYPE), ("x-amzn-RequestId", request_id)]


def compile_response(operation: Operation) -> ResponseEncoder:
    namespace = operation.service_model.xml_namespace
    opening = f'<{operation.name}Response xmlns="{namespace}">' if namespace else f"<{operation.name}Response>"
    closing = f"</{operation.name}Response>"
    shape = operation.output
    wrapper = operation.result_wrapper
    content = xml.XmlWriter().content(shape) if shape is not None else None

    def encode(result: Mapping[str, Any], request_id: str, _request: Request) -> Response:
        inner = "" if content is None else content(result)
        if wrapper and content is not None:
            inner = f"<{wrapper}>{inner}</{wrapper}>"
        metadata = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        return Response(200, headers(request_id), f"{opening}{inner}{metadata}{closing}".encode())

    return encode


def render_error(fault: Fault, request_id: str, _request: Request) -> Response:
    xmlns = f' xmlns="{fault.xml_namespace}"' if fault.xml_namespace else ""
    inner = error_elements(fault)
    kind = "Sender" if fault.sender else "Receiver"
    body = f"<ErrorResponse{xmlns}><Error><Type>{kind}</Type>{inner}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    return Response(fault.status, headers(request_id), body.encode())


def error_elements(fault: Fault) -> str:
    """Code, Message and the error's own members."""
    parts = [xml.element("Code", fault.code), xml.element("Message", fault.message)]
    shape = fault.shape
    named = {} if shape is None else {name: member for name, member in shape.members.items() if name.lower() != "message"}
    if named:
        parts.append(xml.XmlWriter().members(named)(fault.fields))
    loose = {name: value for name, value in fault.fields.items() if name not in named and not name.startswith("_")}
    parts += [xml.element(name, scalars.text_of(value)) for name, value in loose.items() if value is not None]
    return "".join(parts)
