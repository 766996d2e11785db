"""SageMaker: training jobs, the first of the job kinds, and tags."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, InUse, Invalid, LimitExceeded, NotFound
from pilvi.core.service import Service
from pilvi.services.sagemaker import tag, training_job
from pilvi.services.sagemaker.access import needed

service = Service(
    "sagemaker",
    training_job.ops,
    tag.ops,
    errors={
        # Most operations answer a missing resource so; those with ResourceNotFound in practice say it themselves.
        NotFound: "ValidationException",
        AlreadyExists: "ResourceInUse",
        InUse: "ResourceInUse",
        Invalid: "ValidationException",
        LimitExceeded: "ResourceLimitExceeded",
    },
    access=needed,
)
