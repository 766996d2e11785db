"""Built-in algorithms beside the plain library on public data; writes the figures into docs/algorithms.md.

    .venv/bin/python benchmarks/algorithms.py [--data FOLDER] [ROW ...]

Rows are functions of benchmarks/algorithm_rows/<environment>.py, run by that environment's interpreter. Most use data that come with
scikit-learn; some want a folder of public data sets (abalone/abalone.csv, adult/adult_train.csv, adult/adult_test.csv,
reviews/womens_clothing_reviews_balanced.csv). A row that is not run keeps its figures of last time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from pilvi.compute.environments import Environments
from pilvi.core.config import Config

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "algorithms.md"
PACKAGE = HERE.parent / "pilvi" / "runtimes" / "builtin"
HEAD = "| algorithm | data | measure | built-in | plain library | CPU seconds |\n|---|---|---|---|---|---|\n"
TABLE = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def measured(environment: str, names: list[str], data: Path | None) -> list[dict[str, Any]]:
    """The rows that one environment gives; [] where it is not installed."""
    found = Environments(Config.runtimes_dir_default()).find(environment)
    if found is None:
        print(f"left out: pilvi runtimes install {environment}", file=sys.stderr)
        return []
    program = HERE / "algorithm_rows" / f"{environment}.py"
    env = {**os.environ, "PYTHONPATH": f"{PACKAGE}:{HERE}", "ROWS": ",".join(names), "DATA": str(data or "")}
    done = subprocess.run([str(found.bin / "python3"), str(program)], env=env, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def table_row(row: dict[str, Any]) -> str:
    plain = "" if row["plain"] is None else f"{row['plain']:.4g} ({row['library']})"
    seconds = f"{row['seconds']:.1f}" + (f", plain {row['plain_seconds']:.1f}" if row.get("plain_seconds") else "")
    return f"| {row['algorithm']} | {row['data']} | {row['measure']} | {row['ours']:.4g} | {plain} | {seconds} |"


def key_of(line: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in line.split("|")[1:4])


def write(rows: list[dict[str, Any]]) -> None:
    page = PAGE.read_text()
    match = TABLE.search(page)
    assert match, f"{PAGE} has no place for figures"
    kept = {key_of(line): line for line in match[0].splitlines() if line.startswith("| ") and not line.startswith("| algorithm")}
    kept |= {key_of(line): line for line in map(table_row, rows)}
    body = HEAD + "".join(f"{kept[key]}\n" for key in sorted(kept))
    PAGE.write_text(page[: match.start()] + match[1] + body + match[2] + page[match.end() :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("rows", nargs="*")
    options = parser.parse_args()
    environments = sorted(path.stem for path in (HERE / "algorithm_rows").glob("*.py") if path.stem != "jobs")
    rows = [row for environment in environments for row in measured(environment, options.rows, options.data)]
    for row in rows:
        print(table_row(row))
    write(rows)


if __name__ == "__main__":
    main()
