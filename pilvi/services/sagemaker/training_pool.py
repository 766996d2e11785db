"""Warm pools of training jobs: which jobs are alike, and what is told of a pool.

Source: SageMaker Developer Guide, "Train Using SageMaker AI Managed Warm Pools" (matching jobs; states; persistent cache).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import ceil
from typing import Any

from pilvi.core.service import Context
from pilvi.jobs import LIVE, Status

Record = dict[str, Any]


def pool_key(ctx: Context, req: Mapping[str, Any]) -> str:
    """The same for jobs that may follow each other in one pool; '' for jobs that have none."""
    resources = req["ResourceConfig"]
    if resources.get("InstanceGroups") or req.get("EnableManagedSpotTraining"):
        return ""
    alike = [
        ctx.account,
        ctx.region,
        req["RoleArn"],
        *(resources[member] for member in ("InstanceType", "InstanceCount", "VolumeSizeInGB")),
        req.get("VpcConfig"),
        bool(req.get("EnableInterContainerTrafficEncryption")),
        bool(req.get("EnableNetworkIsolation")),
    ]
    return json.dumps(alike, sort_keys=True)


def keep_alive_s(req: Mapping[str, Any]) -> int:
    return int(req["ResourceConfig"].get("KeepAlivePeriodInSeconds") or 0)


def warm_pool_status(record: Mapping[str, Any], job: Mapping[str, Any]) -> Record | None:
    """What Describe and List say of the job's pool; None where it never asked for one."""
    pool = job.get("pool")
    if record["ResourceConfig"].get("KeepAlivePeriodInSeconds") is None and pool is None:
        return None
    if Status(job["status"]) in LIVE:
        return {"Status": "InUse"}
    if pool is None:
        return {"Status": "Terminated"}
    if pool["is_held"] and "ended" not in pool:
        return {"Status": "Available"}
    found: Record = {"Status": "Reused", "ReusedByJob": pool["by"]} if pool.get("by") else {"Status": "Terminated"}
    if ended := pool.get("ended"):
        found["ResourceRetainedBillableTimeInSeconds"] = ceil((ended - pool["since"]).total_seconds())
    return found
