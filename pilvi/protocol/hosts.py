"""What a Host header says: a service's endpoint, a bucket before S3's, or nothing (localhost, an address)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_SUFFIXES = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".on.aws")
_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d\Z")
_S3_LABEL = re.compile(r"s3(?:-fips|-accelerate|-external-1|-[a-z]{2,4}(?:-[a-z]+)+-\d)?\Z")
_S3_OTHERS = ("s3-control", "s3-control-fips", "s3-outposts", "s3-object-lambda")


class HostFacts(NamedTuple):
    endpoint_prefix: str = ""
    """As the models name endpoints: 's3', 'runtime.sagemaker'."""
    bucket: str = ""
    """A virtual-hosted bucket."""
    is_local: bool = False
    """Ends in localhost: what stands before may be a bucket, if S3 is meant."""
    leading: str = ""
    """For local hosts, what stands before."""


NOTHING = HostFacts()


def read_host(host: str, by_endpoint: Mapping[str, object]) -> HostFacts:
    """The facts of a Host header in lower case; by_endpoint: the endpoint prefixes there are."""
    name = host.rpartition(":")[0] if ":" in host and host.rpartition(":")[2].isdecimal() else host
    if name.endswith(".localhost"):
        return _local(name[: -len(".localhost")])
    suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
    if suffix is None:
        return NOTHING
    return _of_aws(name[: -len(suffix)].split("."), by_endpoint)


def _local(leading: str) -> HostFacts:
    """`bucket.s3.localhost`, `bucket.s3.us-east-1.localhost`, `bucket.localhost`; a bucket's own name may hold dots."""
    labels = leading.split(".")
    for at in range(len(labels) - 1, -1, -1):
        if _S3_LABEL.match(labels[at]) and all(_is_region_or_stack(label) for label in labels[at + 1 :]):
            return HostFacts("s3", ".".join(labels[:at]))
    return HostFacts(is_local=True, leading=leading)


def _is_region_or_stack(label: str) -> bool:
    return label == "dualstack" or _REGION.match(label) is not None


def _of_aws(labels: list[str], by_endpoint: Mapping[str, object]) -> HostFacts:
    for at in range(len(labels) - 1, -1, -1):
        if labels[at] in _S3_OTHERS:
            return HostFacts(labels[at].removesuffix("-fips"))
        if labels[at].startswith("s3express-"):
            return HostFacts("s3", ".".join(labels[:at]) if not labels[at].startswith("s3express-control") else "")
        if labels[at] == "s3-accesspoint":
            return HostFacts("s3", ".".join(labels[:at]))
        if _S3_LABEL.match(labels[at]) and all(_is_region_or_stack(label) for label in labels[at + 1 :]):
            return HostFacts("s3", ".".join(labels[:at]))
    return HostFacts(_endpoint_of([label for label in labels if not _is_region_or_stack(label)], by_endpoint))


def _endpoint_of(labels: list[str], by_endpoint: Mapping[str, object]) -> str:
    """The endpoint prefix among some labels, longest first; what stands before it (an account, `sync-`) is let go."""
    for at in range(len(labels)):
        joined = ".".join(labels[at:])
        if joined in by_endpoint:
            return joined
        _, dash, behind = joined.partition("-")
        while dash:
            if behind in by_endpoint:
                return behind
            _, dash, behind = behind.partition("-")
    return ""
