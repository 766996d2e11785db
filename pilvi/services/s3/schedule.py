"""What S3 does again and again (pilvi.schedules)."""

from __future__ import annotations

from pilvi.schedules import Periodic
from pilvi.services.s3 import (
    access_log_delivery,
    analytics_export,
    inventory_run,
    lifecycle_run,
    replication_metrics,
    request_metrics,
    restore,
)
from pilvi.services.s3.classes import DAY_S
from pilvi.services.s3.storage_lines import run_storage
from pilvi.services.s3.storage_metrics import run_storage_metrics

TASKS = (
    Periodic("restores", 60.0, restore.run_restores, restore.has_work),
    Periodic("lifecycle", float(DAY_S), lifecycle_run.run_lifecycle, lifecycle_run.has_work),
    Periodic("replication metrics", 60.0, replication_metrics.publish, replication_metrics.has_work),
    Periodic("storage", float(DAY_S), run_storage),
    Periodic("access logs", access_log_delivery.PERIOD_S, access_log_delivery.deliver, access_log_delivery.has_work),
    Periodic("request metrics", 60.0, request_metrics.publish, request_metrics.has_work),
    Periodic("inventories", float(DAY_S), inventory_run.run_inventories, inventory_run.has_work),
    Periodic("analytics", float(DAY_S), analytics_export.run_analytics, analytics_export.has_work),
    Periodic("storage metrics", float(DAY_S), run_storage_metrics),
)
