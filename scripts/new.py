"""Skeletons: `new.py service NAME` and `new.py noun SERVICE NAME`. Never overwrites."""

from __future__ import annotations

import sys
from pathlib import Path

from pilvi.app.registry import module_of
from pilvi.protocol.models import Models

ROOT = Path(__file__).parent.parent

NOUN = '''"""{title}: what it is, in a line."""

from __future__ import annotations

from pilvi.core.service import Operations

ops = Operations()
'''

SERVICE = '''"""{title}: what it is, in a line."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, Denied, Invalid, NotFound
from pilvi.core.service import Operations, Service

ops = Operations()

service = Service(
    "{name}",
    ops,
    errors={{
        NotFound: "ResourceNotFoundException",
        AlreadyExists: "ResourceAlreadyExistsException",
        Invalid: "ValidationException",
        Denied: "AccessDeniedException",
    }},
)
'''

TEST = '''"""{title}, through boto3."""

from __future__ import annotations

from pilvi.testing.server import Account


def test_nothing_is_there_yet(aws: Account) -> None:
    assert aws.client("{name}").meta.service_model.service_name == "{name}"
'''


def write(path: Path, text: str) -> None:
    if path.exists():
        raise SystemExit(f"{path.relative_to(ROOT)} is there already")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(path.relative_to(ROOT))


def main(arguments: list[str]) -> None:
    known = set(Models(None).names())
    match arguments:
        case ["service", name] if name in known:
            module = module_of(name)
            write(ROOT / "pilvi/services" / f"{module}.py", SERVICE.format(name=name, title=name.capitalize()))
            write(ROOT / "tests/services" / module / f"test_{module}.py", TEST.format(name=name, title=name.capitalize()))
        case ["noun", service, noun] if service in known:
            module = module_of(service)
            title = noun.replace("_", " ").capitalize()
            write(ROOT / "pilvi/services" / module / f"{noun}.py", NOUN.format(title=title))
            write(ROOT / "tests/services" / module / f"test_{noun}.py", TEST.format(name=service, title=title))
        case _:
            raise SystemExit(f"{__doc__}\nservices are named as botocore names them")


if __name__ == "__main__":
    main(sys.argv[1:])
