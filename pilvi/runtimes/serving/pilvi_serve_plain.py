"""Defaults of an image without a framework: JSON and CSV as lists, read and written with the standard library."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from pilvi_serve_worker import Refused

ACCEPT = "application/json"
_CSV = "text/csv"


def model_fn(model_dir: str) -> Any:
    raise NotImplementedError(
        f"Please provide a model_fn implementation: a function model_fn(model_dir) in your script that loads what is in {model_dir}."
    )


def input_fn(body: Any, content_type: str) -> Any:
    kind = content_type.partition(";")[0].strip().lower()
    text = body if isinstance(body, str) else bytes(body).decode()
    try:
        if kind == ACCEPT:
            return json.loads(text)
        if kind == _CSV:
            return [[_number(cell) for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    except ValueError as error:
        raise Refused(400, f"The request's body cannot be read as {kind}: {error}") from error
    raise Refused(415, f"Content type {content_type} is not supported. Please implement input_fn to handle it.")


def predict_fn(data: Any, model: Any) -> Any:
    return model.predict(data) if hasattr(model, "predict") else model(data)


def output_fn(prediction: Any, accept: str) -> Any:
    for wanted in (part.partition(";")[0].strip().lower() for part in accept.split(",")):
        if wanted in (ACCEPT, "*/*", ""):
            return json.dumps(prediction), ACCEPT
        if wanted == _CSV:
            rows = [row if isinstance(row, (list, tuple)) else [row] for row in prediction]
            return "".join(",".join(map(str, row)) + "\n" for row in rows), _CSV
    raise Refused(406, f"Accept type {accept} is not supported. Please implement output_fn to handle it.")


def _number(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell
