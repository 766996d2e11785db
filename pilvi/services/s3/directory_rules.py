"""What directory buckets are called and what they can do: pure rules.

Source: S3 User Guide, "Directory bucket naming rules", "Differences for directory buckets", "Regional and Zonal endpoint API
operations for directory buckets"; Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3 Express".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilvi.core.arn import partition_of
from pilvi.core.errors import ServiceError
from pilvi.services.s3.errors import invalid_argument, invalid_request, not_implemented

SUFFIX = "--x-s3"
NAME = re.compile(r"(?P<base>[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)--(?P<zone>[a-z]{2,4}[0-9]-az[0-9]+)--x-s3\Z")
CLASS = "EXPRESS_ONEZONE"

READING = frozenset(
    {"GetObject", "HeadObject", "HeadBucket", "ListObjectsV2", "GetObjectAttributes", "ListParts", "ListMultipartUploads"}
)
"""Zonal operations that a read-only session may use."""
WRITING = frozenset(
    {
        "PutObject",
        "CopyObject",
        "DeleteObject",
        "DeleteObjects",
        "RenameObject",
        "CreateMultipartUpload",
        "UploadPart",
        "UploadPartCopy",
        "CompleteMultipartUpload",
        "AbortMultipartUpload",
    }
)
SIGNED_BY_OWN_KEYS = frozenset({"CopyObject", "UploadPartCopy", "CreateSession"})
"""Zonal operations that take no session."""
REGIONAL = {
    "CreateBucket": "s3express:CreateBucket",
    "DeleteBucket": "s3express:DeleteBucket",
    "PutBucketPolicy": "s3express:PutBucketPolicy",
    "GetBucketPolicy": "s3express:GetBucketPolicy",
    "DeleteBucketPolicy": "s3express:DeleteBucketPolicy",
    "GetBucketEncryption": "s3express:GetEncryptionConfiguration",
    "ListDirectoryBuckets": "s3express:ListAllMyDirectoryBuckets",
}
STORING = frozenset({"PutObject", "CopyObject", "CreateMultipartUpload"})

NOT_THERE = {
    "ACL": "x-amz-acl",
    "GrantFullControl": "x-amz-grant-full-control",
    "GrantRead": "x-amz-grant-read",
    "GrantReadACP": "x-amz-grant-read-acp",
    "GrantWriteACP": "x-amz-grant-write-acp",
    "Tagging": "x-amz-tagging",
    "TaggingDirective": "x-amz-tagging-directive",
    "ObjectLockMode": "x-amz-object-lock-mode",
    "ObjectLockRetainUntilDate": "x-amz-object-lock-retain-until-date",
    "ObjectLockLegalHoldStatus": "x-amz-object-lock-legal-hold",
    "WebsiteRedirectLocation": "x-amz-website-redirect-location",
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
    "SSECustomerKey": "x-amz-server-side-encryption-customer-key",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "BypassGovernanceRetention": "x-amz-bypass-governance-retention",
    "RequestPayer": "x-amz-request-payer",
    "MFA": "x-amz-mfa",
}
"""Members that ask a directory bucket for what it has not. KMS keys it has on AWS, not here."""

AREAS = {"northeast": "ne", "southeast": "se", "northwest": "nw", "southwest": "sw", "central": "c"}


def arn_of(region: str, account: str, name: str) -> str:
    return f"arn:{partition_of(region)}:s3express:{region}:{account}:bucket/{name}"


def prefix_of_zones(region: str) -> str:
    """us-east-1 -> use1, ap-northeast-1 -> apne1."""
    *head, area, number = region.split("-")
    return "".join(head) + (AREAS.get(area) or area[:1]) + number


def check_zone(zone: str, region: str) -> None:
    if zone.partition("-")[0] != prefix_of_zones(region):
        raise invalid_request(f"The Availability Zone {zone} is not in the Region {region}.")


def check_supported(operation: str, req: Mapping[str, Any]) -> None:
    """Errors: MethodNotAllowed - directory buckets have no such operation; NotImplemented - or no such header; InvalidStorageClass."""
    if operation not in READING and operation not in WRITING and operation not in REGIONAL and operation != "CreateSession":
        raise ServiceError(
            "MethodNotAllowed", "The specified method is not allowed against this resource.", 405, ResourceType="DirectoryBucket"
        )
    for member, header in NOT_THERE.items():
        if req.get(member):
            raise not_implemented(header)
    if req.get("ServerSideEncryption", "AES256") != "AES256":
        raise not_implemented("x-amz-server-side-encryption")
    if req.get("VersionId", "null") != "null":
        raise invalid_argument("Invalid version id specified", "versionId", req["VersionId"])
    if operation in STORING and req.get("StorageClass", CLASS) != CLASS:
        raise ServiceError(
            "InvalidStorageClass", "The storage class you specified is not valid", 400, StorageClassRequested=req["StorageClass"]
        )
    if operation == "ListObjectsV2":
        check_listing(req)
    if operation == "DeleteObjects" and any("VersionId" in item for item in req["Delete"].get("Objects") or ()):
        raise invalid_argument("Invalid version id specified", "versionId", "")


def check_listing(req: Mapping[str, Any]) -> None:
    """Folders only: prefixes end in the one delimiter there is."""
    if req.get("Delimiter", "/") != "/":
        raise invalid_argument("Directory buckets support only '/' as a delimiter.", "delimiter", req["Delimiter"])
    if req.get("Prefix") and not req["Prefix"].endswith("/"):
        raise invalid_argument("Directory buckets support only prefixes that end in a delimiter ('/').", "prefix", req["Prefix"])
    if req.get("StartAfter"):
        raise not_implemented("start-after")
