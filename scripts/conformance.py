"""Run ceph/s3-tests, an outside suite for S3, against a server of its own, and count.

`conformance.py CHECKOUT` takes a checkout of https://github.com/ceph/s3-tests and makes an environment inside it (needs a package
index). `--buckets 2023` gives every new bucket access control lists and no public access block, as AWS did before April 2023, which
most of the suite takes for granted. What follows `--` goes to pytest.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pilvi.auth.principals import canonical_id
from pilvi.testing.server import Account, TestServer

HERE = Path(__file__).parent
FILES = ("test_s3.py", "test_headers.py", "test_s3select.py")
EXTRA = ("pytest-timeout", "pytest-xdist")
RADOS_ONLY = (
    "fails_on_aws",
    "appendobject",
    "cloud_transition",
    "cloud_restore",
    "bucket_logging",
    "lifecycle_expiration",
    "webidentity_test",
    "token_claims_trust_policy_test",
    "token_principal_tag_role_policy_test",
    "token_request_tag_trust_policy_test",
    "token_resource_tags_test",
    "token_role_tags_test",
    "token_tag_keys_test",
    "iam_tenant",
    "auth_aws2",
)
"""Marks of tests that ask for what only the RADOS gateway does, or for a Keycloak, a second cluster or seconds that are days."""


def environment(checkout: Path) -> Path:
    """The interpreter of an environment with what the suite wants."""
    python = checkout / ".venv-conformance" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
        wanted = ["-r", str(checkout / "requirements.txt"), *EXTRA]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted], check=True)
    return python


def settings(server: TestServer) -> configparser.RawConfigParser:
    """The suite's configuration: four accounts as their roots, one user, and two keys."""
    found = configparser.RawConfigParser()
    host, _, port = server.endpoint.removeprefix("http://").rpartition(":")
    found["DEFAULT"] = {"host": host, "port": port, "is_secure": "False", "ssl_verify": "False"}
    found["fixtures"] = {"bucket prefix": "conf-{random}-", "iam name prefix": "s3-tests-", "iam path prefix": "/s3-tests/"}
    main, alt, tenant = (server.account(number) for number in ("300000000001", "300000000002", "300000000003"))
    kms = main.client("kms")
    found["s3 main"] = section(main) | {
        "api_name": "",
        "kms_keyid": kms.create_key()["KeyMetadata"]["Arn"],
        "kms_keyid2": kms.create_key()["KeyMetadata"]["Arn"],
        "storage_classes": "STANDARD_IA, GLACIER_IR",
    }
    found["s3 alt"] = section(alt)
    found["s3 tenant"] = section(tenant) | {"tenant": ""}
    found["iam"] = section(main)
    found["iam root"] = section(server.account("300000000004")) | {"user_id": "300000000004"}
    found["iam alt root"] = section(server.account("300000000005")) | {"user_id": "300000000005"}
    return found


def section(account: Account) -> dict[str, str]:
    return {
        "display_name": account.account,
        "user_id": canonical_id(account.account),
        "email": f"{account.account}@example.com",
        "access_key": account.access_key_id,
        "secret_key": account.secret,
    }


def run(python: Path, checkout: Path, arguments: argparse.Namespace) -> list[Mapping[str, str]]:
    """What became of each test."""
    with tempfile.TemporaryDirectory() as name, TestServer(Path(name) / "cloud") as server:
        folder = Path(name)
        with (folder / "s3tests.conf").open("w") as file:
            settings(server).write(file)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
            "S3TEST_CONF": str(folder / "s3tests.conf"),
            "S3_USE_SIGV4": "1",
            "PYTHONPATH": f"{HERE}{os.pathsep}{checkout}",
            "CONFORMANCE_RESULTS": str(folder / "results"),
            "CONFORMANCE_BUCKETS": arguments.buckets,
            "CONFORMANCE_EXCEPT": " ".join(RADOS_ONLY),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required" if arguments.plain_checksums else "when_supported",
        }
        files = [f"s3tests/functional/{file}" for file in FILES] if not arguments.rest else []
        command = [str(python), "-m", "pytest", "-q", "--tb=short", "-p", "conformance_plugin", "-p", "no:cacheprovider"]
        command += ["-n", str(arguments.jobs), "--timeout=120", *files, *arguments.rest]
        subprocess.run(command, cwd=checkout, env=environ, check=False)
        return [json.loads(line) for path in sorted(folder.glob("results*")) for line in path.read_text().splitlines()]


def worst(results: Sequence[Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """One result a test: how it failed, if it did, whether in itself or before or after."""
    found: dict[str, Mapping[str, str]] = {}
    for result in results:
        known = found.get(result["test"])
        if known is None or known["outcome"] != "failed":
            found[result["test"]] = result
    return found


def main() -> int:
    arguments = options()
    checkout = arguments.checkout.resolve()
    found = worst(run(environment(checkout), checkout, arguments))
    for name, result in sorted(found.items()):
        if result["outcome"] == "failed":
            print(f"failed  {name}  {result['why']}")
    counts: dict[str, Counter[str]] = {}
    for name, result in found.items():
        counts.setdefault(name.partition("::")[0].rpartition("/")[2], Counter())[result["outcome"]] += 1
    total = sum(counts.values(), Counter())
    for name, count in [*sorted(counts.items()), ("all", total)]:
        print(f"{name:20} {count['passed']:5} passed {count['failed']:5} failed {count['skipped']:5} skipped")
    if arguments.report:
        arguments.report.write_text(json.dumps(found, indent=1, sort_keys=True))
    return 1 if total["failed"] else 0


def options() -> argparse.Namespace:
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("checkout", type=Path)
    found.add_argument("--buckets", choices=("today", "2023"), default="today")
    found.add_argument("--plain-checksums", action="store_true", help="botocore sends checksums only where they are required")
    found.add_argument("--jobs", type=int, default=2)
    found.add_argument("--report", type=Path, help="write what became of each test, as JSON")
    mine, rest = sys.argv[1:], []
    if "--" in mine:
        mine, rest = mine[: mine.index("--")], mine[mine.index("--") + 1 :]
    return found.parse_args(mine, argparse.Namespace(rest=rest))


if __name__ == "__main__":
    sys.exit(main())
