"""What a training job tells while it runs, in the log lines of AWS's algorithms, which metric definitions read.

[11/22/2026 09:00:00 INFO 12] #quality_metric: host=algo-1, epoch=0, train objective_loss <loss>=0.5
[11/22/2026 09:00:00 INFO 12] #progress_metric: host=algo-1, completed 10.0 % of epochs
#metrics {"StartTime": ..., "EndTime": ..., "Dimensions": {...}, "Metrics": {"name": {"sum": ..., "count": 1, "min": ..., "max": ...}}}
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from typing import Any


class Report:
    def __init__(self, algorithm: str, host: str = "algo-1") -> None:
        self.algorithm = algorithm
        self.host = host
        self._since = time.time()

    def say(self, text: str, level: str = "INFO") -> None:
        """A line of the log."""
        self.line(f"[{time.strftime('%m/%d/%Y %H:%M:%S')} {level} {os.getpid()}] {text}")

    def line(self, text: str) -> None:
        """A line as it stands."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def quality(
        self, part: str, name: str, value: float, *, epoch: int | None = None, kind: str = "loss", batch: int | None = None
    ) -> None:
        """`part` is train, validation or test; `kind` loss or score."""
        when = "" if epoch is None else f"epoch={epoch}, "
        when += "" if batch is None else f"batch={batch} "
        self.say(f"#quality_metric: host={self.host}, {when}{part} {name} <{kind}>={value}")

    def score(self, part: str, name: str, value: float) -> None:
        """A model's final figure on validation or test data: both of the lines that AWS's algorithms write."""
        self.say(f"#{part}_score ({self.host}) : ({name!r}, {value})")
        self.quality(part, name, value, kind="score")

    def progress(self, done: float, of: str = "epochs") -> None:
        """`done` between 0 and 1."""
        self.say(f"#progress_metric: host={self.host}, completed {done * 100:.4g} % of {of}")

    def throughput(self, records: float, seconds: float) -> None:
        self.say(f"#throughput_metric: host={self.host}, train throughput={records / max(seconds, 1e-9)} records/second")

    def metrics(self, values: dict[str, float], operation: str = "training", **dimensions: Any) -> None:
        """Numbers for machines, since the last such line."""
        now = time.time()
        told = {
            name: {"sum": value, "count": 1, "min": value, "max": value} for name, value in values.items() if math.isfinite(value)
        }
        where = {"Algorithm": self.algorithm, "Host": self.host, "Operation": operation, **dimensions}
        self.line("#metrics " + json.dumps({"StartTime": self._since, "EndTime": now, "Dimensions": where, "Metrics": told}))
        self._since = now
