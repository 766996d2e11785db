"""A view as a plan for our own guard (guard.py), which does with the kernel's calls what bubblewrap would."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pilvi.compute import Bind, ProcessSpec
from pilvi.compute.sandbox import TMP_BYTES, USER_ID, File, Link, Mask, View

COMMAND = (getattr(sys, "_base_executable", sys.executable), "-I", "-S", str(Path(__file__).with_name("guard.py")))


def plan(spec: ProcessSpec, view: View) -> bytes:
    """What the guard reads on its standard input."""
    return _encoded(
        {
            "isolate": True,
            "network": spec.network,
            "uid": USER_ID if view.root is None else view.root.uid,
            "gid": USER_ID if view.root is None else view.root.gid,
            "root": None if view.root is None else {"folder": str(view.root.folder), "changes": str(view.root.changes)},
            "hostname": spec.hostname,
            "system": [_step(step) for step in view.system],
            "devices": view.devices,
            "tmp_bytes": 0 if view.has_tmp else TMP_BYTES,
            "own": [_step(step) for step in view.own],
            "cwd": spec.cwd,
            "env": dict(spec.env),
            "command": spec.command,
        }
    )


def open_plan(spec: ProcessSpec) -> bytes:
    """The plan for a machine without namespaces; the spec is relocated already."""
    return _encoded({"isolate": False, "cwd": spec.cwd, "env": dict(spec.env), "command": spec.command})


def _encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _step(step: Link | Bind | Mask | File) -> tuple[str, str, str, bool]:
    """(kind, path inside, what is there, whether it can be written)"""
    if isinstance(step, Bind):
        return ("bind", step.target, str(step.source), step.writable)
    if isinstance(step, Link):
        return ("link", step.path, step.points_to, False)
    if isinstance(step, Mask):
        return ("mask", step.path, "", False)
    return ("file", step.path, step.text, False)
