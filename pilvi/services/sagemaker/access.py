"""Which permission each SageMaker operation needs, and on which ARN.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon SageMaker".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.service import Access, Context
from pilvi.services.sagemaker.conditions import asked_for, tagged

PRINCIPAL = "sagemaker.amazonaws.com"

_NAMES = {
    "TrainingJobName": "training-job",
    "ProcessingJobName": "processing-job",
    "HyperParameterTuningJobName": "hyper-parameter-tuning-job",
    "AlgorithmName": "algorithm",
    "EndpointName": "endpoint",
    "EndpointConfigName": "endpoint-config",
    "TransformJobName": "transform-job",
    "ModelName": "model",
    "CodeRepositoryName": "code-repository",
    "NotebookInstanceName": "notebook-instance",
    "StudioLifecycleConfigName": "studio-lifecycle-config",
    "AppImageConfigName": "app-image-config",
    "NotebookInstanceLifecycleConfigName": "notebook-instance-lifecycle-config",
}
"""Request member -> the resource type it names."""

_LISTS_OF_ONE = ("ListTrainingJobsForHyperParameterTuningJob",)
"""Lists of what one resource has."""


def needed(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permissions of one call: itself, the role it passes on, the tags it sets."""
    arn = resource_arn(ctx, operation, req)
    tags = {tag["Key"]: tag["Value"] for tag in req.get("Tags") or ()}
    context: dict[str, Any] = asked_for(operation, req) if operation.startswith(("Create", "Update")) else {}
    if not operation.startswith("Create"):
        context |= tagged(ctx, arn)
    context |= {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    if keys := list(tags) or req.get("TagKeys"):
        context["aws:TagKeys"] = keys
    found = [Access(f"sagemaker:{operation}", arn, context=context)]
    if tags and operation != "AddTags":
        found.append(Access("sagemaker:AddTags", arn, context=context))
    found += [Access("iam:PassRole", role, context={"iam:PassedToService": PRINCIPAL}) for role in roles_in(req)]
    return found


def roles_in(req: Mapping[str, Any]) -> list[str]:
    """Every role that a request hands to SageMaker: its own, and those of the training jobs it defines."""
    definitions = (req.get("TrainingJobDefinition") or {}, *(req.get("TrainingJobDefinitions") or ()))
    validation = (req.get("ValidationSpecification") or {}).get("ValidationRole")
    found = [
        req.get("RoleArn"),
        req.get("ExecutionRoleArn"),
        validation,
        *_studio_roles(req),
        *(definition.get("RoleArn") for definition in definitions),
    ]
    return list(dict.fromkeys(role for role in found if role))


def _studio_roles(req: Mapping[str, Any]) -> list[str | None]:
    """Roles that settings of domains and user profiles name."""
    settings = (req.get(name) or {} for name in ("DefaultUserSettings", "DefaultSpaceSettings", "UserSettings"))
    return [entry.get("ExecutionRole") for entry in settings]


def _studio_arn(ctx: Context, req: Mapping[str, Any]) -> str:
    """What lies in a Studio domain: the app, space or user profile that a request names, else the domain itself."""
    domain, user, space = req["DomainId"], req.get("UserProfileName"), req.get("SpaceName")
    if app := req.get("AppName"):
        return ctx.arn(f"app/{domain}/{space or user}/{req['AppType']}/{app}".lower())
    if user and not req.get("OwnershipSettings"):
        return ctx.arn(f"user-profile/{domain}/{user}".lower())
    return ctx.arn(f"space/{domain}/{space}".lower() if space else f"domain/{domain}")


def resource_arn(ctx: Context, operation: str, req: Mapping[str, Any]) -> str:
    if arn := req.get("ResourceArn"):
        return str(arn)
    if operation == "CreateDomain":
        return ctx.arn("domain/*")  # its id is not known yet
    if not operation.startswith("List") or operation in _LISTS_OF_ONE:
        if req.get("DomainId"):
            return _studio_arn(ctx, req)
        for member, kind in _NAMES.items():
            if name := req.get(member):
                # Names are found in any case; what policies name is in lower case, however it is asked for.
                if name.startswith("arn:"):
                    return str(name.lower())
                return ctx.arn(f"{kind}/{name.lower()}")
    return "*"
