"""What alarms do when their state changes: publish to a topic, call a function. Delivered from the outbox, and told in the history.

A topic or a function that is gone, or does not let CloudWatch in, misses the action, as on AWS; what fails for other reasons is tried again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.events.targets import code_of, is_lasting, send, text_of
from pilvi.services.cloudwatch.alarms import PRINCIPAL, item, own_context

if TYPE_CHECKING:
    from pilvi.core.service import Cloud, Context
    from pilvi.events import Fact

FUNCTION_PRINCIPAL = "lambda.alarms.cloudwatch.amazonaws.com"
"""Source: CloudWatch User Guide, "Invoking Lambda functions from alarms"."""


async def act(cloud: Cloud, fact: Fact) -> None:
    """One action of one change of state."""
    ctx = own_context(cloud, fact["account"], fact["region"])
    arn = fact["action"]
    try:
        if "event" in fact:
            await send(ctx.as_service(FUNCTION_PRINCIPAL, source_arn=fact["arn"]), arn, json.dumps(fact["event"]))
        else:
            body = json.dumps({"default": fact["text"], "email": fact["mail"]})
            options = {"Subject": fact["subject"], "MessageStructure": "json"}
            await send(ctx.as_service(PRINCIPAL, source_arn=fact["arn"]), arn, body, options=options)
    except Exception as error:
        if not is_lasting(error):
            raise
        await _tell(ctx, fact, f'Failed to execute action {arn}. Received error: "{text_of(error)}"', code_of(error))
        return
    await _tell(ctx, fact, f"Successfully executed action {arn}", "")


async def _tell(ctx: Context, fact: Mapping[str, Any], summary: str, error: str) -> None:
    data = {
        "actionState": "Failed" if error else "Succeeded",
        "notificationResource": fact["action"],
        **({"error": error} if error else {}),
    }
    alarm = {"AlarmName": fact["alarm"], "_kind": fact["kind"]}
    change = item(ctx, alarm, "Action", summary, data)
    await asyncio.wrap_future(ctx.store.submit([change]))
