"""Paths into events: `$.detail.items[0].name`, `*` for every element. What a name may hold differs by who writes them. Pure.

PATHS = Paths(re.compile(r"[.]([a-z]+|[*])|[[](0|[*])[]]"), "{path} is not a valid JSON path.")
PATHS.value_at(event, "$.detail.user")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pilvi.core.errors import Invalid

NOTHING: Final = object()
"""A path led nowhere."""


class Paths:
    """One grammar of paths."""

    def __init__(self, step: re.Pattern[str], wrong: str, opened: Callable[[str], Any] = lambda text: text) -> None:
        """step: one step, its groups a name, an index, and other ways to write a name. wrong: what a path that is none is told, with
        {path} and {at}. opened: what a text that the path goes on in stands for.
        """
        self._step = step
        self._wrong = wrong
        self._opened = opened

    def steps_of(self, path: str) -> list[str | int]:
        """`$.body.items[0]` as ["body", "items", 0]. Invalid for what is no path."""
        if not path.startswith("$"):
            raise Invalid("A path begins with $.")
        steps: list[str | int] = []
        at = 1
        while at < len(path):
            found = self._step.match(path, at)
            if found is None:
                raise Invalid(self._wrong.format(path=path, at=at))
            name, index, *others = found.groups()
            text = name or index or next(filter(None, others), "")
            steps.append(int(text) if index and index != "*" else text)
            at = found.end()
        return steps

    def value_at(self, event: Any, path: str) -> Any:
        """What stands there; a list of everything where the path has an asterisk; NOTHING."""
        steps = self.steps_of(path)
        found = list(self._walk(event, steps))
        if "*" in steps:
            return found
        return found[0] if found else NOTHING

    def _walk(self, thing: Any, steps: list[str | int]) -> Iterator[Any]:
        if not steps:
            yield thing
            return
        step, rest = steps[0], steps[1:]
        if isinstance(thing, str):
            thing = self._opened(thing)
        if step == "*":
            for one in thing.values() if isinstance(thing, Mapping) else thing if isinstance(thing, list) else ():
                yield from self._walk(one, rest)
        elif isinstance(step, int):
            if isinstance(thing, list) and step < len(thing):
                yield from self._walk(thing[step], rest)
        elif isinstance(thing, Mapping) and step in thing:
            yield from self._walk(thing[step], rest)
