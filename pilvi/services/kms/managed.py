"""Keys that AWS manages: one for each service, account and Region (`alias/aws/s3`), made when first used, and nobody's to edit.

Their policy lets every principal of the account use them through that service, and look at them. They are rotated every year.

Source: KMS Developer Guide, "AWS managed keys"; the policy is the one AWS shows for aws/s3.
Differs: ids follow from account, Region and service.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.arn import partition_of
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.material import new_material, new_version
from pilvi.storage.records import Insert, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Change

PREFIX: Final = "alias/aws/"
DESCRIPTIONS: Final = {
    "acm": "Default key that protects my ACM private keys when no other key is defined",
    "dynamodb": "Default key that protects my DynamoDB data when no other key is defined",
    "ebs": "Default key that protects my EBS volumes when no other key is defined",
    "elasticfilesystem": "Default key that protects my EFS filesystems when no other key is defined",
    "es": "Default key that protects my Elasticsearch data when no other key is defined",
    "glue": "Default key that protects my Glue data when no other key is defined",
    "kinesis": "Default key that protects my Kinesis data when no other key is defined",
    "lambda": "Default key that protects my Lambda functions when no other key is defined",
    "rds": "Default key that protects my RDS database volumes when no other key is defined",
    "redshift": "Default key that protects my Redshift clusters when no other key is defined",
    "s3": "Default key that protects my S3 objects when no other key is defined",
    "secretsmanager": "Default key that protects my Secrets Manager data when no other key is defined",
    "sns": "Default key that protects my SNS data when no other key is defined",
    "sqs": "Default key that protects my SQS messages when no other key is defined",
    "ssm": "Default key that protects my SSM parameters when no other key is defined",
}
_USES: Final = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant", "kms:DescribeKey"]
_LOOKS: Final = ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"]


def service_of(alias: str) -> str:
    """The service whose alias this is, or ''."""
    name = alias.removeprefix(PREFIX) if alias.startswith(PREFIX) else ""
    return name if name in DESCRIPTIONS else ""


def key_id_for(account: str, region: str, alias: str) -> str:
    """The id the key of one of AWS's aliases has, or will have; '' when the alias is none of them."""
    if not service_of(alias):
        return ""
    return str(uuid.UUID(bytes=hashlib.sha256(f"{account}/{region}/{alias}".encode()).digest()[:16], version=4))


def policy_for(account: str, region: str, service: str) -> dict[str, Any]:
    partition = partition_of(region)
    through = {"kms:CallerAccount": account, "kms:ViaService": f"{service}.{region}.amazonaws.com"}
    return {
        "Version": "2012-10-17",
        "Id": f"auto-{service}-2",
        "Statement": [
            {
                "Sid": f"Allow access through {service} for all principals in the account that are authorized to use {service}",
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": _USES,
                "Resource": "*",
                "Condition": {"StringEquals": through},
            },
            {
                "Sid": "Allow direct access to key metadata to the account",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{partition}:iam::{account}:root"},
                "Action": _LOOKS,
                "Resource": "*",
            },
        ],
    }


def changes(cloud: Cloud, account: str, region: str, alias: str) -> list[Change]:
    """What makes the key of one of AWS's aliases. AlreadyExists, and nothing is changed, for whoever comes second."""
    service, now = service_of(alias), cloud.clock.now()
    key_id = key_id_for(account, region, alias)
    version = new_version(cloud.keyring, account, key_id, new_material(kinds.SYMMETRIC), now)
    row = {
        "KeyId": key_id,
        "CreationDate": now,
        "Description": DESCRIPTIONS[service],
        "KeyUsage": kinds.ENCRYPT,
        "KeySpec": kinds.SYMMETRIC,
        "Origin": "AWS_KMS",
        "KeyManager": "AWS",
        "MultiRegion": False,
        "_enabled": True,
        "_policy": json.dumps(policy_for(account, region, service)),
        "_aliases": [alias],
    }
    shared = {
        "materials": [version],
        "current": version["id"],
        "primary": region,
        "replicas": [],
        "rotation": {"period": 365, "from": now},
    }
    return [
        Insert(Table(account, region, "kms", "Key"), key_id, row),
        Insert(Table(account, "", "kms", "Material"), key_id, shared),
        Insert(
            Table(account, region, "kms", "Alias"),
            alias,
            {"AliasName": alias, "TargetKeyId": key_id, "CreationDate": now, "LastUpdatedDate": now},
        ),
    ]
