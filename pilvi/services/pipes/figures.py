"""What CloudWatch is told of pipes, every minute: namespace AWS/EventBridge/Pipes, dimension PipeName.

Source: EventBridge User Guide, "Monitoring Amazon EventBridge Pipes": metrics. Differs: what a killed server had counted in its last
minute is lost.
"""

from __future__ import annotations

from typing import Final

from pilvi.metering.figures import Figures

FIGURES: Final = Figures("pipes", "AWS/EventBridge/Pipes")
