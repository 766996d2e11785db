"""What every Blobs adapter promises, sealed or not. Each function takes an empty store and proves one promise."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pilvi.core.errors import NotFound
from pilvi.storage.blobs import Blobs
from pilvi.testing.contracts.records import refuses

SIZES = [0, 1, 1000, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 5 * (128 << 10), 1_000_003]


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes in which every place differs from its neighbours."""
    return b"".join((number * 2654435761 + seed & 0xFFFFFFFF).to_bytes(4, "big") for number in range(-(-size // 4)))[:size]


def store_bytes(blobs: Blobs, data: bytes, piece: int = 1 << 20) -> str:
    writer = blobs.create()
    for at in range(0, len(data), piece):
        writer.write(data[at : at + piece])
    assert writer.finish() == len(data)
    return writer.name


def what_was_written_is_read(blobs: Blobs) -> None:
    for size in SIZES:
        data = pattern(size, size)
        name = store_bytes(blobs, data)
        assert blobs.read(name) == data
        assert blobs.size(name) == size
        assert b"".join(blobs.stream(name)) == data


def pieces_of_any_length_may_be_written(blobs: Blobs) -> None:
    data = pattern(700_001)
    for piece in (13_001, 65_536, 128 << 10, 300_000, 1 << 20):
        assert blobs.read(store_bytes(blobs, data, piece)) == data
    writer = blobs.create()
    buffer = bytearray(b"first")
    writer.write(memoryview(buffer))
    buffer[:] = b"other"
    writer.write(memoryview(buffer))
    writer.write(b"")
    writer.finish()
    assert blobs.read(writer.name) == b"firstother"


def ranges_are_exact(blobs: Blobs) -> None:
    data = pattern(1_000_003)
    name = store_bytes(blobs, data)
    edges = [0, 1, 1000, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 400_000, 1_000_002, 1_000_003, 2_000_000]
    for start in edges:
        assert blobs.read(name, start) == data[start:]
        for end in edges:
            wanted = data[start:end]
            assert blobs.read(name, start, end) == wanted
            assert b"".join(blobs.stream(name, start, end, piece_bytes=200_000)) == wanted


def a_stream_comes_in_bounded_pieces(blobs: Blobs) -> None:
    data = pattern(3_000_000)
    name = store_bytes(blobs, data)
    for size in (1, 128 << 10, 1 << 20, 4 << 20):
        pieces = list(blobs.stream(name, 0 if size > 1 else 2_990_000, None, size))
        assert b"".join(pieces) == (data if size > 1 else data[2_990_000:])
        assert max(map(len, pieces)) <= max(size, 128 << 10)
        assert all(pieces)


def a_stream_outlives_the_delete(blobs: Blobs) -> None:
    data = pattern(2_000_000)
    name = store_bytes(blobs, data)
    stream = blobs.stream(name, piece_bytes=1 << 20)
    start = next(stream)
    blobs.delete(name)
    assert start + b"".join(stream) == data
    left = blobs.stream(store_bytes(blobs, data))
    close = getattr(left, "close", None)
    if close is not None:
        close()


def an_unknown_name_is_not_found(blobs: Blobs) -> None:
    name = store_bytes(blobs, b"x")
    blobs.delete(name)
    for unknown in (name, "never", "../../etc/passwd", "", "a/b", "0" * 28):
        refuses(NotFound, lambda unknown=unknown: blobs.size(unknown))  # type: ignore[misc]
        refuses(NotFound, lambda unknown=unknown: blobs.stream(unknown))  # type: ignore[misc]
        refuses(NotFound, lambda unknown=unknown: blobs.read(unknown))  # type: ignore[misc]
    blobs.delete(name)
    blobs.delete("0" * 28)


def names_are_unique_and_listed(blobs: Blobs) -> None:
    assert list(blobs.names()) == []
    names = [store_bytes(blobs, b"%d" % number) for number in range(300)]
    assert len(set(names)) == 300
    writer = blobs.create()
    writer.write(b"half")
    listed = list(blobs.names())
    assert len(listed) == 301
    assert set(names) <= set(listed)
    writer.abort()
    writer.abort()
    assert sorted(blobs.names()) == sorted(names)


def abort_after_finish_is_harmless(blobs: Blobs) -> None:
    writer = blobs.create()
    writer.write(b"data")
    writer.finish()
    writer.abort()
    assert blobs.read(writer.name) == b"data"


def a_sweep_keeps_what_is_named(blobs: Blobs) -> None:
    names = [store_bytes(blobs, b"x" * number) for number in range(20)]
    blobs.create().write(b"left by a crash")
    assert blobs.sweep(iter([*names[:15], "0" * 28])) == 6
    assert sorted(blobs.names()) == sorted(names[:15])
    assert blobs.read(names[3]) == b"xxx"
    assert blobs.sweep([]) == 15
    assert list(blobs.names()) == []


def clear_leaves_nothing(blobs: Blobs) -> None:
    name = store_bytes(blobs, b"data")
    blobs.read(name)
    blobs.clear()
    assert list(blobs.names()) == []
    refuses(NotFound, lambda: blobs.read(name))
    assert blobs.read(store_bytes(blobs, b"again")) == b"again"


def many_threads_may_write_and_read(blobs: Blobs) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for number in range(10):
                data = pattern(30_000 * number + seed, seed)
                name = store_bytes(blobs, data)
                assert blobs.read(name) == data
                blobs.delete(name)
        except BaseException as error:  # noqa: BLE001 - shown by the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(blobs.names()) == []


CONTRACT: list[Callable[[Blobs], None]] = [
    what_was_written_is_read,
    pieces_of_any_length_may_be_written,
    ranges_are_exact,
    a_stream_comes_in_bounded_pieces,
    a_stream_outlives_the_delete,
    an_unknown_name_is_not_found,
    names_are_unique_and_listed,
    abort_after_finish_is_harmless,
    a_sweep_keeps_what_is_named,
    clear_leaves_nothing,
    many_threads_may_write_and_read,
]
