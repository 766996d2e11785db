"""Cost Explorer: what an account's use costs, by time, service, usage type, tag, from the meter's lines (pilvi/metering)."""

from __future__ import annotations

from pilvi.core.errors import Invalid
from pilvi.core.service import Service
from pilvi.services.ce import cost_and_usage, values
from pilvi.services.ce.bill import bill

service = Service("ce", cost_and_usage.ops, values.ops, errors={Invalid: "ValidationException"}, sites={"bill": bill})
