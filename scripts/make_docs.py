"""Write the generated pages: docs/parity.md from scripts/parity_head.md, which is written by hand, and `Differs` lines,
docs/settings.md from the command line, docs/coverage.md from the code.

`make_docs.py --check` changes nothing and fails when a page is out of date.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
from collections import Counter
from pathlib import Path

from pilvi.app.coverage import coverage_of
from pilvi.app.registry import Registry, module_of
from pilvi.cli.main import parser
from pilvi.protocol.models import Models

ROOT = Path(__file__).parent.parent
NOTE = "<!-- written by scripts/make_docs.py; edit the code instead -->\n\n"
DIFFERS = re.compile(r"^\s*Differs: (.*?)(?=^\s*\w+: |\n\n|\Z)", re.MULTILINE | re.DOTALL)


def parity() -> str:
    head = (ROOT / "scripts" / "parity_head.md").read_text()
    lines = ["# What differs from AWS\n\n", NOTE, head, "\n## By file\n\nGathered from the `Differs` lines beside the code.\n"]
    for path in sorted((ROOT / "pilvi").rglob("*.py")):
        rows = differences(path)
        if rows:
            place = path.relative_to(ROOT / "pilvi")
            lines.append(f"\n### {place}\n\n")
            lines += [f"- {f'`{name}`: ' if name else ''}{text}\n" for name, text in rows]
    return "".join(lines)


def differences(path: Path) -> list[tuple[str, str]]:
    tree = ast.parse(path.read_text())
    found = []
    for node in [
        tree,
        *[node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))],
    ]:
        name = "" if isinstance(node, ast.Module) else node.name
        found += [(name, " ".join(text.split())) for text in DIFFERS.findall(ast.get_docstring(node) or "")]
    return found


def settings() -> str:
    lines = ["# Settings\n\n", NOTE, "Every setting is an option of the command.\n"]
    commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        lines.append(f"\n## pilvi {name}\n\n```\n{command.format_help().strip()}\n```\n")
    lines.append(
        "\n## Environment\n\n"
        "| variable | meaning |\n|---|---|\n"
        "| `PILVI_DATA_DIR` | default of `--data-dir` |\n"
        "| `PILVI_RUNTIMES_DIR` | default of `--runtimes-dir` |\n"
    )
    return "".join(lines)


def coverage_page() -> str:
    models, registry = Models(None), Registry()
    lines = ["# Coverage\n\n", NOTE, "`pilvi coverage` prints the same. What is not listed is absent and answers NotImplemented.\n"]
    for name in models.names():
        if module_of(name) not in registry.modules():
            continue
        depths = coverage_of(models, registry, name)
        counts = Counter(depths.values())
        lines.append(f"\n## {name}: {counts['executes']} execute, {counts['records']} record, {counts['absent']} absent\n\n")
        lines += [
            f"- {operation}{' (records)' if depth == 'records' else ''}\n"
            for operation, depth in depths.items()
            if depth != "absent"
        ]
    return "".join(lines)


def changelog() -> str:
    head = "# Changelog\n\n" + NOTE
    lines = [head, "## Unreleased\n"]
    for kind in ("added", "changed", "fixed", "removed"):
        fragments = sorted((ROOT / "changes").glob(f"*.{kind}.md"))
        if fragments:
            lines.append(f"\n### {kind.capitalize()}\n\n")
            lines += [f"- {' '.join(path.read_text().split()).removeprefix('- ')}\n" for path in fragments]
    return "".join(lines)


def main() -> int:
    # The pages must not depend on where they are written: not on the width of a terminal, nor on the length of a path.
    os.environ |= {"COLUMNS": "120", "PILVI_DATA_DIR": "~/.local/share/pilvi", "PILVI_RUNTIMES_DIR": "INSTALLATION/pilvi-runtimes"}
    pages = {
        "docs/parity.md": parity(),
        "docs/settings.md": settings(),
        "docs/coverage.md": coverage_page(),
        "CHANGELOG.md": changelog(),
    }
    stale = [name for name, text in pages.items() if not (ROOT / name).exists() or (ROOT / name).read_text() != text]
    if "--check" in sys.argv:
        if stale:
            print(f"out of date: {', '.join(stale)}; run: make docs", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (ROOT / name).write_text(pages[name])
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
