"""Writes pilvi/services/sagemaker/registries.txt: the accounts whose ECR registries hold AWS's own SageMaker images.

    python scripts/image_registries.py .venv-sdk2 .venv-sdk3

The facts stand in the SageMaker SDKs' tables (image_uri_config/*.json), a registry for each image and Region. Accounts only get more:
those of an older SDK stay in the file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "pilvi/services/sagemaker/registries.txt"
HEAD = "# Accounts of AWS whose registries hold SageMaker's images: image_uri_config/*.json of the SageMaker SDKs 2 and 3.\n"


def registries(value: Any) -> Iterator[str]:
    """The accounts that a table names, however deep."""
    if isinstance(value, dict):
        yield from (value.get("registries") or {}).values()
        for inner in value.values():
            yield from registries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from registries(inner)


def main(environments: list[str]) -> None:
    found = set(re.findall(r"^\d{12}$", TARGET.read_text(), re.MULTILINE)) if TARGET.exists() else set()
    tables = [path for place in environments for path in Path(place).glob("lib/python3*/site-packages/**/image_uri_config/*.json")]
    for table in tables:
        found |= set(registries(json.loads(table.read_text())))
    if wrong := sorted(account for account in found if not re.fullmatch(r"\d{12}", account)):
        sys.exit(f"no accounts: {wrong}")
    TARGET.write_text(HEAD + "".join(f"{account}\n" for account in sorted(found)))
    print(f"{len(found)} accounts from {len(tables)} tables")


if __name__ == "__main__":
    main(sys.argv[1:])
