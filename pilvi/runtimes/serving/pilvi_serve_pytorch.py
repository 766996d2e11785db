"""PyTorch's defaults: the one TorchScript model of the folder, arrays as tensors, the model called without gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pilvi_serve_codec import JSON, decode, encode

ACCEPT = JSON


def model_fn(model_dir: str) -> Any:
    import torch

    found = [path for path in sorted(Path(model_dir).iterdir()) if path.suffix in (".pt", ".pth")]
    if len(found) != 1:
        raise ValueError(
            f"Exactly one .pth or .pt file is required for PyTorch models, and {model_dir} has {len(found)}. "
            "Please provide a model_fn implementation for anything else."
        )
    try:
        return torch.jit.load(found[0], map_location=_device()).eval()
    except RuntimeError as error:
        raise ValueError(
            f"Failed to load {found[0]} with the default model_fn, which reads TorchScript. Please provide a model_fn implementation: {error}"
        ) from error


def input_fn(body: Any, content_type: str) -> Any:
    import torch

    data = decode(body.encode() if isinstance(body, str) else body, content_type)
    return torch.from_numpy(data.astype("float32")).to(_device())


def predict_fn(data: Any, model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.to(_device()).eval()(data.to(_device()) if hasattr(data, "to") else data)


def output_fn(prediction: Any, accept: str) -> Any:
    if hasattr(prediction, "detach"):
        prediction = prediction.detach().cpu().numpy()
    return encode(prediction, accept, ACCEPT)


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
