"""Inference requests and responses, as AWS's algorithms read and write them.

A model's `predict` gives one map an instance, such as {"score": 0.7, "predicted_label": 1.0}; `respond` writes them:

    application/json                  {"predictions": [{"score": 0.7, "predicted_label": 1.0}, ...]}
    application/jsonlines             {"score": 0.7, "predicted_label": 1.0} a line
    text/csv                          0.7,1.0 a line
    application/x-recordio-protobuf   records whose label map has the same keys
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pilvi_algorithms.kit import recordio
from pilvi_algorithms.kit.content_type import CSV, JSON, JSONLINES, RECORDIO, ContentType, accepted, parse
from pilvi_algorithms.kit.errors import RequestError
from pilvi_algorithms.kit.table import Table, Unreadable, read

REQUEST_TYPES = (CSV, JSON, JSONLINES, RECORDIO)
RESPONSE_TYPES = (JSON, JSONLINES, CSV, RECORDIO)


def request_table(body: bytes, content_type: str, offered: Sequence[str] = REQUEST_TYPES, width: int | None = None) -> Table:
    """The instances of a request. Raises RequestError: 415 for a foreign content type, 400 for what cannot be read."""
    kind = parse(content_type or CSV)
    if kind.name not in offered:
        raise RequestError(f"Content-type {kind.name} not supported. Supported content-type is {', '.join(offered)}", 415)
    try:
        found = read(body, kind)
    except Unreadable as error:
        raise RequestError(f"unable to evaluate payload provided: {error}") from error
    if width is None or found.width == width:
        return found
    if found.is_sparse and found.width < width:
        found.features.resize(len(found), width)
        return found
    raise RequestError(f"unable to evaluate payload provided: an instance has {found.width} features, the model has {width}")


def respond(
    predictions: Sequence[Mapping[str, Any]],
    accept: str,
    offered: Sequence[str] = RESPONSE_TYPES,
    wrapper: str = "predictions",
) -> tuple[bytes, str]:
    """The response's body and content type. Raises RequestError 406 for an Accept that is not offered."""
    kind = accepted(accept, *offered)
    if kind.name not in offered:
        raise RequestError(f"Accept type {kind.name} not supported. Supported accept types are {', '.join(offered)}", 406)
    return _ENCODERS[kind.name](predictions, wrapper), kind.name


def accept_type(accept: str, offered: Sequence[str] = RESPONSE_TYPES) -> ContentType:
    """The type a response will have, with parameters such as verbose."""
    return accepted(accept, *offered)


def _json(predictions: Sequence[Mapping[str, Any]], wrapper: str) -> bytes:
    return json.dumps({wrapper: [plain(one) for one in predictions]}).encode()


def _jsonlines(predictions: Sequence[Mapping[str, Any]], _wrapper: str) -> bytes:
    return "".join(json.dumps(plain(one)) + "\n" for one in predictions).encode()


def _csv(predictions: Sequence[Mapping[str, Any]], _wrapper: str) -> bytes:
    return "".join(",".join(str(value) for part in one.values() for value in _listed(part)) + "\n" for one in predictions).encode()


def _recordio(predictions: Sequence[Mapping[str, Any]], _wrapper: str) -> bytes:
    return recordio.write(
        recordio.Record(
            label={key: recordio.Tensor(np.atleast_1d(np.asarray(value, np.float32)).ravel()) for key, value in one.items()}
        )
        for one in predictions
    )


def _listed(value: Any) -> list[Any]:
    return [item for part in value for item in _listed(part)] if isinstance(value, (list, tuple, np.ndarray)) else [plain(value)]


def plain(value: Any) -> Any:
    """Without numpy's types."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


_ENCODERS: dict[str, Callable[[Sequence[Mapping[str, Any]], str], bytes]] = {
    JSON: _json,
    JSONLINES: _jsonlines,
    CSV: _csv,
    RECORDIO: _recordio,
}
