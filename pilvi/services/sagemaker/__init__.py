"""SageMaker: training and processing jobs, notebook instances, and tags."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, InUse, Invalid, LimitExceeded, NotFound
from pilvi.core.service import Service
from pilvi.services.sagemaker import notebook_instance, notebook_instance_lifecycle_config, processing_job, tag, training_job
from pilvi.services.sagemaker.access import needed
from pilvi.services.sagemaker.notebook_door import door
from pilvi.services.sagemaker.notebook_fleet import close_fleet

service = Service(
    "sagemaker",
    training_job.ops,
    processing_job.ops,
    notebook_instance.ops,
    notebook_instance_lifecycle_config.ops,
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
    sites={"notebook": door},
    close=close_fleet,
)
