"""The programs that people work in: JupyterLab, in notebook instances and Studio; Code Editor, in Studio. What differs between them."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pilvi.compute.environments import Environment
from pilvi.compute.node_packages import node_of, program_of

if TYPE_CHECKING:
    from pilvi.services.sagemaker.notebook_seat import Seat

PYTHON = "notebook"
"""The environment that terminals and kernels have."""
KERNEL = "conda_python3"
"""The name that notebooks written on AWS ask for."""
SUPPORT = "/opt/editor"
"""Where a program finds what is ours of it."""


@dataclass(frozen=True, slots=True)
class Program:
    """One of them."""

    app_type: str
    """As Studio calls it."""
    name: str
    """For people."""
    environment: str
    """It lives in this one, and does not run without it."""
    support: str
    """Its folder in pilvi/runtimes."""
    status_path: str
    """Answers 200 to who shows an entry."""

    def command(self, environment: Environment, port: int, seat: Seat) -> tuple[str, ...]:
        """How it is started, to listen there."""
        if self is JUPYTER:
            return (str(environment.python), "-m", "jupyterlab", *_jupyter_options(port, seat))
        entry = program_of(environment.path, "code-server") / "out" / "node" / "entry.js"
        return (str(node_of(environment.path)), f"{SUPPORT}/door.mjs", str(port), str(entry), seat.files)

    def entrance(self, seat: Seat, place: str) -> str:
        """The path and query of its page for a folder (JupyterLab: or a file) below the volume."""
        if self is JUPYTER:
            return f"/lab/tree/{quote(place)}?" if place else "/lab?"
        return f"/?folder={quote(f'{seat.files}/{place}'.rstrip('/'))}&"

    def support_folder(self) -> Path:
        return Path(str(importlib.resources.files("pilvi.runtimes") / self.support))


JUPYTER = Program("JupyterLab", "JupyterLab", PYTHON, "notebook", "/api/status")
CODE_EDITOR = Program("CodeEditor", "Code Editor", "code-editor", "code_editor", "/healthz")
PROGRAMS = {program.app_type: program for program in (JUPYTER, CODE_EDITOR)}


def _jupyter_options(port: int, seat: Seat) -> tuple[str, ...]:
    """How Jupyter is to behave: for its owner alone, without looking for news or updates elsewhere."""
    return (
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={seat.files}",
        "--ServerApp.identity_provider_class=pilvi_notebook.Sessions",
        "--ServerApp.quit_button=False",
        f"--MultiKernelManager.default_kernel_name={KERNEL}",
        "--FileContentsManager.delete_to_trash=False",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
        # One owner has plain files; people who work together have one document.
        f"--YDocExtension.disable_rtc={not seat.is_shared}",
    )
