"""What a job does to one object: the call of S3 or Lambda that its operation means, as the job's role.

Source: S3 User Guide, "Operations supported by S3 Batch Operations"; "Invoke AWS Lambda function": both payloads.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote_plus

from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.services.s3control.job_replication import replicate

Params = dict[str, Any]

ATTEMPTS = 5
PAUSE_S = 0.2
TEMPORARY = 500


class Outcome(NamedTuple):
    """How a task ended, as the report tells it."""

    succeeded: bool
    status: int
    code: str
    message: str


async def perform(ctx: Context, job: Mapping[str, Any], task_id: str, bucket: str, key: str, version_id: str) -> Outcome:
    """One task; what fails for the moment is tried again."""
    ((name, given),) = job["Operation"].items()
    for attempt in range(1, ATTEMPTS + 1):
        if name == "LambdaInvoke":
            outcome, is_temporary = await invoke(ctx, job, given, task_id, bucket, key, version_id)
        else:
            outcome, is_temporary = await ask(ctx, name, given, bucket, key, version_id)
        if not is_temporary:
            break
        if attempt < ATTEMPTS:
            await asyncio.sleep(PAUSE_S * 2**attempt)
    return outcome


async def ask(ctx: Context, name: str, given: Mapping[str, Any], bucket: str, key: str, version_id: str) -> tuple[Outcome, bool]:
    try:
        if name == "S3ReplicateObject":
            await replicate(ctx, bucket, key, version_id)
        else:
            operation, make = CALLS[name]
            await ctx.acall("s3", operation, **make(given, bucket, key, version_id))
    except ServiceError as error:
        status = error.status or 400
        return Outcome(False, status, error.code, error.message), status >= TEMPORARY and error.code != "NotImplemented"
    except PilviError as error:
        return Outcome(False, 400, "InvalidRequest", str(error)), False
    return Outcome(True, 200, "", "Successful"), False


def target(bucket: str, key: str, version_id: str) -> Params:
    return {"Bucket": bucket, "Key": key, **({"VersionId": version_id} if version_id else {})}


def tagging(given: Mapping[str, Any], bucket: str, key: str, version_id: str) -> Params:
    return {**target(bucket, key, version_id), "Tagging": {"TagSet": given.get("TagSet") or []}}


def untagging(given: Mapping[str, Any], bucket: str, key: str, version_id: str) -> Params:  # noqa: ARG001 - alike
    return target(bucket, key, version_id)


GRANTEES = {"id": ("CanonicalUser", "ID"), "uri": ("Group", "URI"), "emailAddress": ("AmazonCustomerByEmail", "EmailAddress")}


def access_list(given: Mapping[str, Any], bucket: str, key: str, version_id: str) -> Params:
    policy = given.get("AccessControlPolicy") or {}
    found = target(bucket, key, version_id)
    if "CannedAccessControlList" in policy:
        return {**found, "ACL": policy["CannedAccessControlList"]}
    listed = policy.get("AccessControlList") or {}
    grants = []
    for grant in listed.get("Grants") or ():
        kind, member = GRANTEES[grant["Grantee"]["TypeIdentifier"]]
        grants.append({"Grantee": {"Type": kind, member: grant["Grantee"]["Identifier"]}, "Permission": grant["Permission"]})
    return {**found, "AccessControlPolicy": {"Owner": listed.get("Owner") or {}, "Grants": grants}}


def restoring(given: Mapping[str, Any], bucket: str, key: str, version_id: str) -> Params:
    request: Params = {"GlacierJobParameters": {"Tier": given["GlacierJobTier"].capitalize()}}
    if "ExpirationInDays" in given:
        request["Days"] = given["ExpirationInDays"]
    return {**target(bucket, key, version_id), "RestoreRequest": request}


def holding(given: Mapping[str, Any], bucket: str, key: str, version_id: str) -> Params:
    return {**target(bucket, key, version_id), "LegalHold": given["LegalHold"]}


def retaining(given: Mapping[str, Any], bucket: str, key: str, version_id: str) -> Params:
    bypass = {"BypassGovernanceRetention": True} if given.get("BypassGovernanceRetention") else {}
    return {**target(bucket, key, version_id), "Retention": given["Retention"], **bypass}


SAME = {
    "CannedAccessControlList": "ACL",
    "MetadataDirective": "MetadataDirective",
    "ModifiedSinceConstraint": "CopySourceIfModifiedSince",
    "UnModifiedSinceConstraint": "CopySourceIfUnmodifiedSince",
    "RedirectLocation": "WebsiteRedirectLocation",
    "StorageClass": "StorageClass",
    "ObjectLockLegalHoldStatus": "ObjectLockLegalHoldStatus",
    "ObjectLockMode": "ObjectLockMode",
    "ObjectLockRetainUntilDate": "ObjectLockRetainUntilDate",
    "BucketKeyEnabled": "BucketKeyEnabled",
    "ChecksumAlgorithm": "ChecksumAlgorithm",
}
METADATA = {
    "CacheControl": "CacheControl",
    "ContentDisposition": "ContentDisposition",
    "ContentEncoding": "ContentEncoding",
    "ContentLanguage": "ContentLanguage",
    "ContentType": "ContentType",
    "HttpExpiresDate": "Expires",
    "UserMetadata": "Metadata",
}
GRANT_MEMBERS = {
    "FULL_CONTROL": "GrantFullControl",
    "READ": "GrantRead",
    "READ_ACP": "GrantReadACP",
    "WRITE": "GrantWrite",
    "WRITE_ACP": "GrantWriteACP",
}


def copying(given: Mapping[str, Any], bucket: str, key: str, version_id: str) -> Params:
    prefix = given.get("TargetKeyPrefix")
    source = {"Bucket": bucket, "Key": key, **({"VersionId": version_id} if version_id else {})}
    found: Params = {
        "Bucket": given["TargetResource"].partition(":::")[2] or given["TargetResource"],
        "Key": f"{prefix.rstrip('/')}/{key}" if prefix else key,
        "CopySource": source,
    }
    found |= {member: given[name] for name, member in SAME.items() if name in given}
    metadata = given.get("NewObjectMetadata") or {}
    found |= {member: metadata[name] for name, member in METADATA.items() if name in metadata}
    if any(name in metadata for name in METADATA):
        found["MetadataDirective"] = "REPLACE"
    if "SSEAlgorithm" in metadata:
        found["ServerSideEncryption"] = "aws:kms" if metadata["SSEAlgorithm"] == "KMS" else "AES256"
    if "SSEAwsKmsKeyId" in given:
        found |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": given["SSEAwsKmsKeyId"]}
    if "NewObjectTagging" in given:
        pairs = (f"{quote_plus(tag['Key'])}={quote_plus(tag['Value'])}" for tag in given["NewObjectTagging"])
        found |= {"TaggingDirective": "REPLACE", "Tagging": "&".join(pairs)}
    if given.get("RequesterPays"):
        found["RequestPayer"] = "requester"
    grants: dict[str, list[str]] = {}
    for grant in given.get("AccessControlGrants") or ():
        grantee = grant["Grantee"]
        grants.setdefault(GRANT_MEMBERS[grant["Permission"]], []).append(f'{grantee["TypeIdentifier"]}="{grantee["Identifier"]}"')
    return found | {member: ", ".join(grantees) for member, grantees in grants.items()}


CALLS: dict[str, tuple[str, Callable[[Mapping[str, Any], str, str, str], Params]]] = {
    "S3PutObjectTagging": ("PutObjectTagging", tagging),
    "S3DeleteObjectTagging": ("DeleteObjectTagging", untagging),
    "S3PutObjectAcl": ("PutObjectAcl", access_list),
    "S3InitiateRestoreObject": ("RestoreObject", restoring),
    "S3PutObjectLegalHold": ("PutObjectLegalHold", holding),
    "S3PutObjectRetention": ("PutObjectRetention", retaining),
    "S3PutObjectCopy": ("CopyObject", copying),
}


# -- functions ------------------------------------------------------------------------------------------------------------


async def invoke(
    ctx: Context, job: Mapping[str, Any], given: Mapping[str, Any], task_id: str, bucket: str, key: str, version_id: str
) -> tuple[Outcome, bool]:
    """Ask the function; whether it failed for the moment only."""
    payload = event_for(ctx, job, given, task_id, bucket, key, version_id)
    try:
        answer = await ctx.acall("lambda", "Invoke", FunctionName=given["FunctionArn"], Payload=json.dumps(payload).encode())
    except ServiceError as error:
        status = error.status or 400
        return Outcome(False, status, error.code, error.message), status >= TEMPORARY or error.code == "TooManyRequestsException"
    except PilviError as error:
        return Outcome(False, 400, "InvalidRequest", str(error)), False
    text = bytes(answer.get("Payload") or b"").decode(errors="replace")
    if answer.get("FunctionError"):
        return Outcome(False, 200, "PermanentFailure", f"Lambda returned function error: {text}"), False
    return outcome_of(text, task_id)


def event_for(
    ctx: Context, job: Mapping[str, Any], given: Mapping[str, Any], task_id: str, bucket: str, key: str, version_id: str
) -> Params:
    version = given.get("InvocationSchemaVersion", "1.0")
    task: Params = {"taskId": task_id, "s3Key": quote_plus(key, safe="/"), "s3VersionId": version_id or None}
    about: Params = {"id": job["JobId"]}
    if version == "1.0":
        task["s3BucketArn"] = f"arn:aws:s3:::{bucket}"
    else:
        task |= {"s3Bucket": bucket, "s3Key": key}
        about["userArguments"] = given.get("UserArguments") or {}
    return {"invocationSchemaVersion": version, "invocationId": ctx.ids.hex(32), "job": about, "tasks": [task]}


def outcome_of(text: str, task_id: str) -> tuple[Outcome, bool]:
    """What the function says became of its task."""
    try:
        answer = json.loads(text)
        found = {result["taskId"]: result for result in answer.get("results") or ()}.get(task_id)
        code = found["resultCode"] if found is not None else answer.get("treatMissingKeysAs", "TemporaryFailure")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Outcome(False, 200, "PermanentFailure", f"Lambda returned an invalid response: {text[:1000]}"), False
    message = str((found or {}).get("resultString", ""))
    if code == "Succeeded":
        return Outcome(True, 200, "", message), False
    return Outcome(False, 200, str(code), message), code == "TemporaryFailure"
