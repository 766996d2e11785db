"""What an endpoint's deployment configuration may not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid


def check_deployment(config: Mapping[str, Any] | None) -> None:
    if config is None:
        return
    blue_green, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
    if blue_green and rolling:
        raise Invalid("BlueGreenUpdatePolicy and RollingUpdatePolicy cannot be specified together.")
    routing = (blue_green or {}).get("TrafficRoutingConfiguration") or {}
    kind = routing.get("Type")
    if kind == "CANARY" and not routing.get("CanarySize"):
        raise Invalid("CanarySize must be given when the type of TrafficRoutingConfiguration is CANARY.")
    if kind == "LINEAR" and not routing.get("LinearStepSize"):
        raise Invalid("LinearStepSize must be given when the type of TrafficRoutingConfiguration is LINEAR.")
    for name, most in (("CanarySize", 50), ("LinearStepSize", 50)):
        size = routing.get(name)
        if size and size["Type"] == "CAPACITY_PERCENT" and not (5 if name == "CanarySize" else 10) <= size["Value"] <= most:
            raise Invalid(f"{name} must be between {5 if name == 'CanarySize' else 10} and {most} percent.")
