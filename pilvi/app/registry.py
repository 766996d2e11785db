"""The folder is the registry: every module of pilvi.services is a service, imported at its first request."""

from __future__ import annotations

import importlib
import importlib.util
import keyword
import pkgutil
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pilvi.services
from pilvi.core.service import Cloud, Service
from pilvi.events import Consumer
from pilvi.schedules import Periodic
from pilvi.schedules.firing import Fire


def module_of(service: str) -> str:
    """botocore's name as a module name: '-' becomes '_', a Python keyword gets '_' behind it."""
    name = service.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


class Registry:
    """Finds services by botocore's name."""

    def __init__(self) -> None:
        self._modules = {module.name for module in pkgutil.iter_modules(pilvi.services.__path__)}
        self._loaded: dict[str, Service | None] = {}
        self._lock = threading.Lock()

    def modules(self) -> set[str]:
        return set(self._modules)

    def is_loaded(self, service: str) -> bool:
        return service in self._loaded

    def find(self, service: str) -> Service | None:
        """The service, or None when it is not built. Imports it when asked for the first time."""
        try:
            return self._loaded[service]
        except KeyError:
            with self._lock:
                if service not in self._loaded:
                    self._loaded[service] = self._load(service)
                return self._loaded[service]

    def seen(self, service: str) -> Service | None:
        """The service when it is built and was asked for before."""
        return self._loaded.get(service)

    def loaded(self) -> list[Service]:
        return [service for service in self._loaded.values() if service is not None]

    def resumption(self, service: str) -> Callable[[Cloud], Awaitable[None]] | None:
        """What a service does after a start, or None when it has nothing to go on with."""
        name = f"pilvi.services.{module_of(service)}"
        if module_of(service) not in self._modules or importlib.util.find_spec(f"{name}.resume") is None:
            return None
        found: Callable[[Cloud], Awaitable[None]] = importlib.import_module(f"{name}.resume").resume
        return found

    def consumers(self, service: str) -> Sequence[Consumer]:
        """Who takes facts for a service: what its module `consumers.py` declares."""
        name = f"pilvi.services.{module_of(service)}"
        if module_of(service) not in self._modules or importlib.util.find_spec(f"{name}.consumers") is None:
            return ()
        found: Sequence[Consumer] = importlib.import_module(f"{name}.consumers").CONSUMERS
        return found

    def tasks(self) -> dict[str, Periodic]:
        """What services do again and again, by `service/name`: the TASKS of every module `schedule.py`."""
        found: dict[str, Periodic] = {}
        for service, module in self._schedules():
            found |= {f"{service}/{task.name}": task for task in getattr(module, "TASKS", ())}
        return found

    def timers(self) -> dict[str, Fire]:
        """What ends services' timers, by `service/name`: the TIMERS of every module `schedule.py` that has any."""
        found: dict[str, Fire] = {}
        for service, module in self._schedules():
            found |= {f"{service}/{name}": fire for name, fire in getattr(module, "TIMERS", {}).items()}
        return found

    def _schedules(self) -> Iterator[tuple[str, ModuleType]]:
        """The modules `schedule.py`, by their service's folder."""
        for folder in map(Path, pilvi.services.__path__):
            for path in sorted(folder.glob("*/schedule.*")):
                if path.parent.name in self._modules:
                    yield path.parent.name, importlib.import_module(f"pilvi.services.{path.parent.name}.schedule")

    def _load(self, service: str) -> Service | None:
        module = module_of(service)
        if module not in self._modules:
            return None
        found = importlib.import_module(f"pilvi.services.{module}").service
        if not isinstance(found, Service) or found.name != service:
            raise TypeError(f"pilvi.services.{module} must define service = Service({service!r}, ...)")
        return found
