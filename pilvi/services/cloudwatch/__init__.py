"""CloudWatch: metrics that are put, listed and read back as statistics. Alarms, math and dashboards are not here yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.service import Access, Context, Service
from pilvi.services.cloudwatch import metric, metric_data


def needed(_: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """The permission of one call. Source: Service Authorization Reference, CloudWatch: only PutMetricData knows its namespace."""
    context = {"cloudwatch:namespace": req["Namespace"]} if operation == "PutMetricData" else {}
    return (Access(f"cloudwatch:{operation}", context=context),)


service = Service("cloudwatch", metric.ops, metric_data.ops, errors={Invalid: "InvalidParameterValue"}, access=needed)
