"""Which stores a server stands on, and which blobs are in use."""

from __future__ import annotations

import pytest

from pilvi.app.stores import is_in_use
from pilvi.storage.records import PutBody
from pilvi.storage.records.memory import MemoryRecords


@pytest.mark.parametrize("mark", ["", "s", "p"])
def test_a_blob_that_a_row_names_is_in_use_sealed_or_plain(mark: str) -> None:
    records = MemoryRecords()
    assert not is_in_use(records, "00ff")
    records.write(PutBody(f"00ff{mark}", None))
    assert is_in_use(records, "00ff")
