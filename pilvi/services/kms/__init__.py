"""KMS: keys that never leave, and what they seal, sign and prove."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, LimitExceeded, NotFound, Unavailable, Unsupported
from pilvi.core.service import Service
from pilvi.services.kms import (
    alias,
    data_key,
    encryption,
    grant,
    imported,
    key,
    key_policy,
    mac,
    multi_region,
    rotation,
    signature,
    tag,
)
from pilvi.services.kms.access import needed
from pilvi.services.kms.usage import write_down

service = Service(
    "kms",
    key.ops,
    key.loop_ops,
    key_policy.ops,
    tag.ops,
    encryption.ops,
    data_key.ops,
    mac.ops,
    signature.ops,
    alias.ops,
    grant.ops,
    rotation.ops,
    imported.ops,
    multi_region.ops,
    errors={
        NotFound: "NotFoundException",
        AlreadyExists: "AlreadyExistsException",
        Conflict: "ConflictException",
        Invalid: "ValidationException",
        LimitExceeded: "LimitExceededException",
        Unsupported: "UnsupportedOperationException",
        Unavailable: "KMSInternalException",
    },
    access=needed,
    close=write_down,
)
