"""Services that moved from query to JSON and answer both: what their present models no longer say of the older form.

SQS's model knows JSON alone since 2023; older SDKs, `curl` and signed URLs still speak query. Source: SQS API reference 2012-11-05,
request and response syntax of each action in the query form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final
from urllib.parse import unquote

from pilvi.core.http import Request
from pilvi.core.streams import ByteStream

Decoder = Callable[[Request, "bytes | ByteStream", Mapping[str, str]], dict[str, Any]]

_ENTRIES = (
    "BatchResultErrorEntry",
    "ChangeMessageVisibilityBatchRequestEntry",
    "ChangeMessageVisibilityBatchResultEntry",
    "DeleteMessageBatchRequestEntry",
    "DeleteMessageBatchResultEntry",
    "ListMessageMoveTasksResultEntry",
    "SendMessageBatchRequestEntry",
    "SendMessageBatchResultEntry",
)
_LISTS: Mapping[str, str] = {
    "AWSAccountIdList": "AWSAccountId",
    "ActionNameList": "ActionName",
    "AttributeNameList": "AttributeName",
    "BinaryList": "BinaryListValue",
    "MessageAttributeNameList": "MessageAttributeName",
    "MessageList": "Message",
    "MessageSystemAttributeList": "MessageSystemAttributeName",
    "QueueUrlList": "QueueUrl",
    "StringList": "StringListValue",
    "TagKeyList": "TagKey",
    **{f"{name}List": name for name in _ENTRIES},
}
"""What each member of a list is called."""
_MAPS: Mapping[str, tuple[str, str]] = {
    "MessageBodyAttributeMap": ("Name", "Value"),
    "MessageBodySystemAttributeMap": ("Name", "Value"),
    "MessageSystemAttributeMap": ("Name", "Value"),
    "QueueAttributeMap": ("Name", "Value"),
    "TagMap": ("Key", "Value"),
}
_MEMBERS: Mapping[str, str] = {
    "Attributes": "Attribute",
    "BinaryListValues": "BinaryListValue",
    "MessageAttributes": "MessageAttribute",
    "MessageSystemAttributes": "MessageSystemAttribute",
    "StringListValues": "StringListValue",
    "Tags": "Tag",
    "tags": "Tag",
}
_NAMESPACE: Mapping[str, str] = {"sqs": "http://queue.amazonaws.com/doc/2012-11-05/"}
_ADDRESS: Mapping[str, str] = {"sqs": "QueueUrl"}
"""The member that the path of a request stands for, where it is not given: /ACCOUNT/QUEUE."""
NAMES: Final = frozenset(_NAMESPACE)


def in_query(name: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    """A service's model with the names of the query form."""
    model: dict[str, Any] = deepcopy(dict(raw))
    model["metadata"]["xmlNamespace"] = _NAMESPACE[name]
    shapes = model["shapes"]
    for shape, inner in _LISTS.items():
        shapes[shape]["member"]["locationName"] = inner
    for shape, (key, value) in _MAPS.items():
        shapes[shape]["key"]["locationName"] = key
        shapes[shape]["value"]["locationName"] = value
    for shape in shapes.values():
        for member, reference in shape.get("members", {}).items():
            if member in _MEMBERS:
                reference["locationName"] = _MEMBERS[member]
    for operation, description in model["operations"].items():
        if "output" in description:
            description["output"]["resultWrapper"] = f"{operation}Result"
    return model


def addressed(name: str, members: Mapping[str, Any], decode: Decoder) -> Decoder:
    """The decoder of a request whose path may say what it is about."""
    member = _ADDRESS[name]
    if member not in members:
        return decode

    def decode_addressed(request: Request, body: bytes | ByteStream, params: Mapping[str, str]) -> dict[str, Any]:
        found = decode(request, body, params)
        path = request.raw_path
        if member not in found and len(path) > 1:
            found[member] = unquote(path)
        return found

    return decode_addressed
