"""A program's paths, rewritten for a machine that can give it no file tree of its own."""

from __future__ import annotations

import re
from dataclasses import replace

from pilvi.compute import ProcessSpec


def relocated(spec: ProcessSpec) -> ProcessSpec:
    """The spec with every path at or below a bind's target moved to where the bind's source really is."""
    # A bind that stays where it is counts too: /tmp may move, an environment below /tmp does not.
    moves = {bind.target: str(bind.source) for bind in spec.binds}
    if not moves:
        return spec
    targets = "|".join(re.escape(target) for target in sorted(moves, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w./-])({targets})(?![\w.-])")

    def move(text: str) -> str:
        return pattern.sub(lambda match: moves[match[1]], text)

    return replace(
        spec,
        command=tuple(move(part) for part in spec.command),
        env={name: move(value) for name, value in spec.env.items()},
        cwd=move(spec.cwd),
    )
