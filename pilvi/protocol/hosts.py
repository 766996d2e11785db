"""What a Host header says: a service's endpoint, a bucket before S3's, or nothing (localhost, an address)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from pilvi.core.arn import partition_of

_NAME_CHARACTERS = 260
"""A DNS name and a port; what is longer is no name, and taking it apart would cost too much."""
_SUFFIXES = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".on.aws")
_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d\Z")
_S3_LABEL = re.compile(r"s3(?:-fips|-accelerate|-external-1|-[a-z]{2,4}(?:-[a-z]+)+-\d)?\Z")
_S3_OTHERS = ("s3-control", "s3-control-fips", "s3-outposts")
_OBJECT_LAMBDA = ("s3-object-lambda", "s3-object-lambda-fips")
_POINT = re.compile(r"[a-z0-9][a-z0-9-]*-\d{12}\Z")


class HostFacts(NamedTuple):
    endpoint_prefix: str = ""
    """As the models name endpoints: 's3', 'runtime.sagemaker'."""
    bucket: str = ""
    """A virtual-hosted bucket."""
    is_local: bool = False
    """Ends in localhost: what stands before may be a bucket, if S3 is meant."""
    leading: str = ""
    """For local hosts, what stands before."""
    is_accelerated: bool = False
    """S3's host for transfer acceleration."""
    vpce: str = ""
    """The VPC endpoint whose name this is."""


NOTHING = HostFacts()


def read_host(host: str, by_endpoint: Mapping[str, object]) -> HostFacts:
    """The facts of a Host header in lower case; by_endpoint: the endpoint prefixes there are."""
    if len(host) > _NAME_CHARACTERS:
        return NOTHING
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
            return _bucket_before(labels, at)
    return HostFacts(is_local=True, leading=leading)


def _bucket_before(labels: list[str], at: int) -> HostFacts:
    return HostFacts("s3", ".".join(labels[:at]), is_accelerated=labels[at] == "s3-accelerate")


def _is_region_or_stack(label: str) -> bool:
    return label == "dualstack" or _REGION.match(label) is not None


def _access_point(label: str, region: str) -> str:
    """`NAME-ACCOUNT` as the ARN of an access point, which is how the rest of the server knows it from a bucket."""
    name, dash, account = label.rpartition("-")
    return f"arn:{partition_of(region)}:s3:{region}:{account}:accesspoint/{name}" if dash else label


def object_lambda_point(label: str, region: str) -> str:
    """`NAME-ACCOUNT` as the ARN of an Object Lambda access point; '' for other labels (the route of WriteGetObjectResponse)."""
    if _POINT.match(label) is None:
        return ""
    return f"arn:{partition_of(region)}:s3-object-lambda:{region}:{label[-12:]}:accesspoint/{label[:-13]}"


def _of_vpc_endpoint(labels: list[str]) -> HostFacts:
    """`[BUCKET.]bucket.vpce-ID-SUFFIX.s3.REGION.vpce`, with `accesspoint` or `control` where it says `bucket`."""
    region, name = labels[-2], labels[-4]
    vpce = "-".join(name.split("-")[:2])
    kind, leading = (labels[-5], ".".join(labels[:-5])) if len(labels) > 4 else ("bucket", "")
    if kind == "control":
        return HostFacts("s3-control", vpce=vpce)
    return HostFacts("s3", _access_point(leading, region) if kind == "accesspoint" and leading else leading, vpce=vpce)


def _of_aws(labels: list[str], by_endpoint: Mapping[str, object]) -> HostFacts:
    if len(labels) > 3 and labels[-1] == "vpce" and labels[-3] == "s3":
        return _of_vpc_endpoint(labels)
    for at in range(len(labels) - 1, -1, -1):
        if labels[at] in _S3_OTHERS:
            return HostFacts(labels[at].removesuffix("-fips"))
        if labels[at] in _OBJECT_LAMBDA:
            return HostFacts("s3", object_lambda_point(".".join(labels[:at]), labels[-1]))
        if labels[at].startswith("s3express-"):
            return HostFacts("s3", ".".join(labels[:at]) if not labels[at].startswith("s3express-control") else "")
        if labels[at] in ("s3-accesspoint", "s3-accesspoint-fips"):
            return HostFacts("s3", _access_point(".".join(labels[:at]), labels[-1]))
        if _S3_LABEL.match(labels[at]) and all(_is_region_or_stack(label) for label in labels[at + 1 :]):
            return _bucket_before(labels, at)
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
