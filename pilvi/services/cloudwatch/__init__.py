"""CloudWatch: metrics that are put, listed and read back as statistics. Alarms, math and dashboards are not here yet."""

from __future__ import annotations

from pilvi.core.errors import Invalid
from pilvi.core.service import Service
from pilvi.services.cloudwatch import metric, metric_data

service = Service("cloudwatch", metric.ops, metric_data.ops, errors={Invalid: "InvalidParameterValue"})
