"""What a connection keeps in its secret, and what it shows.

Source: EventBridge User Guide, "Connections for API targets"; the secret's members as AWS writes them, from public recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pilvi.core.errors import ServiceError

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

_PURPOSE: Final = b"events:connection"
_SECRETS: Final = {"Password", "ApiKeyValue", "ClientSecret"}


def secret_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a request as its secret keeps them."""
    found: dict[str, Any] = {}
    if basic := parameters.get("BasicAuthParameters"):
        found |= _some(basic, Username="username", Password="password")
    if key := parameters.get("ApiKeyAuthParameters"):
        found |= _some(key, ApiKeyName="api_key_name", ApiKeyValue="api_key_value")
    if oauth := parameters.get("OAuthParameters"):
        found |= _some(oauth.get("ClientParameters") or {}, ClientID="client_id", ClientSecret="client_secret")
        found |= _some(oauth, AuthorizationEndpoint="authorization_endpoint", HttpMethod="http_method")
        if oauth.get("OAuthHttpParameters"):
            found["oauth_http_parameters"] = _http(oauth["OAuthHttpParameters"])
    if parameters.get("InvocationHttpParameters") is not None:
        found["invocation_http_parameters"] = _http(parameters["InvocationHttpParameters"])
    return found


def public(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The same without what is secret, as DescribeConnection shows it."""
    return {name: _shown(value) for name, value in parameters.items() if value is not None}


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """New members over old ones; inside objects, too."""
    found = dict(old)
    for name, value in new.items():
        there = found.get(name)
        found[name] = merged(there, value) if isinstance(there, Mapping) and isinstance(value, Mapping) else value
    return found


def _some(given: Mapping[str, Any], **names: str) -> dict[str, Any]:
    return {inner: given[outer] for outer, inner in names.items() if given.get(outer) is not None}


def _http(parameters: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "HeaderParameters": "header_parameters",
        "QueryStringParameters": "query_string_parameters",
        "BodyParameters": "body_parameters",
    }
    return {
        inner: [
            {"key": one["Key"], "value": one.get("Value") or "", "is_value_secret": bool(one.get("IsValueSecret"))}
            for one in parameters[outer]
        ]
        for outer, inner in names.items()
        if parameters.get(outer)
    }


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    hidden = _SECRETS | ({"Value"} if value.get("IsValueSecret") else set())
    return {name: _shown(one) for name, one in value.items() if name not in hidden and one is not None}


def seal(cloud: Cloud, secret: Mapping[str, Any]) -> bytes:
    return cloud.keyring.seal(msgspec.json.encode(secret), _PURPOSE)


def unseal(cloud: Cloud, connection: Mapping[str, Any]) -> dict[str, Any]:
    """What proves who calls."""
    if "_secret" not in connection:
        raise ServiceError("InvalidParameterValue", f"The connection {connection['Name']} is deauthorized.")
    found: dict[str, Any] = msgspec.json.decode(cloud.keyring.unseal(connection["_secret"], _PURPOSE))
    return found
