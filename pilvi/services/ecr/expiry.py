"""Carrying out lifecycle policies: what a policy expires is deleted, by the server's own clock."""

from __future__ import annotations

import logging
from datetime import timedelta

from pilvi.core.errors import Invalid
from pilvi.core.service import Context
from pilvi.images import layers, store
from pilvi.services.ecr.errors import bad_parameter
from pilvi.services.ecr.image_action import telling, wake
from pilvi.services.ecr.lifecycle import Rule, expired, read_rules
from pilvi.services.ecr.repository import Record, change, find_repository

log = logging.getLogger("pilvi.ecr")

EVERY = timedelta(hours=1)


def evaluate(ctx: Context, name: str) -> None:
    """Carry out a repository's policy."""
    with layers.changing(ctx):
        record = find_repository(ctx, name)
        if record.get("_lifecycle"):
            for image, rule in expired(rules_of(record["_lifecycle"]), store.images_of(ctx, name), ctx.clock.now()):
                store.delete_images(ctx, name, [dict(image)], *telling(ctx, name, image["digest"], "DELETE", image["tags"]))
                wake(ctx)
                log.info("lifecycle rule %d expired %s of %s", rule.priority, image["digest"], name)
        change(ctx, name, lambda record: record | {"_evaluated": ctx.clock.now()})


def evaluate_if_due(ctx: Context, name: str) -> None:
    """Carry it out when the last time is an hour ago; nothing for repositories without a policy."""
    record: Record | None = ctx.records("Repository").find(name)
    if record is None or not record.get("_lifecycle"):
        return
    if record.get("_evaluated") is None or ctx.clock.now() - record["_evaluated"] >= EVERY:
        evaluate(ctx, name)


def rules_of(text: str) -> list[Rule]:
    try:
        return read_rules(text)
    except Invalid as error:
        raise bad_parameter("LifecyclePolicyText", f"Lifecycle policy validation failure: {error.message}") from None
