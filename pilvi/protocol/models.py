"""Services and operations, driven by botocore's models at run time; each operation's closures are compiled at its first use.

Models ── service("s3") ──> ServiceModel ── operation("GetObject") ──> Operation
                                                                        decode  check  encode  encode_error
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from botocore import xform_name

from pilvi.core.errors import ServiceError
from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream
from pilvi.protocol import aws_json, cbor, ec2, old_query, query, quirks, rest_json, rest_xml
from pilvi.protocol.check import Checker
from pilvi.protocol.faults import fault_of
from pilvi.protocol.index import Entry, load_index, load_model
from pilvi.protocol.shapes import Malformed, Shape

if TYPE_CHECKING:
    from botocore.model import OperationModel

_MAX_UNPACKED_BYTES = 64 << 20
RequestDecoder = Callable[[Request, "bytes | ByteStream", Mapping[str, str]], "dict[str, Any]"]
ResponseEncoder = Callable[[Mapping[str, Any], str, Request], Response]

PROTOCOLS: Mapping[str, Any] = {
    "json": aws_json,
    "query": query,
    "ec2": ec2,
    "rest-json": rest_json,
    "rest-xml": rest_xml,
    "smithy-rpc-v2-cbor": cbor,
}


class Models:
    """Every service the installed botocore knows."""

    def __init__(self, cache_dir: Path | None = None) -> None:
        """cache_dir: where the index may be kept between starts."""
        self.index: dict[str, Entry] = {entry.name: entry for entry in load_index(cache_dir)}
        self._services: dict[str, ServiceModel] = {}
        self._lock = Lock()

    def names(self) -> list[str]:
        """The services' names, as botocore has them."""
        return list(self.index)

    def named(self, sdk_name: str) -> str | None:
        """botocore's name for the one that other SDKs have: `sfn`, `eventbridge`, `cloudwatchlogs`; its own is fine too."""
        wanted = sdk_name.lower()
        if wanted in self.index:
            return wanted
        ids = {entry.service_id.lower().replace(" ", "").replace("-", ""): name for name, entry in self.index.items()}
        return ids.get(wanted.replace("-", ""))

    def is_global(self, name: str) -> bool:
        """Whether a service has one endpoint for all Regions."""
        return self.index[name].is_global

    def service(self, name: str) -> ServiceModel:
        """A service's model, read at its first use. KeyError when botocore has none of this name."""
        found = self._services.get(name)
        if found is not None:
            return found
        entry = self.index[name]
        with self._lock:
            if name not in self._services:
                self._services[name] = ServiceModel(entry, load_model(entry))
            return self._services[name]

    def encode_error(self, error: ServiceError, *, service: str, protocol: str, request_id: str, request: Request) -> Response:
        """An error of a request whose operation is not known; service may be ''."""
        model = self.service(service) if service in self.index else service
        return encode_error(error, protocol=protocol, request_id=request_id, request=request, service=model)


class ServiceModel:
    """One service."""

    def __init__(self, entry: Entry, raw: Mapping[str, Any]) -> None:
        metadata = raw["metadata"]
        self.entry = entry
        self.raw = raw
        self.name = entry.name
        self.signing_name = entry.signing_name
        self.api_version = entry.api_version
        self.target_prefix = entry.target_prefix
        self.service_id = entry.service_id
        self.protocols = entry.protocols
        self.protocol = entry.protocol
        """The default one."""
        self.json_version: str = metadata.get("jsonVersion", "1.0")
        self.is_query_compatible = "awsQueryCompatible" in metadata
        self.xml_namespace: str = metadata.get("xmlNamespace", "")
        self.old_codes = quirks.OLD_CODES.get(self.name, {})
        """Error codes of a protocol it spoke before, by shape."""
        self.shapes: Mapping[str, Mapping[str, Any]] = raw["shapes"]
        self.checker = Checker(
            open_enums=quirks.OPEN_ENUMS.get(self.name, frozenset()), sizes=self.name not in quirks.LENGTHS_LEFT_TO_SERVICE
        )
        self._operations: dict[str, Operation] = {}
        self._functions: dict[str, str] | None = None
        self._errors: dict[str, str] | None = None
        self._botocore: Any = None
        self._in_query: ServiceModel | None = None

    def in_protocol(self, protocol: str) -> ServiceModel:
        """The same service, with the names that a protocol it spoke before gives its members."""
        if protocol != "query" or self.name not in old_query.NAMES:
            return self
        if self._in_query is None:
            self._in_query = ServiceModel(self.entry, old_query.in_query(self.name, self.raw))
            self._in_query._in_query = self._in_query
        return self._in_query

    def operation_names(self) -> list[str]:
        return list(self.raw["operations"])

    def operation(self, name: str) -> Operation | None:
        """An operation by its name in the model; None when there is none."""
        found = self._operations.get(name)
        if found is None and name in self.raw["operations"]:
            found = self._operations.setdefault(name, Operation(self, name, self.raw["operations"][name]))
        return found

    def operation_named(self, name: str) -> str | None:
        """An operation's name however it is capitalised: `sendMessage`, `getQueueURL`."""
        wanted = name.lower()
        return next((known for known in self.raw["operations"] if known.lower() == wanted), None)

    def operation_for_function(self, function: str) -> Operation | None:
        """An operation by boto3's name for it."""
        if self._functions is None:
            self._functions = {xform_name(name): name for name in self.raw["operations"]}
        name = self._functions.get(function)
        return None if name is None else self.operation(name)

    def function_name(self, operation: str) -> str:
        """boto3's name for an operation."""
        return xform_name(operation)

    def error_shape(self, code: str) -> Shape | None:
        """The shape of an error, by its name or its code."""
        if self._errors is None:
            errors = [(name, shape) for name, shape in self.shapes.items() if shape.get("exception")]
            codes = {shape["error"]["code"]: name for name, shape in errors if shape.get("error", {}).get("code")}
            codes |= {code: name for name, code in self.old_codes.items()}
            self._errors = codes | {name: name for name, _ in errors}
        name = self._errors.get(code)
        return None if name is None else Shape(self.shapes, {"shape": name})

    @property
    def botocore_model(self) -> Any:
        """botocore's own ServiceModel, for whoever needs it; made at first use because the import is heavy."""
        if self._botocore is None:
            from botocore.model import ServiceModel as BotocoreServiceModel

            self._botocore = BotocoreServiceModel(dict(self.raw), self.name)
        return self._botocore


class Operation:
    """One operation: what its requests and responses are on the wire of each protocol its service speaks."""

    def __init__(self, service: ServiceModel, name: str, raw: Mapping[str, Any]) -> None:
        self.service: str = service.name
        self.service_model = service
        self.raw = raw
        self.name = name
        self.function: str = xform_name(self.name)
        """As boto3 names it."""
        self.http_method: str = raw["http"]["method"]
        self.http_uri: str = raw["http"]["requestUri"]
        self.response_status: int = int(raw["http"].get("responseCode", 200))
        self.is_unsigned: bool = (
            raw.get("authtype") == "none"
            or "smithy.api#noAuth" in raw.get("auth", ())
            or quirks.ACTIONS_OF_LINKS.get(name) == service.name
        )
        """Whether anybody may call it without a signature."""
        self.input = Shape(service.shapes, raw["input"]) if "input" in raw else None
        self.output = Shape(service.shapes, raw["output"]) if "output" in raw else None
        self.result_wrapper: str = raw.get("output", {}).get("resultWrapper", "")
        self.event_input = _event_member(self.input)
        """The member that is a stream of events, or ''."""
        self.event_output = _event_member(self.output)
        self.streaming_input = _streaming_member(self.input)
        """The member that is the whole body and may be too large to hold, or ''."""
        self.streaming_output = _streaming_member(self.output)
        self._is_compressible = "requestcompression" in raw
        self._decoders: dict[str, RequestDecoder] = {}
        self._encoders: dict[str, ResponseEncoder] = {}
        self._is_fine: Callable[[Any], bool] | None = None
        self._is_check_compiled = False

    def __repr__(self) -> str:
        return f"<Operation {self.service}.{self.name}>"

    @property
    def model(self) -> OperationModel:
        """botocore's own model of it."""
        found: OperationModel = self.service_model.botocore_model.operation_model(self.name)
        return found

    def decode(
        self, request: Request, body: bytes | ByteStream, path_params: Mapping[str, str], protocol: str = ""
    ) -> dict[str, Any]:
        """The request's members, typed as boto3 gives them. ServiceError when the bytes have not the protocol's form.

        body: a ByteStream where `streaming_input` is set, else bytes. A client's unknown members are dropped.
        """
        protocol = protocol or self.service_model.protocol
        decoder = self._decoders.get(protocol)
        if decoder is None:
            spoken = self._in_protocol(protocol)
            decoder = PROTOCOLS[protocol].compile_request(spoken)
            if spoken is not self and spoken.input is not None:
                decoder = old_query.addressed(self.service, spoken.input.members, decoder)
            self._decoders[protocol] = decoder
        try:
            if self._is_compressible and "gzip" in request.headers.get("content-encoding", ""):
                body = _unpacked(aws_json.body_bytes(body))
            return decoder(request, body, path_params)
        except Malformed as error:
            raise quirks.malformed(self.service, protocol, str(error)) from None

    def _in_protocol(self, protocol: str) -> Operation:
        model = self.service_model.in_protocol(protocol)
        return self if model is self.service_model else model.operation(self.name) or self

    def check(self, params: Mapping[str, Any], protocol: str = "") -> None:
        """Raise AWS's error for this service when `params` break the model's constraints."""
        if not self._is_check_compiled:
            self._is_fine = None if self.input is None else self.service_model.checker.compile(self.input)
            self._is_check_compiled = True
        is_fine = self._is_fine
        if is_fine is None:
            return
        try:
            if is_fine(params):
                return
        except (TypeError, AttributeError):
            pass
        self._refuse(params, protocol or self.service_model.protocol)

    def _refuse(self, params: Mapping[str, Any], protocol: str) -> None:
        assert self.input is not None
        problems: list[str] = []
        try:
            self.service_model.checker.explain(self.input, params, "", problems)
        except (TypeError, AttributeError) as error:
            raise quirks.malformed(self.service, protocol, str(error)) from None
        missing = [name for name in self.input.traits.get("required", ()) if params.get(name) is None]
        if problems:
            raise quirks.validation_error(
                self.service, protocol, quirks.message_of(self.service, problems), missing[0] if missing else ""
            )

    def encode(self, result: Mapping[str, Any] | None, *, protocol: str, request_id: str, request: Request) -> Response:
        """The response that botocore reads as `result`. Members the output shape lacks, and None, stay out."""
        encoder = self._encoders.get(protocol)
        if encoder is None:
            encoder = self._encoders[protocol] = PROTOCOLS[protocol].compile_response(self._in_protocol(protocol))
        response = encoder(result or {}, request_id, request)
        if request.method == "HEAD":
            response.body = b""
        return response

    def encode_error(self, error: ServiceError, *, protocol: str, request_id: str, request: Request) -> Response:
        """The response that botocore raises as `error`."""
        return encode_error(error, protocol=protocol, request_id=request_id, request=request, service=self.service_model)


def encode_error(
    error: ServiceError,
    *,
    protocol: str,
    request_id: str,
    request: Request,
    service: ServiceModel | str = "",
    operation: Operation | None = None,
) -> Response:
    """An error in a protocol's form; with only the service's name, or '', when the operation is not known."""
    if operation is not None:
        service = operation.service_model
    if not isinstance(service, str):
        service = service.in_protocol(protocol)
    fault = fault_of(error, protocol, service)
    response: Response = PROTOCOLS[protocol].render_error(fault, request_id, request)
    return response


def _unpacked(body: bytes) -> bytes:
    """A body that botocore compressed, as it does when it is large; bounded, so that no small body grows without end."""
    if body[:2] != b"\x1f\x8b":
        return body
    inflate = zlib.decompressobj(wbits=31)
    try:
        data = inflate.decompress(body, _MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise Malformed(str(error)) from None
    if not inflate.eof:
        raise Malformed("the compressed body is cut short or too large")
    return data


def _event_member(shape: Shape | None) -> str:
    if shape is None:
        return ""
    return next((name for name, member in shape.members.items() if member.is_eventstream), "")


def _streaming_member(shape: Shape | None) -> str:
    if shape is None or not (name := shape.traits.get("payload")):
        return ""
    member = shape.members[name]
    return name if member.traits.get("streaming") or member.is_eventstream else ""
