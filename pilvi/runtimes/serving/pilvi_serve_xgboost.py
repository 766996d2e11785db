"""XGBoost's defaults: the booster in the model folder, libsvm, CSV or RecordIO in, scores out, a line each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pilvi_serve_codec import CSV, encode, kind_of
from pilvi_serve_worker import Refused

ACCEPT = CSV


def model_fn(model_dir: str) -> Any:
    from pilvi_algorithms.xgboost import load

    found = load(Path(model_dir))
    if len(found) != 1:
        raise NotImplementedError("Please provide a model_fn implementation: the model folder has not exactly one XGBoost model.")
    return found[0]


def input_fn(body: Any, content_type: str) -> Any:
    import xgboost
    from pilvi_algorithms.kit import CSV as CSV_TYPE
    from pilvi_algorithms.kit import RECORDIO
    from pilvi_algorithms.kit.content_type import LIBSVM
    from pilvi_algorithms.kit.errors import RequestError
    from pilvi_algorithms.kit.serving import request_table

    data = body.encode() if isinstance(body, str) else body
    try:
        return xgboost.DMatrix(request_table(data, content_type, (CSV_TYPE, LIBSVM, RECORDIO)).features)
    except RequestError as error:
        raise Refused(error.status, str(error)) from error


def predict_fn(data: Any, model: Any) -> Any:
    return model.predict(data, validate_features=False)


def output_fn(prediction: Any, accept: str) -> Any:
    if kind_of(accept) == CSV:
        ending = "\n" if os.environ.get("SAGEMAKER_BATCH") else ""
        rows = prediction.tolist() if hasattr(prediction, "tolist") else prediction
        lines = [",".join(map(str, row)) if isinstance(row, list) else str(row) for row in rows]
        return ("\n".join(lines) + ending).encode(), CSV
    return encode(prediction, accept, CSV)
