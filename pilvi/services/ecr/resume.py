"""After a start: lifecycle policies that fell due are carried out, uploads and layers nobody came back for are given up."""

from __future__ import annotations

import asyncio

from pilvi.core.principal import Principal
from pilvi.core.service import Cloud, Context
from pilvi.images import layers, store
from pilvi.services.ecr.expiry import evaluate_if_due


async def resume(cloud: Cloud) -> None:
    await asyncio.to_thread(_tidy, cloud)


def _tidy(cloud: Cloud) -> None:
    for table in cloud.store.tables(service="ecr", noun="Repository"):
        ctx = _context(cloud, table.account, table.region)
        for record in ctx.records("Repository").all():
            evaluate_if_due(ctx, record["repositoryName"])
        old = cloud.clock.now() - layers.UPLOAD_AGE
        store.sweep_layers(ctx, old)
    for table in cloud.store.tables(service="ecr", noun="Upload"):
        layers.sweep_uploads(_context(cloud, table.account, table.region))


def _context(cloud: Cloud, account: str, region: str) -> Context:
    principal = Principal("service", account, "", "ecr.amazonaws.com", "ecr.amazonaws.com")
    return Context(cloud, principal=principal, account=account, region=region, service="ecr")
