"""Rotation: a Lambda function makes a new value, sets it where it is used, tests it, and puts it in place.

    RotateSecret --> a version AWSPENDING --> createSecret, setSecret, testSecret, finishSecret --> it is AWSCURRENT

What runs is written down (`_rotating`) before the first step, so a rotation that a dead server left is taken up again. The function
is invoked as secretsmanager.amazonaws.com: its own policy must let that in.

Source: Secrets Manager User Guide, "Lambda rotation functions".
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import Invalid, PilviError, ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Access, Context, Operations
from pilvi.services.secretsmanager.errors import invalid_parameter, invalid_request, not_built
from pilvi.services.secretsmanager.expression import next_time
from pilvi.services.secretsmanager.replication import follow, primary
from pilvi.services.secretsmanager.secrets import CURRENT, PENDING, Secret, look, version_with

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

log = logging.getLogger("pilvi.secretsmanager")

ops = Operations()

SERVICE: Final = "secretsmanager.amazonaws.com"
STEPS: Final = ("createSecret", "setSecret", "testSecret", "finishSecret")
TRIES: Final = 5
"""How often a rotation that fails is tried, an hour apart."""
_running: set[str] = set()
_lock = threading.Lock()


@ops
def rotate_secret(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rotate a secret now (unless RotateImmediately is false), and from then on by its rules. Answers before the function has run.

    req: SecretId, RotationLambdaARN (needed the first time), RotationRules (AutomaticallyAfterDays 1-1000, or ScheduleExpression),
    ClientRequestToken (the new version's id), RotateImmediately.
    Errors: ResourceNotFoundException. InvalidRequestException - no function, or an earlier rotation is not complete.
    InvalidParameterException - rules that cannot be. AccessDeniedException - the function does not let Secrets Manager in, or the
    caller, who chooses it now, may not invoke it.
    Differs: with RotateImmediately false the function is not tested.
    """
    if req.get("ExternalSecretRotationMetadata") or req.get("ExternalSecretRotationRoleArn"):
        raise not_built("Rotation of a secret that a partner manages")
    secret = primary(ctx, req["SecretId"])
    function = req.get("RotationLambdaARN") or secret.get("RotationLambdaARN")
    if not function:
        raise invalid_request("No Lambda rotation function ARN is associated with this secret.")
    rules = _rules(req.get("RotationRules") or secret.get("RotationRules") or {}, ctx.clock.now())
    token, pending = req.get("ClientRequestToken") or ctx.ids.uuid(), version_with(secret, PENDING)
    if pending not in (None, token, version_with(secret, CURRENT)):
        raise invalid_request("A previous rotation isn't complete. That rotation will be reattempted.")
    if "RotationLambdaARN" in req:  # whoever chooses the function must be able to run it themselves
        ctx.authorize(Access("lambda:InvokeFunction", function, None, ctx.account))
    _check_function(ctx, secret, function)
    settings: Secret = {"RotationEnabled": True, "RotationLambdaARN": function}
    if rules:
        settings |= {"RotationRules": rules, "NextRotationDate": next_time(rules, ctx.clock.now())}
    if req.get("RotateImmediately") is False:
        follow(ctx, secret, lambda there: there | settings)
        return {"ARN": secret["ARN"], "Name": secret["Name"]}
    follow(ctx, secret, lambda there: _begun(there | settings, token, ctx.clock.now()))
    cloud, arn = ctx.cloud, secret["ARN"]
    threading.Thread(target=run, args=(cloud, arn), name="rotation", daemon=True).start()
    return {"ARN": arn, "Name": secret["Name"], "VersionId": token}


@ops
def cancel_rotate_secret(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rotate a secret no more. A version that a rotation left AWSPENDING keeps its label.

    Errors: ResourceNotFoundException. InvalidRequestException - it waits for its deletion, or is a replica.
    """
    secret = primary(ctx, req["SecretId"])
    gone = ("NextRotationDate", "_rotating")
    follow(
        ctx, secret, lambda there: {name: value for name, value in there.items() if name not in gone} | {"RotationEnabled": False}
    )
    pending = version_with(secret, PENDING)
    return {"ARN": secret["ARN"], "Name": secret["Name"]} | ({"VersionId": pending} if pending else {})


# -- carrying it out ----------------------------------------------------------------------------------------------------------


def begin(cloud: Cloud, secret: Secret) -> None:
    """A rotation that fell due, under the token of one that was left or a new one."""
    ctx = _context(cloud, secret["ARN"])
    pending = version_with(secret, PENDING)
    token = pending if pending and pending != version_with(secret, CURRENT) else cloud.ids.uuid()
    follow(ctx, secret, lambda there: _begun(there, token, cloud.clock.now()))
    run(cloud, secret["ARN"])


def run(cloud: Cloud, arn: str) -> None:
    """The four steps, and what comes of them. Nothing when the same rotation runs already."""
    with _lock:
        if arn in _running:
            return
        _running.add(arn)
    try:
        _steps(_context(cloud, arn), arn)
    except (PilviError, RuntimeError) as error:  # RuntimeError: the server is stopping, its loop is closed
        log.warning("the rotation of %s failed: %s", arn, error)
        _failed(_context(cloud, arn), arn)
    finally:
        with _lock:
            _running.discard(arn)


def _steps(ctx: Context, arn: str) -> None:
    secret = look(ctx, arn)
    if secret is None or "_rotating" not in secret:
        return
    token = secret["_rotating"]["token"]
    for step in STEPS:
        event = {"Step": step, "SecretId": arn, "ClientRequestToken": token, "RotationToken": ctx.ids.uuid()}
        answer = ctx.call("lambda", "Invoke", FunctionName=secret["RotationLambdaARN"], Payload=json.dumps(event).encode())
        if answer.get("FunctionError"):
            raise Invalid(f"{step} of {secret['RotationLambdaARN']} failed")
    done = look(ctx, arn)
    if done is None or version_with(done, CURRENT) != token:
        raise Invalid(f"{secret['RotationLambdaARN']} did not put the new version in place")
    follow(ctx, done, lambda there: _finished(there, token, ctx.clock.now()))


def _begun(secret: Secret, token: str, now: datetime) -> Secret:
    versions = {
        id: version | {"stages": [label for label in version["stages"] if label != PENDING]}
        for id, version in secret["_versions"].items()
    }
    mine = versions.get(token) or {"stages": [], "created": now}
    versions[token] = mine | {"stages": [*mine["stages"], PENDING]}
    tries = secret["_rotating"]["tries"] if secret.get("_rotating", {}).get("token") == token else 0
    return secret | {"_versions": versions, "_rotating": {"token": token, "tries": tries}}


def _finished(secret: Secret, token: str, now: datetime) -> Secret:
    version = secret["_versions"][token]
    stages = [label for label in version["stages"] if label != PENDING]
    done = {name: value for name, value in secret.items() if name != "_rotating"}
    done["_versions"] = secret["_versions"] | {token: version | {"stages": stages}}
    done["LastRotatedDate"] = done["LastChangedDate"] = now
    if secret.get("RotationRules"):
        done["NextRotationDate"] = next_time(secret["RotationRules"], now)
    return done


def _failed(ctx: Context, arn: str) -> None:
    """Once more later, but not for ever; AWSPENDING stays where it is."""

    def counted(there: Secret) -> Secret:
        rotating = there.get("_rotating")
        if rotating is None:
            return there
        if rotating["tries"] + 1 >= TRIES:
            return {name: value for name, value in there.items() if name != "_rotating"}
        return there | {"_rotating": rotating | {"tries": rotating["tries"] + 1}}

    try:
        secret = look(ctx, arn)
        if secret is not None:
            follow(ctx, secret, counted)
    except (PilviError, RuntimeError) as error:  # what is written down is taken up again after the next start
        log.warning("the rotation of %s was cut off: %s", arn, error)


def _check_function(ctx: Context, secret: Secret, function: str) -> None:
    """The function is there and lets Secrets Manager in."""
    try:
        _context(ctx.cloud, secret["ARN"]).call("lambda", "Invoke", FunctionName=function, InvocationType="DryRun")
    except ServiceError as error:
        raise ServiceError(
            "AccessDeniedException" if error.code == "AccessDeniedException" else "ResourceNotFoundException",
            "Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants access to the "
            f"principal {SERVICE}.",
        ) from None


def _context(cloud: Cloud, arn: str) -> Context:
    """Secrets Manager itself, acting for a secret."""
    region, account = arn.split(":")[3:5]
    principal = Principal("service", account, "", SERVICE, SERVICE, source_arn=arn)
    return Context(cloud, principal=principal, account=account, region=region, service="secretsmanager")


def _rules(given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    rules = {name: value for name, value in given.items() if value is not None}
    days, expression = rules.get("AutomaticallyAfterDays"), rules.get("ScheduleExpression")
    if days is not None and expression:
        raise invalid_parameter("You can't specify both AutomaticallyAfterDays and ScheduleExpression.")
    if days is not None and not 1 <= days <= 1000:
        raise invalid_parameter("AutomaticallyAfterDays must be between 1 and 1000.")
    if rules:
        try:
            next_time(rules, now)
        except Invalid as error:
            raise invalid_parameter(error.message) from None
    return rules
