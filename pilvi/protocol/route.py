"""Which service and operation a request means.

In this order: a site (plain HTTP), X-Amz-Target, the RPC v2 path, the service the signature or the host names (several
services may share a name: then path, Action and Version decide), Action and Version alone, and at last S3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pilvi.core.errors import ServiceError
from pilvi.core.http import Request
from pilvi.protocol import old_query, quirks
from pilvi.protocol.hosts import HostFacts, object_lambda_point, read_host
from pilvi.protocol.paths import Templates
from pilvi.protocol.query import action_of, parse_query
from pilvi.protocol.s3_paths import S3Templates
from pilvi.protocol.sites import find_registry, find_site

if TYPE_CHECKING:
    from pilvi.protocol.index import Entry
    from pilvi.protocol.models import Models, Operation

_FORM = "application/x-www-form-urlencoded"
_CBOR = "smithy-rpc-v2-cbor"
_MAX_HOSTS = 1000
_MAX_ACTIONS = 5000
_OBJECT_LAMBDA = "s3-object-lambda"
_S3_NAMES = frozenset({"s3", "s3express", "s3-outposts", _OBJECT_LAMBDA})
_SCOPE = re.compile(r"/\d{8}(?:/|%2F)([a-z0-9-]+)(?:/|%2F)s3-object-lambda(?:/|%2F)", re.IGNORECASE)


@dataclass(slots=True)
class Match:
    """What a request turned out to be. Exactly one of operation, site, needs_body and error says so."""

    service: str
    """As botocore names it; '' while only a form's body can tell."""
    protocol: str
    """In which to answer."""
    operation: Operation | None = None
    path_params: Mapping[str, str] = field(default_factory=dict)
    """Labels of the path, percent-decoded; for sites the id and `rest`."""
    site: str = ""
    error: ServiceError | None = None
    router: Router | None = field(default=None, repr=False, compare=False)
    candidates: tuple[str, ...] = ()
    query: str = field(default="", repr=False)
    vpce: str = ""
    """The VPC endpoint whose name the host is."""

    @property
    def needs_body(self) -> bool:
        """Action stands in the form: call `with_form`."""
        return self.router is not None

    def with_form(self, body: bytes) -> Match:
        """The match, once the body is known."""
        if self.router is None:
            return self
        return self.router.match_form(self.candidates, *action_of(body, self.query))


class Router:
    """Finds operations. One for the whole server; tables of a service are made when it is first asked for."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._templates: dict[str, Templates] = {}
        self._s3_templates: S3Templates | None = None
        self._actions: dict[tuple[tuple[str, ...], str, str], Operation] = {}
        self._hosts: dict[str, HostFacts] = {}
        self._by_signing: dict[str, list[str]] = {}
        self._by_endpoint: dict[str, list[str]] = {}
        self._by_target: dict[str, list[str]] = {}
        self._by_version: dict[str, list[str]] = {}
        for entry in models.index.values():
            self._index(entry)
        for names in self._by_signing.values():
            names.sort(key=lambda name: (quirks.ROUTE_LAST.get(name, 0), models.index[name].signing_name != name, name))

    def _index(self, entry: Entry) -> None:
        for key in {entry.signing_name, entry.endpoint_prefix, entry.name}:
            self._by_signing.setdefault(key, []).append(entry.name)
        self._by_endpoint.setdefault(entry.endpoint_prefix, []).append(entry.name)
        if entry.target_prefix:
            self._by_target.setdefault(entry.target_prefix, []).append(entry.name)
        if _takes_forms(entry):
            self._by_version.setdefault(entry.api_version, []).append(entry.name)

    def route(self, request: Request, signing_name: str | None) -> Match:
        """What a request means. signing_name: the service in its credential scope, if it has one."""
        host = request.headers.get("host", "").lower()
        if signing_name not in _S3_NAMES:
            site = find_site(host, request.raw_path)
            if site is None and signing_name is None:
                site = find_registry(host, request.raw_path)
            if site is not None:
                return Match(site.service, "rest-json", path_params=site.path_params, site=site.name)
            if (target := request.headers.get("x-amz-target")) is not None:
                return self._by_target_header(target, signing_name, host)
            if request.headers.get("smithy-protocol") == "rpc-v2-cbor":
                return self._by_rpc_path(request.raw_path, signing_name)
        facts = self.facts_of(host)
        if signing_name is not None:
            return self._by_name(request, signing_name, facts)
        if facts.endpoint_prefix and facts.endpoint_prefix != "s3":
            return self._among(request, tuple(self._by_endpoint.get(facts.endpoint_prefix, ())), facts)
        return self._by_looks(request, facts)

    def facts_of(self, host: str) -> HostFacts:
        """Clients use few names: remember what they say, within bounds."""
        facts = self._hosts.get(host)
        if facts is None:
            if len(self._hosts) >= _MAX_HOSTS:
                self._hosts.clear()
            facts = self._hosts[host] = read_host(host, self._by_endpoint)
        return facts

    # -- RPC ---------------------------------------------------------------------------------------------------------

    def _by_target_header(self, target: str, signing_name: str | None, host: str) -> Match:
        prefix, _, name = target.rpartition(".")
        services = self._by_target.get(prefix, [])
        if not services:
            return Match("", "json", error=quirks.unknown_operation("", "json", name, ""))
        if len(services) == 1:
            return self._operation(services[0], "json", name)
        index, endpoint = self._models.index, self.facts_of(host).endpoint_prefix
        mine = [service for service in services if index[service].signing_name == signing_name] or list(services)
        mine.sort(key=lambda service: index[service].endpoint_prefix != endpoint)
        having = [service for service in mine if self._models.service(service).operation(name) is not None] or mine
        return self._operation(having[0], "json", name)

    def _by_rpc_path(self, path: str, signing_name: str | None) -> Match:
        """/service/<target prefix, or service id>/operation/<operation>"""
        index = self._models.index
        parts = path.split("/")
        if len(parts) != 5 or parts[1] != "service" or parts[3] != "operation":
            return Match("", _CBOR, error=quirks.unknown_operation("", _CBOR, "", ""))
        prefix, name = unquote(parts[2]), unquote(parts[4])
        services = self._by_target.get(prefix) or [e.name for e in index.values() if e.service_id.replace(" ", "") == prefix]
        services = [service for service in services if _CBOR in index[service].protocols]
        if not services:
            return Match("", _CBOR, error=quirks.unknown_operation("", _CBOR, name, ""))
        mine = [service for service in services if index[service].signing_name == signing_name] or services
        return self._operation(mine[0], _CBOR, name)

    def _operation(self, service: str, protocol: str, name: str, version: str = "") -> Match:
        operation = self._models.service(service).operation(name)
        if operation is None:
            return Match(service, protocol, error=quirks.unknown_operation(service, protocol, name, version))
        return Match(service, protocol, operation)

    # -- several services of one name --------------------------------------------------------------------------------

    def _by_name(self, request: Request, signing_name: str, facts: HostFacts) -> Match:
        if signing_name in _S3_NAMES:
            return self._s3(request, signing_name, facts)
        names = self._by_signing.get(signing_name)
        if not names:
            return self._by_looks(request, facts)
        return self._among(request, tuple(names), facts)

    def _among(self, request: Request, names: tuple[str, ...], facts: HostFacts) -> Match:
        """The one of some services whose Action, path or host fits."""
        index = self._models.index
        forms = tuple(name for name in names if _takes_forms(index[name]))
        if forms and (_is_form(request) or "Action=" in request.query):
            return self._by_form(request, forms)
        rest = [name for name in names if index[name].protocol.startswith("rest")]
        if facts.endpoint_prefix:
            rest.sort(key=lambda name: index[name].endpoint_prefix != facts.endpoint_prefix)
        for name in rest:
            found = self._rest(request, name)
            if found is not None:
                return found
        name = rest[0] if rest else names[0]
        protocol = index[name].protocol
        return Match(name, protocol, error=quirks.unknown_operation(name, protocol, "", ""))

    def _rest(self, request: Request, service: str) -> Match | None:
        query = parse_query(request.query) if request.query else {}
        found = self._templates_of(service).match(request.method, request.raw_path, query, request.headers)
        if found is None:
            return None
        operation = self._models.service(service).operation(found[0])
        return Match(service, self._models.index[service].protocol, operation, found[1])

    def _templates_of(self, service: str) -> Templates:
        templates = self._templates.get(service)
        if templates is None:
            model = self._models.service(service)
            templates = self._templates[service] = Templates(model.raw["operations"], model.shapes)
        return templates

    # -- forms -------------------------------------------------------------------------------------------------------

    def _by_form(self, request: Request, names: tuple[str, ...]) -> Match:
        """By Action and Version: of the query string, or later of the body."""
        if "Action=" in request.query:
            return self.match_form(names, *action_of(b"", request.query))
        name = names[0] if len(names) == 1 else ""
        return Match(name, _form_protocol(self._models, name), router=self, candidates=names, query=request.query)

    def match_form(self, names: Sequence[str], action: str, version: str) -> Match:
        """The operation an Action means; `names` empty: any service of this Version."""
        key = (tuple(names), action, version)
        known = self._actions.get(key)
        if known is not None:
            return Match(known.service, _form_protocol(self._models, known.service), known)
        match = self._find_action(names, action, version)
        if match.operation is not None and len(self._actions) < _MAX_ACTIONS:
            self._actions[key] = match.operation
        return match

    def _find_action(self, names: Sequence[str], action: str, version: str) -> Match:
        index = self._models.index
        known = [name for name in self._by_version.get(version, ()) if not names or name in names]
        candidates = sorted(known, key=lambda name: name != index[name].signing_name) or list(names)
        if not candidates and not version and action in quirks.ACTIONS_OF_LINKS:
            candidates = [quirks.ACTIONS_OF_LINKS[action]]
        for name in candidates:
            if self._models.service(name).operation(action) is not None:
                return self._operation(name, _form_protocol(self._models, name), action, version)
        name = candidates[0] if candidates else ""
        protocol = _form_protocol(self._models, name)
        return Match(name, protocol, error=quirks.unknown_operation(name, protocol, action, version))

    # -- nothing named a service -------------------------------------------------------------------------------------

    def _by_looks(self, request: Request, facts: HostFacts) -> Match:
        if "Action=" in request.query or (request.method == "POST" and _is_form(request)):
            return self._by_form(request, ())
        for service, is_meant in quirks.UNSIGNED_REST:
            if is_meant(request) and (found := self._rest(request, service)) is not None:
                return found
        return self._s3(request, "s3", facts)

    # -- S3 ----------------------------------------------------------------------------------------------------------

    def _s3(self, request: Request, signing_name: str, facts: HostFacts) -> Match:
        """Bucket in the host or first in the path; forms and preflights of browsers are sites."""
        if facts.endpoint_prefix == "s3-control" or _is_s3_control(request):
            return self._s3_control(request, facts.vpce)
        if request.raw_path.startswith("/S3Outposts/") and (found := self._rest(request, "s3outposts")) is not None:
            return found
        bucket = facts.bucket or (facts.leading if facts.is_local else "")
        if signing_name == _OBJECT_LAMBDA:
            if request.method == "POST" and request.raw_path == "/WriteGetObjectResponse" and not request.query:
                return self._operation("s3", "rest-xml", "WriteGetObjectResponse")
            if facts.is_local and (scope := _SCOPE.search(request.header("authorization") or request.query)) is not None:
                bucket = object_lambda_point(bucket, scope[1]) or bucket
        if request.method == "OPTIONS" or _is_browser_form(request):
            return _s3_site(request, bucket, facts.vpce)
        model = self._models.service("s3")
        if self._s3_templates is None:
            self._s3_templates = S3Templates(model.raw["operations"], model.shapes)
        query = parse_query(request.query) if request.query else {}
        headers = quirks.s3_request_headers(request) if query else request.headers
        fit = self._s3_templates.match(request.method, request.raw_path, query, headers, bucket)
        if fit is None:
            return Match("s3", "rest-xml", error=quirks.unknown_operation("s3", "rest-xml", "", ""))
        name, labels = fit
        if facts.is_accelerated:
            labels[quirks.S3_ACCELERATED] = "true"
        bucket = labels.get("Bucket", "")
        if bucket[-7:] == quirks.OBJECT_LAMBDA_ALIAS or (bucket[:4] == "arn:" and ":s3-object-lambda:" in bucket):
            labels[quirks.S3_AS_SENT] = "true"
        if name == "ListBuckets" and signing_name == "s3express":
            name = "ListDirectoryBuckets"
        return Match("s3", "rest-xml", model.operation(name), labels, vpce=facts.vpce)

    def _s3_control(self, request: Request, vpce: str) -> Match:
        found = self._rest(request, "s3control")
        if found is not None:
            found.vpce = vpce
            return found
        return Match("s3control", "rest-xml", error=quirks.unknown_operation("s3control", "rest-xml", "", ""))


def _takes_forms(entry: Entry) -> bool:
    return not {"query", "ec2"}.isdisjoint(entry.protocols) or entry.name in old_query.NAMES


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith(_FORM)


def _form_protocol(models: Models, name: str) -> str:
    return "ec2" if name and models.index[name].protocol == "ec2" else "query"


def _is_s3_control(request: Request) -> bool:
    return request.raw_path.startswith("/v20180820/") and "x-amz-account-id" in request.headers


def _is_browser_form(request: Request) -> bool:
    return request.method == "POST" and request.headers.get("content-type", "").startswith("multipart/form-data")


def _s3_site(request: Request, bucket: str, vpce: str) -> Match:
    key = request.raw_path[1:]
    if not bucket:
        bucket, _, key = key.partition("/")
    params = {"Bucket": unquote(bucket), "Key": unquote(key)}
    site = "preflight" if request.method == "OPTIONS" else "post-object"
    return Match("s3", "rest-xml", path_params=params, site=site, vpce=vpce)
