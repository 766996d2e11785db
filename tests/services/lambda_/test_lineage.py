from __future__ import annotations

import re

from pilvi.services.lambda_.lineage import MOST_FUNCTIONS, MOST_RUNS, fields_of, following, is_loop, longest, runs_of

ARN = "arn:aws:lambda:us-east-1:123456789012:function:a"
OTHER = ARN[:-1] + "b"
DIGITS = "0123456789" * 4


def again(before: str, arn: str = ARN) -> str:
    return following(before, arn, 1.0, DIGITS).header


def test_a_chain_begins_with_a_root_of_its_own():
    header, runs = following("", ARN, 1_700_000_000.0, DIGITS)
    assert re.fullmatch(r"Root=1-6553f100-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=[0-9a-f]{8}:1", header)
    assert runs == 1


def test_a_chain_keeps_its_root_and_counts_each_function():
    first = again("")
    third = again(again(first, OTHER))
    assert fields_of(third)["Root"] == fields_of(first)["Root"]
    assert sorted(runs_of(fields_of(third)["Lineage"]).values()) == [1, 2]


def test_a_function_in_a_chain_too_often_is_a_loop():
    header = ""
    for _ in range(MOST_RUNS):
        assert not is_loop(header, ARN)
        header = again(header)
    assert is_loop(header, ARN)
    assert not is_loop(header, OTHER)


def test_headers_of_others_are_taken_for_what_they_are():
    for foreign in ("Root=nonsense", ";;;", "Lineage=zz:1|12345678:999999|:", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"):
        header = again(foreign)
        assert runs_of(fields_of(header)["Lineage"]) == {fields_of(header)["Lineage"].split(":")[0]: 1}
        assert not is_loop(foreign, ARN)
    assert "Sampled=1" in again("Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1")


def test_a_header_stays_short():
    header = ""
    for number in range(100):
        header = again(header, f"{ARN}{number}")
    assert len(runs_of(fields_of(header)["Lineage"])) == MOST_FUNCTIONS


def test_of_several_the_one_that_came_round_most_counts():
    once, twice = again(""), again(again(""))
    assert longest(["", once, twice, again("", OTHER)], ARN) == twice
    assert longest(["", ""], ARN) == ""
