"""SageMaker: training, processing and tuning jobs, algorithms, models and endpoints, notebook instances, Studio, search and tags."""

from __future__ import annotations

from pilvi.core.errors import AlreadyExists, InUse, Invalid, LimitExceeded, NotFound
from pilvi.core.service import Cloud, Service
from pilvi.services.sagemaker import (
    algorithm,
    app,
    app_image_config,
    code_repository,
    domain,
    endpoint,
    endpoint_config,
    hyper_parameter_tuning_job,
    model,
    notebook_instance,
    notebook_instance_lifecycle_config,
    processing_job,
    search,
    space,
    studio_lifecycle_config,
    tag,
    training_job,
    transform_job,
    user_profile,
)
from pilvi.services.sagemaker.access import needed
from pilvi.services.sagemaker.notebook_door import door
from pilvi.services.sagemaker.notebook_runs import close_runs
from pilvi.services.sagemaker.serving_fleet import close_fleet
from pilvi.services.sagemaker.training_spot import spot
from pilvi.services.sagemaker.tuning_control import close_control


def close(cloud: Cloud) -> None:
    """The server stops: what goes on by itself here comes to rest."""
    close_control(cloud)
    close_fleet(cloud)
    close_runs(cloud)


service = Service(
    "sagemaker",
    training_job.ops,
    processing_job.ops,
    transform_job.ops,
    hyper_parameter_tuning_job.ops,
    algorithm.ops,
    model.ops,
    endpoint_config.ops,
    endpoint.ops,
    notebook_instance.ops,
    code_repository.ops,
    domain.ops,
    user_profile.ops,
    space.ops,
    app.ops,
    app_image_config.ops,
    studio_lifecycle_config.ops,
    notebook_instance_lifecycle_config.ops,
    search.ops,
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
    sites={"notebook": door, "spot": spot},
    close=close,
)
