"""Interrupting managed spot training, which on AWS happens when it happens: `pilvi spot interrupt` asks for it here.

    POST /_aws/spot/<training job name>      signed as a call of SageMaker's API; needs sagemaker:StopTrainingJob on the job

The program gets SIGTERM and 120 seconds (EC2's two-minute notice), the job is Interrupted, goes back into the queue and starts again
with its checkpoints, as long as MaxWaitTimeInSeconds lasts.
"""

from __future__ import annotations

import asyncio
import json
from urllib.parse import unquote

from pilvi.core.errors import Conflict, PilviError
from pilvi.core.http import Request, Response
from pilvi.core.service import Context
from pilvi.services.sagemaker.access import needed
from pilvi.services.sagemaker.training_job import KIND

PATH = "/_aws/spot/"


async def spot(ctx: Context, request: Request) -> Response:
    """Interrupt one training job of the caller's account and Region."""
    name = unquote(request.raw_path.removeprefix(PATH)).strip("/")
    if request.method != "POST":
        return _said(405, "Ask with POST.")
    if not ctx.principal.account:
        return _said(403, "The request is not signed.")
    try:
        for access in needed(ctx, "StopTrainingJob", {"TrainingJobName": name}):
            ctx.authorize(access)
        return _said(200, await asyncio.to_thread(interrupt, ctx, name))
    except Conflict:
        return _said(409, f"Training job {name} is no managed spot training job, or it has no instance now.")
    except PilviError as error:
        return _said(403 if getattr(error, "code", "") == "AccessDeniedException" else 400, error.message)


def interrupt(ctx: Context, name: str) -> str:
    """Take the job's instances away; says what happened."""
    record, _ = KIND.find(ctx, name)
    ctx.jobs.interrupt(record["_job"])
    return f"Training job {record['TrainingJobName']} is interrupted. It starts again when its program has ended."


def _said(status: int, message: str) -> Response:
    return Response(status, [("Content-Type", "application/json")], json.dumps({"message": message}).encode())
