"""Replication: what is pushed here becomes pullable in other Regions and accounts of this server.

A copy is made while the push is answered: when PutImage returns, the image is there too. Within an account only the manifest is
written again; another account gets the layers' bytes as its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from pilvi.auth.sigv4 import known_region
from pilvi.core.errors import PilviError, ServiceError
from pilvi.core.service import Access, Context, Operations
from pilvi.images import store
from pilvi.services.ecr.errors import no_image
from pilvi.services.ecr.registry_policy import registry_policy
from pilvi.services.ecr.repository import Record, find_repository, in_registry, may_move, registry_host, repository_arn

ops = Operations()
log = logging.getLogger("pilvi.ecr")

MOST_RULES, MOST_DESTINATIONS = 10, 25
"""Source: ECR User Guide, "Private image replication"."""


@ops
def put_replication_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say where pushes are to be copied; empty rules end it. Images pushed before stay where they are.

    Errors: ValidationException - too many rules, this very registry as a destination, a Region that is none.
    """
    config = req["replicationConfiguration"]
    rules = config["rules"]
    if len(rules) > MOST_RULES or sum(len(rule["destinations"]) for rule in rules) > MOST_DESTINATIONS:
        raise _invalid(f"at most {MOST_RULES} rules and {MOST_DESTINATIONS} destinations")
    for rule in rules:
        for destination in rule["destinations"]:
            if (destination["registryId"], destination["region"]) == (ctx.account, ctx.region):
                raise _invalid("Replication destination cannot be the same as the source registry")
            if not known_region(destination["region"]):
                raise _invalid(f"{destination['region']} is no Region")
    ctx.records("Replication").put("configuration", {"rules": rules})
    return {"replicationConfiguration": {"rules": rules}}


@ops
def describe_registry(ctx: Context, _req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The registry and where it copies to."""
    return {"registryId": ctx.account, "replicationConfiguration": {"rules": _rules(ctx)}}


@ops
def describe_image_replication_status(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What became of the copies of an image.

    Errors: RepositoryNotFoundException; ImageNotFoundException.
    """
    ctx = in_registry(ctx, req)
    name, id = req["repositoryName"], req["imageId"]
    find_repository(ctx, name)
    image = store.find_image(ctx, name, digest=id.get("imageDigest") or "", tag=id.get("imageTag") or "")
    if image is None:
        raise no_image(ctx, name, dict(id))
    statuses = (ctx.records("ReplicationStatus").find(store.image_id(name, image["digest"])) or {}).get("statuses") or {}
    return {
        "repositoryName": name,
        "imageId": {"imageDigest": image["digest"]} | ({"imageTag": id["imageTag"]} if id.get("imageTag") else {}),
        "replicationStatuses": [statuses[place] for place in sorted(statuses)],
    }


def replicate(ctx: Context, repository: Mapping[str, Any], image: Mapping[str, Any], tag: str) -> None:
    """Copy a pushed image to where this registry's rules say, and keep what became of it."""
    statuses: dict[str, Record] = {}
    for account, region in _destinations(ctx, repository["repositoryName"]):
        status: Record = {"region": region, "registryId": account, "status": "COMPLETE"}
        try:
            _copy(ctx, ctx.at(account, region), repository, image, tag)
        except PilviError as error:
            log.warning("replication of %s to %s in %s failed: %s", repository["repositoryName"], account, region, error)
            status |= {"status": "FAILED", "failureCode": getattr(error, "code", type(error).__name__)}
        statuses[f"{account} {region}"] = status
    if statuses:
        id = store.image_id(repository["repositoryName"], image["digest"])
        before = (ctx.records("ReplicationStatus").find(id) or {}).get("statuses") or {}
        ctx.records("ReplicationStatus").put(id, {"statuses": before | statuses})


def _copy(ctx: Context, target: Context, repository: Mapping[str, Any], image: Mapping[str, Any], tag: str) -> None:
    name = repository["repositoryName"]
    if target.account != ctx.account:
        _check_welcome(ctx, target, name)
    there = target.records("Repository").find(name)
    if there is None:
        there = {
            **repository,
            "repositoryArn": repository_arn(target, name),
            "registryId": target.account,
            "repositoryUri": f"{registry_host(target)}/{name}",
            "createdAt": target.clock.now(),
            "_policy": "",
            "_tags": {},
            "_lifecycle": "",
        }
        target.records("Repository").insert(name, there)
    pointer = store.find_image(target, name, tag=tag) if tag else None
    if pointer is not None and pointer["digest"] != image["digest"] and not may_move(there, tag):
        raise ServiceError("ImageTagAlreadyExists", f"The tag {tag} is immutable in the destination.")
    store.copy_image(ctx, target, name, image, tag)


def _check_welcome(ctx: Context, target: Context, name: str) -> None:
    """Another account takes copies only if its registry policy lets this account replicate."""
    root = Context(
        ctx.cloud,
        principal=ctx.cloud.identities.root(ctx.account),
        account=target.account,
        region=target.region,
        service=target.service,
    )
    for action in ("ecr:CreateRepository", "ecr:ReplicateImage"):
        access = Access(
            action, repository_arn(target, name), resource_policy=registry_policy(target), resource_account=target.account
        )
        root.authorize(access)


def _destinations(ctx: Context, name: str) -> Iterator[tuple[str, str]]:
    for rule in _rules(ctx):
        filters = rule.get("repositoryFilters") or ()
        if not filters or any(name.startswith(entry["filter"]) for entry in filters):
            for destination in rule["destinations"]:
                yield destination["registryId"], destination["region"]


def _rules(ctx: Context) -> list[Record]:
    return list((ctx.records("Replication").find("configuration") or {"rules": []})["rules"])


def _invalid(reason: str) -> ServiceError:
    return ServiceError("ValidationException", f"Invalid replication configuration: {reason}.")
