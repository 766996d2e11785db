"""Targets of rules: up to five each.

Source: EventBridge API reference, PutTargets, RemoveTargets, ListTargetsByRule, Target.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid, PilviError, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.events.targets import KINDS, call_for, kind_of
from pilvi.services.events.bus import check_dead_letters
from pilvi.services.events.buses import Place, find_bus
from pilvi.services.events.errors import bad_parameter, invalid, no_rule, too_many
from pilvi.services.events.rule import change_rule, check_managed, find_rule
from pilvi.services.events.transform import PATHS, is_template, unknown_places

ops = Operations()

MOST: Final = 5
"""Of one rule. Source: EventBridge quotas."""
OWN_KINDS: Final = ("events/event-bus", "events/api-destination")
NEEDS_ROLE: Final = ("events/api-destination", "kinesis", "firehose", "states/stateMachine", "sagemaker/pipeline")
_UNUSED: Final = ("EcsParameters", "BatchParameters", "RunCommandParameters", "RedshiftDataParameters", "AppSyncParameters")


@ops
def put_targets(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add targets to a rule, or replace those of the same Id.

    req: Targets (Id, Arn, RoleArn; one of Input, InputPath, InputTransformer; RetryPolicy, DeadLetterConfig, SqsParameters,
    HttpParameters, SageMakerPipelineParameters).
    Errors: ResourceNotFoundException, ValidationException. LimitExceededException - more than five. ManagedRuleException.
    NotImplemented - a kind of target that is not built.
    """
    place = find_bus(ctx, req.get("EventBusName")).place
    find_rule(ctx, place, req["Rule"])
    for target in req["Targets"]:
        check_target(ctx, place, target)

    def put(rule: dict[str, Any] | None) -> dict[str, Any]:
        there = existing(ctx, place, req["Rule"], rule)
        targets = {**there["_targets"], **{target["Id"]: dict(target) for target in req["Targets"]}}
        if len(targets) > MOST:
            raise too_many()
        return there | {"_targets": targets}

    change_rule(ctx, place, req["Rule"], put)
    return {"FailedEntryCount": 0, "FailedEntries": []}


@ops
def remove_targets(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take targets from a rule. Ids that it has not are told as failed.

    Errors: ResourceNotFoundException, ManagedRuleException.
    """
    place = find_bus(ctx, req.get("EventBusName")).place
    missing: list[str] = []

    def removed(rule: dict[str, Any] | None) -> dict[str, Any]:
        there = existing(ctx, place, req["Rule"], rule, forced=bool(req.get("Force")))
        missing[:] = [id for id in req["Ids"] if id not in there["_targets"]]
        return there | {"_targets": {id: one for id, one in there["_targets"].items() if id not in req["Ids"]}}

    change_rule(ctx, place, req["Rule"], removed)
    failed = [
        {
            "TargetId": id,
            "ErrorCode": "ResourceNotFoundException",
            "ErrorMessage": f"Rule {req['Rule']} does not have a target {id}.",
        }
        for id in missing
    ]
    return {"FailedEntryCount": len(failed), "FailedEntries": failed}


@ops
def list_targets_by_rule(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A rule's targets by Id.

    Errors: ResourceNotFoundException.
    """
    place = find_bus(ctx, req.get("EventBusName")).place
    limit, after = req.get("Limit") or 100, decode_token(req.get("NextToken"))
    targets = find_rule(ctx, place, req["Rule"])["_targets"]
    ids = [id for id in sorted(targets) if id > after]
    return {
        "Targets": [targets[id] for id in ids[:limit]],
        "NextToken": encode_token(ids[limit - 1]) if len(ids) > limit else None,
    }


def existing(ctx: Context, place: Place, name: str, rule: dict[str, Any] | None, *, forced: bool = False) -> dict[str, Any]:
    if rule is None:
        raise no_rule(name, place.name)
    check_managed(ctx, name, rule, forced=forced)
    return rule


# -- checking -----------------------------------------------------------------------------------------------------------------


def check_target(ctx: Context, place: Place, target: Mapping[str, Any]) -> None:
    """The target can be reached in principle, and what it gets can be made."""
    id, text = target["Id"], target["Arn"]
    arn = Arn.parse(text)
    if arn is None or not arn.service or not arn.resource:
        raise bad_parameter(text, "Provided Arn is not in correct format.")
    kind = kind_of(arn)
    check_kind(ctx, kind, arn)
    if kind in NEEDS_ROLE and not target.get("RoleArn"):
        raise invalid(f"RoleArn is required for target {text}.")
    if kind == "events/event-bus" and text == place.arn:
        raise invalid(f"EventBus {text} cannot be a target of a rule of its own.")
    if kind == "sqs" and arn.resource.endswith(".fifo") and not (target.get("SqsParameters") or {}).get("MessageGroupId"):
        raise invalid(f"Parameter(s) SqsParameters must be specified for target: {id}.")
    for member in _UNUSED:
        if target.get(member):
            raise invalid(f"Parameter(s) {member} not valid for target: {id}.")
    check_input(id, target)
    if queue := (target.get("DeadLetterConfig") or {}).get("Arn"):
        check_dead_letters(queue)
        if (found := Arn.parse(queue)) is not None and found.region != place.region:
            raise bad_parameter("DeadLetterConfig.Arn", "The dead-letter queue must be in the same Region as the rule.")


def check_kind(ctx: Context, kind: str, arn: Arn) -> None:
    """NotImplemented for targets that nothing here could send to."""
    if kind in OWN_KINDS:
        return
    if kind not in KINDS:
        raise ServiceError("NotImplemented", f"Targets of the kind {kind} are not built into this cloud yet.", 501)
    call = call_for(ctx, str(arn), "{}", {"Source": "-", "DetailType": "-"})
    try:
        # Nothing can be called like this: what is built says that members are missing, what is not says so before.
        ctx.as_service("events.amazonaws.com").call(call.service, call.operation)
    except ServiceError as error:
        if error.code == "NotImplemented":
            raise ServiceError("NotImplemented", f"Targets of the kind {kind} are not built into this cloud yet.", 501) from None
    except PilviError:
        return


def check_input(id: str, target: Mapping[str, Any]) -> None:
    given = [name for name in ("Input", "InputPath", "InputTransformer") if target.get(name)]
    if len(given) > 1:
        raise invalid(f"Only one of Input, InputPath, or InputTransformer must be provided for target {id}.")
    if target.get("Input"):
        try:
            json.loads(target["Input"])
        except ValueError:
            raise invalid(f"JSON syntax error in input for target {id}") from None
    if target.get("InputPath"):
        check_path(id, "InputPath", target["InputPath"])
    if transformer := target.get("InputTransformer"):
        check_transformer(id, transformer)


def check_path(id: str, member: str, path: str) -> None:
    try:
        PATHS.steps_of(path)
    except Invalid as error:
        raise invalid(f"Invalid {member} for target {id}: {error.message}") from error


def check_transformer(id: str, transformer: Mapping[str, Any]) -> None:
    for name, path in (transformer.get("InputPathsMap") or {}).items():
        if name.lower().startswith("aws."):
            raise invalid(f"InputPathsMap for target {id} contains reserved name {name}.")
        check_path(id, f"InputPathsMap {name}", path)
    if unknown := unknown_places(transformer):
        raise invalid(f"InputTemplate for target {id} contains invalid placeholder {unknown[0]}.")
    if not is_template(transformer):
        raise invalid(f'Invalid InputTemplate for target {id} : [Source: (String)"{transformer["InputTemplate"]}"].')
