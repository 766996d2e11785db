"""Where and when jobs run: a fair queue over cores, memory and GPUs. Pure: no thread, no clock, no process.

    add(id, wishes) -> waiting -> start() -> [(id, grants)] -> running -> release(id)

First come, first served. A job is placed as a whole, all its members or none. When the first in the queue does not fit, a later one
may pass it only if the first would still fit once everything that runs now, but those that passed, has ended: small jobs use what is
left over and never keep a big one waiting. Waiting jobs with the same wishes stand in one line, so nothing here looks at every job.

What a member gets of a node:
    cores    it sees as many as it wishes, as far as there are; it counts for that, but at most for half the node, so that two jobs
             always run side by side (never less than a slot each: memory is what limits then)
    memory   what it wishes, but at most the node's memory by its share of the cores. Limit and reservation are this one number, and
             reservations never exceed the memory there is
    GPUs     as many as it wishes, as far as there are; of each the memory it wishes, so that jobs share a big one
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pilvi.compute import Gpu, Node
from pilvi.jobs.spec import Resources

_WHOLE = 1000
"""A slot, in thousandths."""
_LEAST_MIB = 128
"""A program needs that much to start at all."""
_MOST_ELSEWHERE = 64
"""Jobs that an engine with a queue of its own gets at the same time; each is watched by a thread here."""
_LOOK_AHEAD = 64
"""So many lines are looked at for one that may pass the first."""

Wishes = tuple[Resources, ...]
"""What each member of a job wishes."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one member gets."""

    node: str = ""
    cpus: int | None = None
    """Cores it sees; None is all."""
    memory_mib: int | None = None
    gpus: tuple[str, ...] | None = None
    """Ids of its GPUs; None where there are none to be shown or hidden."""
    gpu_share: float = 1.0
    """The least part of a GPU's memory that is its own."""
    address: str = ""
    """Of its node, where members on several nodes need it."""
    notes: tuple[str, ...] = ()
    """What it wished and did not get, in words for its log."""


@dataclass(frozen=True, slots=True)
class _Need:
    """A member's reservation on one node."""

    slots: int
    memory_mib: int
    gpus: int = 0
    gpu_memory_mib: int = 0


@dataclass(slots=True)
class _Room:
    """What is free of a node."""

    node: Node
    slots: int
    memory_mib: int
    gpus: dict[str, int]

    def copy(self) -> _Room:
        return _Room(self.node, self.slots, self.memory_mib, dict(self.gpus))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A reservation made."""

    node: str
    need: _Need
    gpus: tuple[tuple[str, int], ...]
    """GPU id and MiB of it."""
    grant: Grant


@dataclass(slots=True)
class _Line:
    """Waiting jobs with the same wishes, in order."""

    wishes: Wishes
    waiting: OrderedDict[int, str] = field(default_factory=OrderedDict)

    def first(self) -> int:
        return next(iter(self.waiting))


class Placement:
    """Not safe for several threads; the runner holds a lock."""

    def __init__(self, nodes: Sequence[Node], slots: int | None = None) -> None:
        """nodes: () where the engine queues by itself. slots: how many jobs of no wish run on a node at the same time (default: as
        many as it has cores, at least two)."""
        self._slots = slots
        self._nodes: tuple[Node, ...] = ()
        self._rooms: dict[str, _Room] = {}
        self._lines: dict[Wishes, _Line] = {}
        self._places: dict[str, tuple[int, Wishes]] = {}
        self._order: list[int] = []
        self._number = 0
        self._running: dict[str, tuple[_Piece, ...]] = {}
        self._passers: set[str] = set()
        self.see(nodes)

    # -- the queue ----------------------------------------------------------------------------------------------------

    def see(self, nodes: Sequence[Node]) -> None:
        """The nodes there are now; what runs goes on and is counted where its node still is."""
        self._nodes = tuple(nodes)
        self._rooms = {node.name: self._empty(node) for node in nodes}
        for pieces in self._running.values():
            self._take(self._rooms, pieces)

    def trouble(self, wishes: Wishes) -> str:
        """Why such a job can never run on these nodes; '' when it can."""
        if not self._nodes or self._fit(wishes, self._all_empty()) is not None:
            return ""
        return (
            f"CapacityError: {len(wishes)} instances do not fit on {self._machines()}, "
            f"where each would get less than {_LEAST_MIB} MiB of memory."
        )

    def add(self, id: str, wishes: Wishes) -> bool:
        """Stand at the end of the queue; whether `start` may have something new to give."""
        self._number += 1
        line = self._lines.setdefault(wishes, _Line(wishes))
        line.waiting[self._number] = id
        self._places[id] = (self._number, wishes)
        self._order.append(self._number)
        return len(line.waiting) == 1

    def remove(self, id: str) -> bool:
        """Leave the queue; whether it was there."""
        if (place := self._places.pop(id, None)) is None:
            return False
        number, wishes = place
        line = self._lines[wishes]
        del line.waiting[number]
        if not line.waiting:
            del self._lines[wishes]
        del self._order[bisect_left(self._order, number)]
        return True

    def start(self) -> list[tuple[str, tuple[Grant, ...]]]:
        """Everything that may run now, in order."""
        found = []
        while (next_one := self._next()) is not None:
            id, pieces = next_one
            self.remove(id)
            self._running[id] = pieces
            self._take(self._rooms, pieces)
            found.append((id, tuple(piece.grant for piece in pieces)))
        return found

    def release(self, id: str) -> None:
        """It has ended."""
        self._passers.discard(id)
        for piece in self._running.pop(id, ()):
            if (room := self._rooms.get(piece.node)) is not None:
                _change(room, piece, +1)

    def hand_over(self, id: str, heir: str) -> tuple[Grant, ...] | None:
        """The place of one that ran goes to another one as it is; None when there is no such place."""
        self._passers.discard(id)
        if (pieces := self._running.pop(id, None)) is None:
            return None
        self._running[heir] = pieces
        return tuple(piece.grant for piece in pieces)

    def clear(self) -> None:
        """Nobody waits any more."""
        self._lines.clear()
        self._places.clear()
        self._order.clear()

    # -- what is told -------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        return len(self._places)

    @property
    def running(self) -> int:
        return len(self._running)

    def reason(self, id: str) -> str:
        """Why a job waits; '' when it does not."""
        if (place := self._places.get(id)) is None:
            return ""
        number, wishes = place
        ahead = bisect_left(self._order, number)
        before = f"{ahead} job{'s are' if ahead > 1 else ' is'} ahead of it; " if ahead else ""
        return f"Waiting for a place: {before}{self._shortage(wishes)}"

    def first_reason(self) -> str:
        """Why the first in the queue waits; '' when nobody does."""
        if not self._order:
            return ""
        line = min(self._lines.values(), key=_Line.first)
        return self.reason(line.waiting[line.first()])

    # -- choosing -----------------------------------------------------------------------------------------------------

    def _next(self) -> tuple[str, tuple[_Piece, ...]] | None:
        lines = sorted(self._lines.values(), key=_Line.first)[:_LOOK_AHEAD]
        if not lines:
            return None
        first = lines[0]
        if not self._nodes and len(self._running) >= _MOST_ELSEWHERE:
            return None
        if (pieces := self._fit(first.wishes, self._rooms)) is not None:
            self._passers.clear()
            return first.waiting[first.first()], pieces
        for line in lines[1:]:
            pieces = self._fit(line.wishes, self._rooms)
            if pieces is not None and self._leaves_room_for(first.wishes, pieces):
                id = line.waiting[line.first()]
                self._passers.add(id)
                return id, pieces
        return None

    def _leaves_room_for(self, wishes: Wishes, pieces: tuple[_Piece, ...]) -> bool:
        """Whether a job would fit beside these and those that passed it before, when all others have ended."""
        rooms = self._all_empty()
        for passer in self._passers:
            self._take(rooms, self._running[passer])
        self._take(rooms, pieces)
        return self._fit(wishes, rooms) is not None

    def _fit(self, wishes: Wishes, rooms: dict[str, _Room]) -> tuple[_Piece, ...] | None:
        """A place for every member, or None. The rooms stay as they are."""
        if not self._nodes:
            return tuple(_unplaced(wish) for wish in wishes)
        rooms = {name: room.copy() for name, room in rooms.items()} if len(wishes) > 1 else rooms
        crowd = math.ceil(len(wishes) / len(self._nodes))
        pieces = []
        for wish in wishes:
            if (piece := self._place(wish, crowd, rooms)) is None:
                return None
            pieces.append(piece)
            if len(wishes) > 1:
                _change(rooms[piece.node], piece, -1)
        return tuple(pieces)

    def _place(self, wish: Resources, crowd: int, rooms: dict[str, _Room]) -> _Piece | None:
        """The roomiest node that has what a member needs."""
        most_gpus = min(wish.gpus, max(len(node.gpus) for node in self._nodes))
        best: tuple[int, _Room, _Need] | None = None
        for room in rooms.values():
            need = self._need(wish, room.node, crowd)
            if need.gpus == most_gpus and _has(room, need) and (best is None or room.slots > best[0]):
                best = (room.slots, room, need)
        if best is None:
            return None
        _, room, need = best
        chosen = _choose_gpus(room, need)
        return _Piece(room.node.name, need, chosen, _grant(wish, room.node, need, chosen))

    def _need(self, wish: Resources, node: Node, crowd: int) -> _Need:
        """What a member counts for on a node, when `crowd` members of its job may have to share the node."""
        slots = self._slots_of(node)
        share = min((wish.cpus or 1) * _WHOLE, max(_WHOLE, slots * _WHOLE // 2), slots * _WHOLE // crowd)
        memory = int(node.memory_mib * share / (slots * _WHOLE))
        return _Need(
            slots=int(share),
            memory_mib=max(_LEAST_MIB, min(wish.memory_mib or memory, memory)),
            gpus=min(wish.gpus, len(node.gpus)),
            gpu_memory_mib=wish.gpu_memory_mib,
        )

    def _slots_of(self, node: Node) -> int:
        return self._slots or max(2, node.cpus)

    # -- counting -----------------------------------------------------------------------------------------------------

    def _empty(self, node: Node) -> _Room:
        gpus = {gpu.id: _memory_of(gpu) for gpu in node.gpus}
        return _Room(node, self._slots_of(node) * _WHOLE, node.memory_mib, gpus)

    def _all_empty(self) -> dict[str, _Room]:
        return {node.name: self._empty(node) for node in self._nodes}

    def _take(self, rooms: dict[str, _Room], pieces: Sequence[_Piece]) -> None:
        for piece in pieces:
            if (room := rooms.get(piece.node)) is not None:
                _change(room, piece, -1)

    # -- words --------------------------------------------------------------------------------------------------------

    def _machines(self) -> str:
        return "this machine" if len(self._nodes) == 1 else f"{len(self._nodes)} nodes"

    def _shortage(self, wishes: Wishes) -> str:
        """What is missing now for a job."""
        if not self._nodes:
            return f"{self.running} jobs are with the cluster, which is all that is given to it at a time"
        runs = f"{self.running} job{'' if self.running == 1 else 's'} run{'s' if self.running == 1 else ''} on {self._machines()}"
        crowd = math.ceil(len(wishes) / len(self._nodes))
        needs = [self._need(wishes[0], node, crowd) for node in self._nodes]
        need = max(needs, key=lambda need: need.gpus)
        missing = list(_missing(need, len(wishes), list(self._rooms.values())))
        return f"{runs}; {' and '.join(missing)}" if missing else f"{runs} and what is free is kept for the first in the queue"


def _missing(need: _Need, members: int, found: Sequence[_Room]) -> Iterator[str]:
    """The resources of which there is not enough."""
    slots, memory = sum(room.slots for room in found), sum(room.memory_mib for room in found)
    if slots < need.slots * members:
        yield f"it needs {_cores(need.slots * members)}, {_cores(max(0, slots))} free"
    if memory < need.memory_mib * members:
        yield f"it needs {_gib(need.memory_mib * members)} of memory, {_gib(max(0, memory))} free"
    if need.gpus and not any(_gpus_with_room(room, need) >= need.gpus for room in found):
        yield f"it needs {need.gpus} GPU{'s' if need.gpus > 1 else ''}, {max(_gpus_with_room(room, need) for room in found)} free"


def _cores(slots: int) -> str:
    count = f"{slots / _WHOLE:g}"
    return f"{count} core" if count == "1" else f"{count} cores"


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB"


# -- reservations ---------------------------------------------------------------------------------------------------------


def _has(room: _Room, need: _Need) -> bool:
    return room.slots >= need.slots and room.memory_mib >= need.memory_mib and _gpus_with_room(room, need) >= need.gpus


def _gpus_with_room(room: _Room, need: _Need) -> int:
    return sum(room.gpus[gpu.id] >= _of_gpu(gpu, need) for gpu in room.node.gpus)


def _of_gpu(gpu: Gpu, need: _Need) -> int:
    """How much of a GPU a member needs: all of it where it wishes more, or nobody knows how much there is."""
    whole = _memory_of(gpu)
    return min(need.gpu_memory_mib, whole) if need.gpu_memory_mib and gpu.memory_mib else whole


def _memory_of(gpu: Gpu) -> int:
    return gpu.memory_mib or 1


def _choose_gpus(room: _Room, need: _Need) -> tuple[tuple[str, int], ...]:
    """Those with the most room, so that jobs get one for themselves as long as there are enough."""
    fitting = [gpu for gpu in room.node.gpus if room.gpus[gpu.id] >= _of_gpu(gpu, need)]
    fitting.sort(key=lambda gpu: -room.gpus[gpu.id])
    return tuple((gpu.id, _of_gpu(gpu, need)) for gpu in fitting[: need.gpus])


def _change(room: _Room, piece: _Piece, sign: int) -> None:
    room.slots += sign * piece.need.slots
    room.memory_mib += sign * piece.need.memory_mib
    for id, memory in piece.gpus:
        if id in room.gpus:
            room.gpus[id] += sign * memory


# -- grants ---------------------------------------------------------------------------------------------------------------


def _unplaced(wish: Resources) -> _Piece:
    """What an engine with a queue of its own is asked for: everything that is wished."""
    gpus = tuple(str(number) for number in range(wish.gpus)) or None
    cpus = math.ceil(wish.cpus) or None
    return _Piece("", _Need(0, 0), (), Grant("", cpus, wish.memory_mib or None, gpus))


def _grant(wish: Resources, node: Node, need: _Need, chosen: tuple[tuple[str, int], ...]) -> Grant:
    wholes = {gpu.id: _memory_of(gpu) for gpu in node.gpus}
    cpus = min(math.ceil(wish.cpus), node.cpus) if wish.cpus else None
    grant = Grant(
        node.name,
        cpus,
        need.memory_mib,
        tuple(id for id, _ in chosen) if node.gpus else None,
        min((memory / wholes[id] for id, memory in chosen), default=1.0),
        node.address,
    )
    return replace(grant, notes=tuple(_notes(wish, node, grant)))


def _notes(wish: Resources, node: Node, grant: Grant) -> Iterator[str]:
    """What the log says when a machine is smaller than the one that was wished."""
    place, what = f"node {node.name}" if node.name else "this machine", wish.label or "the job"
    less = []
    if grant.cpus is not None and grant.cpus < wish.cpus:
        less.append(f"{grant.cpus} of {wish.cpus:g} cores")
    if grant.memory_mib is not None and grant.memory_mib < wish.memory_mib:
        less.append(f"{_gib(grant.memory_mib)} of {_gib(wish.memory_mib)} memory")
    if less:
        yield f"{place} gives {' and '.join(less)} of {what}"
    if wish.gpus and not grant.gpus:
        yield f"{what} has {_gpu_words(wish.gpus, wish.gpu_memory_mib)}; {place} has none, so the program runs on the CPU"
    elif wish.gpus:
        models = sorted({gpu.name for gpu in node.gpus if gpu.id in (grant.gpus or ())})
        share = "" if grant.gpu_share == 1.0 else f", {grant.gpu_share:.0%} of its memory"
        yield f"{place} gives {len(grant.gpus or ())} of {_gpu_words(wish.gpus, wish.gpu_memory_mib)} of {what}: {', '.join(models)}{share}"
    if wish.extra:
        yield f"{what} has {wish.extra}; {place} has none, so the program runs on the CPU"


def _gpu_words(count: int, memory_mib: int) -> str:
    return f"{count} GPU{'s' if count > 1 else ''}" + (f" with {_gib(memory_mib)}" if memory_mib else "")
