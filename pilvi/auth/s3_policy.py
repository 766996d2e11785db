"""What S3 refuses to keep as the policy of a bucket or an access point, with AWS's sentence for each thing that is wrong.

The grammar that all policies share is checked in pilvi.auth.grammar; this adds what S3 alone knows: its actions and what they are
about, its condition keys and which actions have them, and the resource that the policy is attached to.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3"; IAM User Guide, "AWS global
condition context keys"; messages as the service words them.
Differs: whether the principals exist is not looked up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from pilvi.auth.policy import MalformedPolicy, parse
from pilvi.auth.public import as_list
from pilvi.core.errors import ServiceError

POLICY_BYTES = 20 << 10

OBJECT_ACTIONS = frozenset(
    f"s3:{name}".lower()
    for name in [
        "AbortMultipartUpload",
        "BypassGovernanceRetention",
        "DeleteObject",
        "DeleteObjectTagging",
        "DeleteObjectVersion",
        "DeleteObjectVersionTagging",
        "GetObject",
        "GetObjectAcl",
        "GetObjectAttributes",
        "GetObjectLegalHold",
        "GetObjectRetention",
        "GetObjectTagging",
        "GetObjectTorrent",
        "GetObjectVersion",
        "GetObjectVersionAcl",
        "GetObjectVersionAttributes",
        "GetObjectVersionForReplication",
        "GetObjectVersionTagging",
        "GetObjectVersionTorrent",
        "InitiateReplication",
        "ListMultipartUploadParts",
        "ObjectOwnerOverrideToBucketOwner",
        "PutObject",
        "PutObjectAcl",
        "PutObjectLegalHold",
        "PutObjectRetention",
        "PutObjectTagging",
        "PutObjectVersionAcl",
        "PutObjectVersionTagging",
        "ReplicateDelete",
        "ReplicateObject",
        "ReplicateTags",
        "RestoreObject",
        "UpdateObjectEncryption",
    ]
)
BUCKET_ACTIONS = frozenset(
    f"s3:{name}".lower()
    for name in [
        "CreateBucket",
        "CreateBucketMetadataTableConfiguration",
        "DeleteBucket",
        "DeleteBucketMetadataTableConfiguration",
        "DeleteBucketPolicy",
        "DeleteBucketWebsite",
        "GetAccelerateConfiguration",
        "GetAnalyticsConfiguration",
        "GetBucketAbac",
        "GetBucketAcl",
        "GetBucketCORS",
        "GetBucketLocation",
        "GetBucketLogging",
        "GetBucketMetadataTableConfiguration",
        "GetBucketNotification",
        "GetBucketObjectLockConfiguration",
        "GetBucketOwnershipControls",
        "GetBucketPolicy",
        "GetBucketPolicyStatus",
        "GetBucketPublicAccessBlock",
        "GetBucketRequestPayment",
        "GetBucketTagging",
        "GetBucketVersioning",
        "GetBucketWebsite",
        "GetEncryptionConfiguration",
        "GetIntelligentTieringConfiguration",
        "GetInventoryConfiguration",
        "GetLifecycleConfiguration",
        "GetMetricsConfiguration",
        "GetReplicationConfiguration",
        "ListBucket",
        "ListBucketMultipartUploads",
        "ListBucketVersions",
        "ListTagsForResource",
        "PutAccelerateConfiguration",
        "PutAnalyticsConfiguration",
        "PutBucketAbac",
        "PutBucketAcl",
        "PutBucketCORS",
        "PutBucketLogging",
        "PutBucketNotification",
        "PutBucketObjectLockConfiguration",
        "PutBucketOwnershipControls",
        "PutBucketPolicy",
        "PutBucketPublicAccessBlock",
        "PutBucketRequestPayment",
        "PutBucketTagging",
        "PutBucketVersioning",
        "PutBucketWebsite",
        "PutEncryptionConfiguration",
        "PutIntelligentTieringConfiguration",
        "PutInventoryConfiguration",
        "PutLifecycleConfiguration",
        "PutMetricsConfiguration",
        "PutReplicationConfiguration",
        "TagResource",
        "UntagResource",
        "UpdateBucketMetadataInventoryTableConfiguration",
        "UpdateBucketMetadataJournalTableConfiguration",
    ]
)
OTHER_ACTIONS = frozenset(
    f"s3:{name}".lower()
    for name in [
        "CreateAccessPoint",
        "CreateAccessPointForObjectLambda",
        "CreateJob",
        "DeleteAccessPoint",
        "DeleteAccessPointPolicy",
        "DescribeJob",
        "GetAccessPoint",
        "GetAccessPointPolicy",
        "GetAccessPointPolicyStatus",
        "GetAccountPublicAccessBlock",
        "ListAccessPoints",
        "ListAllMyBuckets",
        "ListJobs",
        "ListStorageLensConfigurations",
        "PutAccessPointPolicy",
        "PutAccessPointPublicAccessBlock",
        "PutAccountPublicAccessBlock",
        "UpdateJobPriority",
        "UpdateJobStatus",
        "DescribeMultiRegionAccessPointOperation",
        "CreateMultiRegionAccessPoint",
    ]
)
"""Actions of S3 that no bucket policy can speak of."""

LISTS = frozenset({"s3:listbucket", "s3:listbucketversions", "s3:listbucketmultipartuploads"})
WRITES = frozenset({"s3:putobject", "s3:replicateobject", "s3:updateobjectencryption"})
ACL_WRITES = frozenset({"s3:putobject", "s3:putobjectacl", "s3:putobjectversionacl", "s3:putbucketacl", "s3:createbucket"})
TAG_WRITES = frozenset({"s3:putobject", "s3:putobjecttagging", "s3:putobjectversiontagging", "s3:replicatetags"})
LOCKS = frozenset(
    {"s3:putobject", "s3:putobjectretention", "s3:putobjectlegalhold", "s3:putbucketobjectlockconfiguration", "s3:replicateobject"}
)
VERSIONS = frozenset(
    name for name in OBJECT_ACTIONS if "version" in name or name in ("s3:putobject", "s3:replicateobject", "s3:getobjectlegalhold")
)

CONDITION_KEYS: dict[str, frozenset[str] | None] = {
    "s3:prefix": LISTS,
    "s3:delimiter": LISTS,
    "s3:max-keys": LISTS,
    "s3:versionid": VERSIONS,
    "s3:x-amz-acl": ACL_WRITES,
    "s3:x-amz-grant-full-control": ACL_WRITES,
    "s3:x-amz-grant-read": ACL_WRITES,
    "s3:x-amz-grant-read-acp": ACL_WRITES,
    "s3:x-amz-grant-write": ACL_WRITES,
    "s3:x-amz-grant-write-acp": ACL_WRITES,
    "s3:x-amz-copy-source": WRITES,
    "s3:x-amz-metadata-directive": WRITES,
    "s3:x-amz-object-ownership": frozenset({"s3:createbucket", "s3:putbucketownershipcontrols"}),
    "s3:x-amz-server-side-encryption": WRITES,
    "s3:x-amz-server-side-encryption-aws-kms-key-id": WRITES,
    "s3:x-amz-server-side-encryption-customer-algorithm": WRITES | {"s3:getobject", "s3:getobjectversion"},
    "s3:x-amz-storage-class": WRITES,
    "s3:x-amz-website-redirect-location": WRITES,
    "s3:requestobjecttagkeys": TAG_WRITES,
    "s3:locationconstraint": frozenset({"s3:createbucket"}),
    "s3:object-lock-mode": LOCKS,
    "s3:object-lock-legal-hold": LOCKS,
    "s3:object-lock-retain-until-date": LOCKS,
    "s3:object-lock-remaining-retention-days": LOCKS,
    "s3:if-match": frozenset({"s3:putobject", "s3:deleteobject"}),
    "s3:if-none-match": frozenset({"s3:putobject"}),
    "s3:objectcreationoperation": frozenset({"s3:putobject"}),
    "s3:inventoryaccessibleoptionalfields": frozenset({"s3:putinventoryconfiguration"}),
    "s3:accessgrantsinstancearn": None,
    "s3:accesspointnetworkorigin": None,
    "s3:authtype": None,
    "s3:dataaccesspointaccount": None,
    "s3:dataaccesspointarn": None,
    "s3:accesspointtag": None,
    "s3:resourceaccount": None,
    "s3:signatureage": None,
    "s3:signatureversion": None,
    "s3:tlsversion": None,
    "s3:x-amz-content-sha256": None,
}
"""Condition keys of S3 and the actions that have them; None: all."""

PREFIXED_KEYS: dict[str, frozenset[str] | None] = {
    "s3:existingobjecttag/": OBJECT_ACTIONS,
    "s3:requestobjecttag/": TAG_WRITES,
    "s3:buckettag/": None,
    "s3:accesspointtag/": None,
    "aws:principaltag/": None,
    "aws:requesttag/": None,
    "aws:resourcetag/": None,
}

GLOBAL_KEYS = frozenset(
    f"aws:{name}".lower()
    for name in [
        "CalledVia",
        "CalledViaFirst",
        "CalledViaLast",
        "CurrentTime",
        "Ec2InstanceSourceVpc",
        "Ec2InstanceSourcePrivateIPv4",
        "EpochTime",
        "FederatedProvider",
        "MultiFactorAuthAge",
        "MultiFactorAuthPresent",
        "PrincipalAccount",
        "PrincipalArn",
        "PrincipalIsAWSService",
        "PrincipalOrgID",
        "PrincipalOrgPaths",
        "PrincipalServiceName",
        "PrincipalServiceNamesList",
        "PrincipalType",
        "Referer",
        "RequestedRegion",
        "ResourceAccount",
        "ResourceOrgID",
        "ResourceOrgPaths",
        "SecureTransport",
        "SourceAccount",
        "SourceArn",
        "SourceIdentity",
        "SourceIp",
        "SourceOrgID",
        "SourceOrgPaths",
        "SourceOwner",
        "SourceVpc",
        "SourceVpcArn",
        "SourceVpce",
        "TagKeys",
        "TokenIssueTime",
        "UserAgent",
        "Userid",
        "Username",
        "ViaAWSService",
        "VpceAccount",
        "VpceOrgID",
        "VpceOrgPaths",
        "VpcSourceIp",
    ]
)


def checked_policy(arn: str, text: str) -> dict[str, Any]:
    """The document, once it is a policy about the bucket or access point of this ARN.

    Errors: MalformedPolicy.
    """
    if len(text.encode()) > POLICY_BYTES:
        raise malformed("Policy exceeds the maximum allowed document size.")
    try:
        parse(text, "resource")
    except MalformedPolicy as error:
        raise malformed(error.message) from None
    document: dict[str, Any] = json.loads(text)
    for statement in as_list(document["Statement"]):
        if ":s3express:" in arn:
            check_whole_statement(arn, statement, "s3express:")
        elif ":s3-object-lambda:" in arn:
            check_whole_statement(arn, statement, "s3-object-lambda:")
        else:
            check_statement(arn, statement)
    return document


def check_whole_statement(arn: str, statement: Mapping[str, Any], prefix: str) -> None:
    """The policy of a directory bucket, or of an Object Lambda access point: about it as a whole, and actions of its own kind."""
    if not all(action.startswith((prefix, "*")) for action in actions_of(statement)):
        raise malformed("Policy has invalid action")
    if not all(resource in (arn, "*") for resource in as_list(statement.get("Resource", statement.get("NotResource")))):
        raise malformed("Policy has invalid resource")


def check_statement(arn: str, statement: Mapping[str, Any]) -> None:
    actions = actions_of(statement)
    if not all(is_known(action) for action in actions):
        raise malformed("Policy has invalid action")
    resources = [str(resource) for resource in as_list(statement.get("Resource", statement.get("NotResource")))]
    if not all(is_about(arn, resource) for resource in resources):
        raise malformed("Policy has invalid resource")
    about = applicable(arn, resources) if "Resource" in statement else OBJECT_ACTIONS | BUCKET_ACTIONS
    meant = about - matched(actions) if "NotAction" in statement else about & matched(actions)
    if "Action" in statement and not all(about & matched([action]) for action in actions):
        raise malformed("Action does not apply to any resource(s) in statement")
    for keys in statement.get("Condition", {}).values():
        for key in keys:
            check_key(key.lower(), meant)


def check_key(key: str, actions: frozenset[str]) -> None:
    if key in GLOBAL_KEYS:
        return
    having = CONDITION_KEYS.get(key)
    if having is None and key not in CONDITION_KEYS:
        prefix = next((prefix for prefix in PREFIXED_KEYS if key.startswith(prefix) and len(key) > len(prefix)), None)
        if prefix is None:
            raise malformed("Policy has an invalid condition key")
        having = PREFIXED_KEYS[prefix]
    if having is not None and not having & actions:
        raise malformed("Conditions do not apply to combination of actions and resources in statement")


def actions_of(statement: Mapping[str, Any]) -> list[str]:
    return [str(action).lower() for action in as_list(statement.get("Action", statement.get("NotAction", ())))]


def is_known(action: str) -> bool:
    return action == "*" or bool(matched([action])) or any(fnmatchcase(name, action) for name in OTHER_ACTIONS)


def matched(actions: Iterable[str]) -> frozenset[str]:
    """The actions of S3 that patterns mean."""
    patterns = [as_pattern(action) for action in actions]
    return frozenset(name for name in OBJECT_ACTIONS | BUCKET_ACTIONS if any(fnmatchcase(name, pattern) for pattern in patterns))


def as_pattern(action: str) -> str:
    return action.replace("[", "[[]")


def applicable(arn: str, resources: Iterable[str]) -> frozenset[str]:
    """The actions that are about any of these resources."""
    found: frozenset[str] = frozenset()
    for resource in resources:
        if resource == "*":
            return OBJECT_ACTIONS | BUCKET_ACTIONS
        rest = resource[len(arn) :]
        if rest.startswith("/"):
            found |= OBJECT_ACTIONS
        else:
            found |= BUCKET_ACTIONS | (OBJECT_ACTIONS if rest else frozenset())
    return found


def is_about(arn: str, resource: str) -> bool:
    return resource == "*" or resource == arn or resource.startswith((f"{arn}/", f"{arn}*"))


def malformed(message: str) -> ServiceError:
    return ServiceError("MalformedPolicy", message, 400)
