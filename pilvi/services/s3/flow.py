"""Large bodies on the move: async generators, which stay Python where the rest of the path is compiled (decisions/0006)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice

from pilvi.core.streams import ByteStream, Piece
from pilvi.services.s3.digest import Buffer

BLOCK_BYTES = 1 << 20
"""Large bodies are hashed and written in blocks of about this size; two or three of them are in memory at a time."""

PIECES_AHEAD = 4

Block = list[Buffer]


async def blocks_of(body: ByteStream) -> AsyncIterator[Block]:
    """The body's pieces in blocks of at least BLOCK_BYTES, but for the last."""
    if body.data is not None:
        view = memoryview(body.data)
        for start in range(0, len(view), BLOCK_BYTES):
            yield [view[start : start + BLOCK_BYTES]]
        return
    block: Block = []
    size = 0
    async for piece in body:
        block.append(piece)
        size += len(piece)
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


async def ahead(reader: Iterator[Piece]) -> AsyncIterator[Piece]:
    """What a reader gives, read in a worker thread some pieces ahead of whoever sends them."""
    loop = asyncio.get_running_loop()
    coming = loop.run_in_executor(None, some_of, reader)
    try:
        while True:
            pieces = await coming
            if len(pieces) == PIECES_AHEAD:
                coming = loop.run_in_executor(None, some_of, reader)
            for piece in pieces:
                yield piece
            if len(pieces) < PIECES_AHEAD:
                return
    finally:
        if not coming.done():
            await asyncio.wait([coming])
        if not coming.cancelled():
            coming.exception()


def some_of(reader: Iterator[Piece]) -> list[Piece]:
    return list(islice(reader, PIECES_AHEAD))
