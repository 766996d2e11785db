"""Loopback addresses of hosts."""

from __future__ import annotations

import pytest

from pilvi.core.errors import Unavailable
from pilvi.jobs import addresses
from pilvi.jobs.addresses import Addresses


def test_nobody_gets_what_somebody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_LAST", 260)
    made = Addresses()
    first = made.take(2)
    assert first == ("127.0.0.2", "127.0.0.3")
    others = made.take(257)
    assert others[-2:] == ("127.0.1.3", "127.0.1.4")
    with pytest.raises(Unavailable):
        made.take(1)
    made.give_back(first[1:])
    assert made.take(1) == ("127.0.0.3",)
