"""What goes on after a restart: endpoints, notebook instances, Studio's apps and tuning jobs that ran."""

from __future__ import annotations

import asyncio

from pilvi.core.service import Cloud
from pilvi.services.sagemaker.notebook_fleet import fleet_of
from pilvi.services.sagemaker.serving_fleet import fleet_of as endpoints_of
from pilvi.services.sagemaker.studio_fleet import studio_of
from pilvi.services.sagemaker.tuning_control import control_of


async def resume(cloud: Cloud) -> None:
    """Run again what ran when the server stopped."""
    await endpoints_of(cloud).recover()
    await asyncio.to_thread(fleet_of, cloud)
    await asyncio.to_thread(studio_of, cloud)
    await asyncio.to_thread(control_of, cloud)
