"""Saving and loading: by part (each rank its own file) or whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from smdistributed.modelparallel.torch.state import state


def save(obj: Any, path: Any, partial: bool = True, **more: Any) -> None:
    """partial: one file for every part, its name ending in _<part>_0; only the first replica writes."""
    more.pop("v3", None)
    if partial:
        if state().dp_rank == 0:
            torch.save(obj, f"{path}_{state().pp_rank}_0", **more)
    else:
        torch.save(obj, path, **more)


def load(path: Any, map_location: Any = None, partial: bool = True, **more: Any) -> Any:
    return torch.load(f"{path}_{state().pp_rank}_0" if partial else path, map_location=map_location, **more)


def save_checkpoint(
    path: str,
    tag: str,
    partial: bool = True,
    model: Any = None,
    optimizer: Any = None,
    user_content: Any = None,
    num_kept_partial_checkpoints: int | None = None,
) -> None:
    """Everything below path/tag_partial (or path/tag). All ranks have to call."""
    del num_kept_partial_checkpoints
    folder = Path(path) / (f"{tag}_partial" if partial else tag)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"user_content": user_content}
    if model is not None:
        content["model"] = model.local_state_dict() if partial else model.state_dict()
    if optimizer is not None and partial:
        content["optimizer"] = optimizer.state_dict()
    if partial:
        save(content, folder / "checkpoint")
    elif state().rank == 0:
        save(content, folder / "checkpoint", partial=False)
    if state().rank == 0:
        (Path(path) / "newest").write_text(folder.name)


def resume_from_checkpoint(
    path: str, tag: str | None = None, partial: bool = True, model: Any = None, optimizer: Any = None, **ignored: Any
) -> Any:
    """The user's content; model and optimizer get theirs. tag None: the newest."""
    del ignored
    name = (Path(path) / "newest").read_text() if tag is None else (f"{tag}_partial" if partial else tag)
    content = load(os.path.join(path, name, "checkpoint"), partial=name.endswith("_partial"), weights_only=False)
    if model is not None and "model" in content:
        model.load_state_dict(content["model"])
    if optimizer is not None and "optimizer" in content:
        optimizer.load_state_dict(content["optimizer"])
    return content["user_content"]
