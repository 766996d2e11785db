"""KMS: keys that never leave, and what they seal, sign and prove."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, LimitExceeded, NotFound, Unavailable, Unsupported
from pilvi.core.service import Service
from pilvi.services.kms import data_key, encryption, key, key_policy, tag
from pilvi.services.kms.access import needed

service = Service(
    "kms",
    key.ops,
    key.loop_ops,
    key_policy.ops,
    tag.ops,
    encryption.ops,
    data_key.ops,
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
)
