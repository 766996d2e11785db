"""What framework containers read and write when a script does not: JSON, CSV, NumPy arrays.

Source: SageMaker's inference toolkit and its scikit-learn, XGBoost and PyTorch containers, as their public documentation describes them.
"""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from pilvi_serve_worker import Refused

JSON, CSV, NPY, TEXT = "application/json", "text/csv", "application/x-npy", "text/plain"


def kind_of(content_type: str) -> str:
    """Without parameters, in small letters."""
    return content_type.partition(";")[0].strip().lower()


def decode(body: bytes, content_type: str) -> Any:
    """A request's body as an array. Refused 415 for a type nobody reads."""
    kind = kind_of(content_type)
    try:
        if kind == JSON:
            return np.array(json.loads(body))
        if kind == CSV:
            return read_csv(body)
        if kind == NPY:
            return np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, TypeError, UnicodeDecodeError, EOFError) as error:
        raise Refused(400, f"The request's body cannot be read as {kind}: {error}") from error
    raise Refused(
        415, f"Content type {content_type or '(none)'} is not supported by this framework. Please implement input_fn to handle it."
    )


def read_csv(body: bytes) -> Any:
    """Rows of numbers, or of texts where one is none."""
    text = body.decode()
    try:
        return np.genfromtxt(io.StringIO(text), dtype=np.float32, delimiter=",") if not _has_words(text) else _words(text)
    except ValueError as error:
        raise Refused(400, f"The request's body cannot be read as {CSV}: {error}") from error


def _has_words(text: str) -> bool:
    for cell in text.replace("\n", ",").split(","):
        if cell.strip():
            try:
                float(cell)
            except ValueError:
                return True
    return False


def _words(text: str) -> Any:
    import csv

    return np.array(list(csv.reader(io.StringIO(text))))


def encode(prediction: Any, accept: str, default: str = JSON) -> tuple[bytes, str]:
    """A prediction in the first of the accepted types that there is. Refused 406 for none."""
    for wanted in [kind_of(part) for part in (accept or default).split(",")]:
        kind = default if wanted in ("*/*", "application/*", "") else wanted
        if kind == JSON:
            return json.dumps(_plain(prediction)).encode(), JSON
        if kind == CSV:
            return to_csv(prediction), CSV
        if kind == NPY:
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(prediction))
            return buffer.getvalue(), NPY
    raise Refused(406, f"Accept type {accept} is not supported by this framework. Please implement output_fn to handle it.")


def to_csv(prediction: Any) -> bytes:
    """A row a line."""
    rows = np.asarray(prediction)
    if rows.ndim == 0:
        rows = rows.reshape(1)
    lines = (",".join(map(str, row.tolist())) for row in rows) if rows.ndim > 1 else map(str, rows.tolist())
    return ("\n".join(lines) + "\n").encode()


def _plain(value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return value.to_dict(orient="records")
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
