"""The program inside a worker, by itself."""

from __future__ import annotations

import ast
from pathlib import Path

from pilvi.runtimes.lambda_ import bootstrap, precompile


def test_import_path_looks_into_layers_after_the_code():
    there = {"/opt/python", "/opt/python/lib/python3.9/site-packages"}
    found = bootstrap.import_path("/var/task", "/opt", ["3.11", "3.9"], there.__contains__)
    assert found == ["/var/task", "/opt/python/lib/python3.9/site-packages", "/opt/python"]
    assert bootstrap.import_path("/var/task", "", ["3.11"], lambda path: True) == ["/var/task"]


def test_bootstrap_imports_nothing_of_pilvi():
    tree = ast.parse(Path(bootstrap.__file__).read_text())
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in imported if name.startswith("pilvi")]


def test_precompile_compiles_what_is_listed_and_skips_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(precompile.os, "nice", lambda _by: 0)
    (tmp_path / "good.py").write_text("A = 1")
    (tmp_path / "bad.py").write_text("A =")
    (tmp_path / "list").write_text(f"{tmp_path}/bad.py\n{tmp_path}/none.py\n{tmp_path}/good.py\n")
    precompile.main(str(tmp_path / "list"))
    assert [path.name.split(".")[0] for path in (tmp_path / "__pycache__").iterdir()] == ["good"]


def test_uncompiled_names_modules_below_the_roots():
    assert bootstrap.uncompiled(("/nowhere/",)) == []
