"""Content types with their parameters: `text/csv;label_size=0`, `application/json; verbose=true`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CSV = "text/csv"
LIBSVM = "text/libsvm"
PARQUET = "application/x-parquet"
RECORDIO = "application/x-recordio-protobuf"
JSON = "application/json"
JSONLINES = "application/jsonlines"
ANY = "*/*"

_SAME = {
    "csv": CSV,
    "libsvm": LIBSVM,
    "text/x-libsvm": LIBSVM,
    "parquet": PARQUET,
    "recordio-protobuf": RECORDIO,
    "application/x-jsonlines": JSONLINES,
    "application/json-lines": JSONLINES,
}


@dataclass(frozen=True, slots=True)
class ContentType:
    name: str
    """One of the names above, or whatever else was given, in small letters."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """In small letters."""

    def integer(self, parameter: str, default: int) -> int:
        value = self.parameters.get(parameter, "")
        return int(value) if value.isdecimal() else default

    def is_set(self, parameter: str) -> bool:
        return self.parameters.get(parameter) == "true"


def parse(given: str) -> ContentType:
    name, *rest = (part.strip().lower() for part in given.split(";"))
    pairs = (part.partition("=") for part in rest if part)
    return ContentType(_SAME.get(name, name), {key.strip(): value.strip().strip("\"'") for key, _, value in pairs})


def accepted(accept: str, *offered: str) -> ContentType:
    """The first of the Accept header's types that is offered; the first offered one where anything will do.

    A type that is not offered stands as it is: the encoder refuses it by its name.
    """
    wanted = [parse(part) for part in (accept or ANY).split(",")]
    for one in wanted:
        if one.name in offered:
            return one
        if one.name in (ANY, "", "application/*"):
            return ContentType(offered[0], one.parameters)
    return wanted[0]
