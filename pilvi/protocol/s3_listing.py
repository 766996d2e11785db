"""The one answer that is written by hand: a page of ListObjects, up to a thousand keys.

Says what the general writer says, in less than half the time; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pilvi.core.listed import Listed
from pilvi.protocol.s3_objects import write_objects
from pilvi.protocol.scalars import iso8601_millis, parse_timestamp
from pilvi.protocol.shapes import Shape
from pilvi.protocol.xml import WriteElement, XmlWriter, escape

_RARE = ("Owner", "RestoreStatus")


class ListingWriter(XmlWriter):
    """S3's writer: objects of a listing go the short way."""

    def __init__(self) -> None:
        super().__init__(millis=True)

    def _member(self, name: str, member: Shape) -> WriteElement:
        if name == "Contents" and member.kind == "list" and member.is_flat and member.member.name == "Object":
            return self._objects(member.member)
        return super()._member(name, member)

    def _objects(self, shape: Shape) -> WriteElement:
        others = self.members({name: member for name, member in shape.members.items() if name in _RARE})

        def write(items: Iterable[Mapping[str, Any]]) -> str:
            if isinstance(items, Listed):
                return write_objects(items.rows, is_encoded=items.is_encoded)
            parts = []
            for item in items:
                head = "<Contents>"
                if (value := item.get("Key")) is not None:
                    head = f"<Contents><Key>{escape(value)}</Key>"
                if (value := item.get("LastModified")) is not None:
                    head = f"{head}<LastModified>{_instant(value)}</LastModified>"
                if (value := item.get("ETag")) is not None:
                    head = f"{head}<ETag>{escape(value)}</ETag>"
                rest = others(item) if "Owner" in item or "RestoreStatus" in item else ""
                for value in item.get("ChecksumAlgorithm") or ():
                    rest = f"{rest}<ChecksumAlgorithm>{value}</ChecksumAlgorithm>"
                if (value := item.get("ChecksumType")) is not None:
                    rest = f"{rest}<ChecksumType>{value}</ChecksumType>"
                if (value := item.get("Size")) is not None:
                    rest = f"{rest}<Size>{value}</Size>"
                if (value := item.get("StorageClass")) is not None:
                    rest = f"{rest}<StorageClass>{escape(value)}</StorageClass>"
                parts.append(f"{head}{rest}</Contents>")
            return "".join(parts)

        return write


def _instant(value: Any) -> str:
    if type(value) is datetime and value.tzinfo is UTC:
        return value.isoformat(timespec="milliseconds")[:23] + "Z"
    return iso8601_millis(value if isinstance(value, datetime) else parse_timestamp(value))
