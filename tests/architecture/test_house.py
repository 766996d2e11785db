"""Promises about the code itself: names, places, docs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from botocore import xform_name

from pilvi.app.registry import Registry, module_of
from pilvi.cli.main import parser
from pilvi.protocol.models import Models

ROOT = Path(__file__).parent.parent.parent
SERVICES = sorted(Registry().modules())


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(None)


@pytest.mark.parametrize("module", SERVICES)
def test_every_operation_function_is_in_the_model(models: Models, module: str) -> None:
    name = next(name for name in models.names() if module_of(name) == module)
    service = Registry().find(name)
    assert service is not None
    model = models.service(name)
    functions = {xform_name(operation) for operation in model.operation_names()}
    assert set(service.handlers) <= functions


@pytest.mark.parametrize("module", SERVICES)
def test_every_operation_has_a_test(module: str) -> None:
    name = next(name for name in Models(None).names() if module_of(name) == module)
    service = Registry().find(name)
    assert service is not None
    folders = [ROOT / "tests/services" / module, ROOT / "tests/journeys"]
    text = "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    words = set(re.findall(r"\w+", text.replace("-", "_")))
    assert sorted(set(service.handlers) - words) == []


@pytest.mark.parametrize("module", SERVICES)
def test_every_operation_has_a_docstring(module: str) -> None:
    name = next(name for name in Models(None).names() if module_of(name) == module)
    service = Registry().find(name)
    assert service is not None
    assert [function for function, handler in service.handlers.items() if not handler.__doc__] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "pilvi").rglob("*.py")
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []


def test_every_room_has_a_readme() -> None:
    rooms = [path.parent for path in (ROOT / "pilvi").glob("*/__init__.py")]
    assert [room.name for room in rooms if not (room / "README.md").exists()] == []


def test_nobody_reads_the_clock_directly() -> None:
    """Time arrives as an argument. Monotonic deadlines inside adapters and runtimes are their own business."""
    allowed = {"core/clock.py", "testing/virtual_clock.py"}
    banned = re.compile(r"\btime\.time\(|datetime\.now\(|datetime\.utcnow\(|\bimport random\b|\btime\.sleep\(")
    free = ("runtimes/", "cli/", "testing/", "compute/")
    found = [
        str(path.relative_to(ROOT / "pilvi"))
        for path in (ROOT / "pilvi").rglob("*.py")
        if banned.search(path.read_text())
        and str(path.relative_to(ROOT / "pilvi")) not in allowed
        and not str(path.relative_to(ROOT / "pilvi")).startswith(free)
    ]
    assert found == []


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    (commands,) = (action.choices for action in parser()._actions if isinstance(action.choices, dict))
    assert len(commands) > 5
    assert [name for name in commands if f"`pilvi {name}`" not in text] == []


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/make_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_compiled_coroutines_do_not_wait_while_they_handle_an_error() -> None:
    """mypyc loses the error then, and the process with it (decisions/0006)."""
    compiled = re.findall(r"pilvi/\S+\.py", (ROOT / "setup.py").read_text())
    assert compiled
    found = []
    for name in compiled:
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            blocks = node.body if isinstance(node, ast.ExceptHandler) else getattr(node, "finalbody", [])
            found += [f"{name}:{inner.lineno}" for block in blocks for inner in ast.walk(block) if isinstance(inner, ast.Await)]
    assert found == []
