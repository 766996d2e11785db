"""What KMS tells EventBridge: a key was rotated, its imported material has expired, it is gone.

Source: KMS Developer Guide, "Monitor KMS keys with Amazon EventBridge".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pilvi.events.told import told, wake

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.kms.keys import Key
    from pilvi.storage.records import Change

ROTATED: Final = "KMS CMK Rotation"
EXPIRED: Final = "KMS Imported Key Material Expiration"
DELETED: Final = "KMS CMK Deletion"


def telling(cloud: Cloud, key: Key, detail_type: str) -> Change:
    """The change that tells it."""
    return told(cloud, key.account, key.region, "aws.kms", detail_type, [key.arn], {"key-id": key.id})


def wake_bus(cloud: Cloud, key: Key) -> None:
    """The transaction is committed."""
    wake(cloud, key.account, key.region)
