"""scikit-learn's defaults: model_fn is the customer's, input is an array of float32, predict is the estimator's, output JSON, CSV or npy."""

from __future__ import annotations

from typing import Any

from pilvi_serve_codec import JSON, decode, encode
from pilvi_serve_plain import model_fn

ACCEPT = JSON
__all__ = ["ACCEPT", "input_fn", "model_fn", "output_fn", "predict_fn"]


def input_fn(body: Any, content_type: str) -> Any:
    data = decode(body.encode() if isinstance(body, str) else body, content_type)
    return data.astype("float32") if data.dtype.kind in "iuf" else data


def predict_fn(data: Any, model: Any) -> Any:
    # One instance is a row.
    return model.predict(data.reshape(1, -1) if getattr(data, "ndim", 2) == 1 else data)


def output_fn(prediction: Any, accept: str) -> Any:
    return encode(prediction, accept, ACCEPT)
