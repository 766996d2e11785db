"""Service-linked roles: roles whose name, trust and permissions an AWS service prescribes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pilvi.core.errors import Invalid, NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.iam import managed, usage
from pilvi.services.iam.entity import SERVICE_ROLE_PATH, find
from pilvi.services.iam.role import creation, new_role, shown
from pilvi.services.iam.tables import change, entities
from pilvi.storage.records import Change


class Linked(NamedTuple):
    role_name: str
    policy_arn: str


LINKED = {
    "sagemaker.amazonaws.com": Linked(
        "AWSServiceRoleForAmazonSageMakerNotebooks",
        "arn:aws:iam::aws:policy/aws-service-role/AmazonSageMakerNotebooksServiceRolePolicy",
    ),
    "replicator.lambda.amazonaws.com": Linked(
        "AWSServiceRoleForLambdaReplicator", "arn:aws:iam::aws:policy/aws-service-role/AWSLambdaReplicator"
    ),
    "ops.apigateway.amazonaws.com": Linked(
        "AWSServiceRoleForAPIGateway", "arn:aws:iam::aws:policy/aws-service-role/APIGatewayServiceRolePolicy"
    ),
}
"""Source: the services' guides, "Using service-linked roles"."""

ops = Operations()


@ops
def create_service_linked_role(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create the role that a service prescribes, with its policy.

    req: AWSServiceName, Description; CustomSuffix only for services that allow several.
    Errors: InvalidInput - no such service, the role exists, or the service allows no suffix.
    Differs: SageMaker, Lambda and API Gateway are known.
    """
    service = req["AWSServiceName"]
    linked = LINKED.get(service)
    if linked is None or managed.find(linked.policy_arn) is None:
        raise ServiceError("InvalidInput", f"Service role name for {service} is not valid or not supported.")
    if req.get("CustomSuffix"):
        raise ServiceError("InvalidInput", "Custom suffix is not allowed for " + service)
    path = f"{SERVICE_ROLE_PATH}{service}/"
    role = new_role(ctx, linked.role_name, path, trust_of(service), {"Description": req.get("Description")})
    role["_attached"] = [linked.policy_arn]

    def decide() -> tuple[list[Change], None]:
        if entities(ctx, "Role").find(linked.role_name.lower()) is not None:
            raise ServiceError(
                "InvalidInput",
                f"Service role name {linked.role_name} has been taken in this account, please try a different suffix.",
            )
        return [*creation(ctx, role), *usage.added(ctx, linked.policy_arn, "policy", "Role", role)], None

    change(ctx, decide)
    return {"Role": shown(role)}


def trust_of(service: str) -> str:
    statement = {"Action": ["sts:AssumeRole"], "Effect": "Allow", "Principal": {"Service": [service]}}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@ops
def delete_service_linked_role(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove a service-linked role; GetServiceLinkedRoleDeletionStatus tells the outcome of the task.

    Errors: NoSuchEntity; InvalidInput - the role is not linked to a service.
    Differs: no service here uses such a role yet, so none refuses and the task has succeeded when this answers.
    """

    def decide() -> tuple[list[Change], str]:
        row = find(ctx, "Role", req["RoleName"])
        if not row.value["Path"].startswith(SERVICE_ROLE_PATH):
            raise ServiceError("InvalidInput", f"Role {req['RoleName']} is not a service-linked role.")
        task = f"task{row.value['Path']}{row.value['RoleName']}/{ctx.ids.uuid()}"
        changes: list[Change] = [
            entities(ctx, "Role").deletion(row.id, row.version),
            entities(ctx, "DeletionTask").insertion(task, {"Status": "SUCCEEDED"}),
        ]
        for arn in row.value["_attached"]:
            changes += usage.removed(ctx, arn, "policy", "Role", row.value)
        return changes, task

    return {"DeletionTaskId": change(ctx, decide)}


@ops
def get_service_linked_role_deletion_status(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the removal of a service-linked role went.

    Errors: NoSuchEntity - no such task; ValidationError - not a task id.
    """
    task_id = req["DeletionTaskId"]
    if not task_id.startswith("task/"):
        raise Invalid(f"Invalid deletion task id {task_id}.")
    task = entities(ctx, "DeletionTask").find(task_id)
    if task is None:
        raise NotFound(f"Deletion task {task_id} cannot be found.")
    return {"Status": task["Status"]}
