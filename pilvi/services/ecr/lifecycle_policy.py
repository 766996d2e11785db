"""Lifecycle policies: rules that expire images, carried out by the server's own clock.

A policy is evaluated when it is put, and from then on when its repository is used and the last evaluation is an hour old, and
at each start of the server. A preview tells what it would do and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.images import store
from pilvi.services.ecr.expiry import evaluate, evaluate_if_due, rules_of
from pilvi.services.ecr.image import paged
from pilvi.services.ecr.lifecycle import expired
from pilvi.services.ecr.repository import change, find_repository, in_registry

ops = Operations()


@ops
def put_lifecycle_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attach a policy and carry it out.

    req: lifecyclePolicyText (100 to 30,720 characters of JSON).
    Errors: RepositoryNotFoundException; InvalidParameterException - the text is no policy.
    Differs: it is carried out at once; AWS takes up to 24 hours.
    """
    ctx = in_registry(ctx, req)
    name, text = req["repositoryName"], req["lifecyclePolicyText"]
    find_repository(ctx, name)
    rules_of(text)
    change(ctx, name, lambda record: record | {"_lifecycle": text})
    evaluate(ctx, name)
    return {"registryId": ctx.account, "repositoryName": name, "lifecyclePolicyText": text}


@ops
def get_lifecycle_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policy as it was put, and when it was evaluated last.

    Errors: RepositoryNotFoundException; LifecyclePolicyNotFoundException - there is none.
    """
    ctx = in_registry(ctx, req)
    evaluate_if_due(ctx, req["repositoryName"])
    record = find_repository(ctx, req["repositoryName"])
    if not record.get("_lifecycle"):
        raise _no_policy(ctx, req["repositoryName"])
    return {
        "registryId": ctx.account,
        "repositoryName": req["repositoryName"],
        "lifecyclePolicyText": record["_lifecycle"],
        "lastEvaluatedAt": record.get("_evaluated"),
    }


@ops
def delete_lifecycle_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove the policy; gives it back once more.

    Errors: RepositoryNotFoundException; LifecyclePolicyNotFoundException - there is none.
    """
    before = get_lifecycle_policy(ctx, req)
    change(in_registry(ctx, req), req["repositoryName"], lambda record: record | {"_lifecycle": ""})
    return dict(before)


@ops
def start_lifecycle_policy_preview(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find out what a policy would expire, without expiring it.

    req: lifecyclePolicyText (default: the repository's own).
    Errors: RepositoryNotFoundException; LifecyclePolicyNotFoundException - neither is there; InvalidParameterException.
    Differs: the preview is complete when this is answered.
    """
    ctx = in_registry(ctx, req)
    name = req["repositoryName"]
    text = req.get("lifecyclePolicyText") or find_repository(ctx, name).get("_lifecycle") or ""
    find_repository(ctx, name)
    if not text:
        raise _no_policy(ctx, name)
    results = [
        {
            "digest": image["digest"],
            "imageTags": image["tags"],
            "imageDigest": image["digest"],
            "imagePushedAt": image["pushed"],
            "action": {"type": "EXPIRE"},
            "appliedRulePriority": rule.priority,
        }
        for image, rule in expired(rules_of(text), store.images_of(ctx, name), ctx.clock.now())
    ]
    ctx.records("LifecyclePreview").put(name, {"text": text, "results": results})
    return {"registryId": ctx.account, "repositoryName": name, "lifecyclePolicyText": text, "status": "IN_PROGRESS"}


@ops
def get_lifecycle_policy_preview(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the last preview found.

    req: imageIds, or filter.tagStatus, maxResults (1-100), nextToken.
    Errors: RepositoryNotFoundException; LifecyclePolicyPreviewNotFoundException - none was started.
    """
    ctx = in_registry(ctx, req)
    name = req["repositoryName"]
    find_repository(ctx, name)
    preview = ctx.records("LifecyclePreview").find(name)
    if preview is None:
        raise ServiceError(
            "LifecyclePolicyPreviewNotFoundException",
            f"There is no lifecycle policy preview for repository '{name}' in the registry with id '{ctx.account}'",
        )
    wanted = (req.get("filter") or {}).get("tagStatus") or "ANY"
    ids = [(id.get("imageDigest"), id.get("imageTag")) for id in req.get("imageIds") or ()]
    found, more = paged(
        preview["results"],
        req,
        lambda entry: (
            (wanted == "ANY" or bool(entry["imageTags"]) == (wanted == "TAGGED"))
            and (not ids or any(digest == entry["imageDigest"] or tag in entry["imageTags"] for digest, tag in ids))
        ),
    )
    return {
        "registryId": ctx.account,
        "repositoryName": name,
        "lifecyclePolicyText": preview["text"],
        "status": "COMPLETE",
        "previewResults": found,
        "nextToken": more,
        "summary": {"expiringImageTotalCount": len(preview["results"])},
    }


def _no_policy(ctx: Context, name: str) -> ServiceError:
    return ServiceError(
        "LifecyclePolicyNotFoundException",
        f"Lifecycle policy does not exist for the repository with name '{name}' in the registry with id '{ctx.account}'",
    )
