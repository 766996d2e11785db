"""Event patterns, operator by operator: what fits, what does not, what is no pattern."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.core.errors import Invalid
from pilvi.events.patterns import compile_pattern, matcher_of

EVENT: dict[str, Any] = {
    "source": "aws.ec2",
    "detail-type": "EC2 Instance State-change Notification",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-1", "arn:aws:ec2:us-east-1:123456789012:volume/v-1"],
    "detail": {
        "state": "pending",
        "count": 5,
        "limit": 301.8,
        "ip": "10.0.0.77",
        "ip6": "2001:db8::7",
        "flag": True,
        "nothing": None,
        "empty": "",
        "file": "dir/a*b.PNG",
        "list": [],
        "nested": {"deep": {"er": "x"}},
        "parts": [{"name": "a", "size": 1}, {"name": "b", "size": 2}],
    },
}


@pytest.mark.parametrize(
    "condition",
    [
        {"state": ["pending"]},
        {"state": ["stopped", "pending"]},
        {"count": [5]},
        {"count": [5.0]},
        {"flag": [True]},
        {"nothing": [None]},
        {"empty": [""]},
        {"nested": {"deep": {"er": ["x"]}}},
        {"state": [{"prefix": "pen"}]},
        {"state": [{"prefix": {"equals-ignore-case": "PEN"}}]},
        {"file": [{"suffix": ".PNG"}]},
        {"file": [{"suffix": {"equals-ignore-case": ".png"}}]},
        {"state": [{"equals-ignore-case": "PENDING"}]},
        {"file": [{"wildcard": "dir/*.PNG"}]},
        {"file": [{"wildcard": "*a\\*b*"}]},
        {"file": [{"wildcard": "*"}]},
        {"state": [{"wildcard": "pending"}]},
        {"state": [{"anything-but": "initializing"}]},
        {"state": [{"anything-but": ["stopped", "overloaded"]}]},
        {"count": [{"anything-but": 6}]},
        {"count": [{"anything-but": [6, 7]}]},
        {"count": [{"anything-but": "5"}]},
        {"state": [{"anything-but": {"prefix": "init"}}]},
        {"state": [{"anything-but": {"prefix": ["init", "x"]}}]},
        {"state": [{"anything-but": {"suffix": ["x"]}}]},
        {"state": [{"anything-but": {"equals-ignore-case": ["INIT", "STOP"]}}]},
        {"state": [{"anything-but": {"wildcard": "*/lib/*"}}]},
        {"limit": [{"numeric": ["=", 301.8]}]},
        {"count": [{"numeric": [">", 0, "<=", 5]}]},
        {"count": [{"numeric": ["<", 10]}]},
        {"count": [{"numeric": [">=", 5]}]},
        {"ip": [{"cidr": "10.0.0.0/24"}]},
        {"ip6": [{"cidr": "2001:db8::/32"}]},
        {"state": [{"exists": True}]},
        {"nothing": [{"exists": True}]},
        {"absent": [{"exists": False}]},
        {"absent": {"deep": [{"exists": False}]}},
        {"nested": [{"exists": False}]},
        {"list": [{"exists": False}]},
        {"absent": [{"exists": False}, "x"]},
        {"parts": {"name": ["b"], "size": [2]}},
        {"parts": {"size": [1]}},
        {"$or": [{"state": ["gone"]}, {"count": [5]}]},
        {"flag": [True], "$or": [{"count": [{"numeric": [">", 100]}]}, {"state": ["pending"]}]},
        {"nested": {"$or": [{"deep": {"er": ["y"]}}, {"deep": {"er": ["x"]}}]}},
    ],
)
def test_matches_fits(condition: dict[str, Any]) -> None:
    assert compile_pattern({"detail": condition}).matches(EVENT)
    assert compile_pattern(json.dumps({"detail": condition, "source": ["aws.ec2"]})).matches(EVENT)


@pytest.mark.parametrize(
    "condition",
    [
        {"state": ["Pending"]},
        {"count": ["5"]},
        {"flag": [1]},
        {"empty": [None]},
        {"absent": [None]},
        {"nothing": [""]},
        {"state": [{"prefix": "end"}]},
        {"count": [{"prefix": "5"}]},
        {"file": [{"suffix": ".png"}]},
        {"file": [{"wildcard": "dir/*.png"}]},
        {"file": [{"wildcard": "*ab*"}]},
        {"state": [{"anything-but": ["pending", "x"]}]},
        {"count": [{"anything-but": [5]}]},
        {"absent": [{"anything-but": "x"}]},
        {"state": [{"anything-but": {"prefix": "pend"}}]},
        {"state": [{"anything-but": {"equals-ignore-case": "PENDING"}}]},
        {"state": [{"anything-but": {"wildcard": "*end*"}}]},
        {"count": [{"numeric": [">", 5]}]},
        {"state": [{"numeric": ["=", 5]}]},
        {"flag": [{"numeric": ["=", 1]}]},
        {"ip": [{"cidr": "10.0.1.0/24"}]},
        {"state": [{"cidr": "10.0.1.0/24"}]},
        {"state": [{"exists": False}]},
        {"absent": [{"exists": True}]},
        {"nested": [{"exists": True}]},
        {"list": [{"exists": True}]},
        {"parts": {"name": ["a"], "size": [2]}},
        {"parts": {"name": [{"exists": False}]}},
        {"nested": ["x"]},
        {"state": {"deeper": ["pending"]}},
        {"$or": [{"state": ["gone"]}, {"count": [6]}]},
        {"flag": [False], "$or": [{"count": [5]}, {"state": ["pending"]}]},
    ],
)
def test_matches_refuses(condition: dict[str, Any]) -> None:
    assert not compile_pattern({"detail": condition}).matches(EVENT)


def test_matches_arrays_of_the_event() -> None:
    assert compile_pattern({"resources": [{"suffix": "v-1"}]}).matches(EVENT)
    assert compile_pattern({"resources": [{"anything-but": {"suffix": "v-1"}}]}).matches(EVENT)
    assert not compile_pattern({"resources": ["v-1"]}).matches(EVENT)
    assert compile_pattern({"detail": {"a": [3]}}).matches({"detail": {"a": [[1, 2], [3]]}})


def test_matches_names_with_dots() -> None:
    assert compile_pattern({"detail": {"state.status": ["on"]}}).matches({"detail": {"state": {"status": "on"}}})
    assert compile_pattern({"detail": {"state": {"status": ["on"]}}}).matches({"detail": {"state.status": "on"}})
    assert compile_pattern({"detail": {"state.status": ["on"]}}).matches({"detail": {"state.status": "on"}})
    assert not compile_pattern({"detail": {"state": {"status": ["on"]}}}).matches({"detail": {"state.status": "off"}})


def test_matches_or_as_a_field() -> None:
    assert compile_pattern({"$or": ["x", "y"]}).matches({"$or": "y"})
    assert compile_pattern({"$or": [{"prefix": "x"}, {"prefix": "y"}]}).matches({"$or": "yes"})


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "Filter is not an object"),
        ("[]", "Filter is not an object"),
        ('{"source": [', "Invalid JSON"),
        ("{}", "Empty objects are not allowed"),
        ('{"source": "aws.s3"}', '"source" must be an object or an array'),
        ('{"source": []}', "Empty arrays are not allowed"),
        ('{"detail": {}}', "Empty objects are not allowed"),
        ('{"source": [["a"]]}', "Match value must be String, number, true, false, or null"),
        ('{"source": [{"like": "a"}]}', "Unrecognized match type like"),
        ('{"source": [{"prefix": 1}]}', "prefix match pattern must be a string"),
        ('{"source": [{"prefix": "a", "suffix": "b"}]}', "Only one key allowed in match expression"),
        ('{"source": [{}]}', "Empty objects are not allowed"),
        ('{"a": [{"numeric": 1}]}', "Value of numeric must be an array."),
        ('{"a": [{"numeric": []}]}', "Invalid member in numeric match: ]"),
        ('{"a": [{"numeric": ["~", 1]}]}', "Unrecognized numeric range operator: ~"),
        ('{"a": [{"numeric": ["=", "1"]}]}', "Value of equals must be numeric"),
        ('{"a": [{"numeric": [">"]}]}', "Value of > must be numeric"),
        ('{"a": [{"numeric": [">", 5, "<", 5]}]}', "Bottom must be less than top"),
        ('{"a": [{"numeric": [">", 5, ">", 6]}]}', "Bad numeric range operator: >"),
        ('{"a": [{"numeric": [">", 5, "<", 6, "<", 7]}]}', "Too many terms in numeric range expression"),
        ('{"a": [{"numeric": ["=", 6e9]}]}', "Value must be between -5.0E9 and 5.0E9, inclusive"),
        ('{"a": [{"exists": "yes"}]}', "exists match pattern must be either true or false."),
        ('{"a": [{"cidr": "10.0.0.1"}]}', "Malformed CIDR, one '/' required"),
        ('{"a": [{"cidr": "10.0.0.1/99"}]}', "Malformed CIDR: 10.0.0.1/99"),
        ('{"a": [{"cidr": "10.0.0.1/x"}]}', "Malformed CIDR, mask bits must be an integer"),
        ('{"a": [{"cidr": "10.0.0/8"}]}', "Nonstandard IP address: 10.0.0"),
        ('{"a": [{"anything-but": null}]}', "Value of anything-but must be an array or single string/number value."),
        ('{"a": [{"anything-but": ["a", null]}]}', "Inside anything but list, start|null|boolean is not supported."),
        ('{"a": [{"anything-but": {"prefix": 1}}]}', "prefix/suffix match pattern must be a string"),
        ('{"a": [{"wildcard": "a**b"}]}', "Consecutive wildcard characters at pos 2"),
        ('{"a": [{"wildcard": "a\\\\b"}]}', "Invalid escape character at pos 2"),
        (
            '{"a": [{"anything-but": ["a", 1]}]}',
            "Inside anything but list, either all values are number or string, mixed type is not supported",
        ),
        ('{"a": [{"anything-but": []}]}', "Empty arrays are not allowed"),
        ('{"a": [{"anything-but": {"numeric": ["=", 1]}}]}', "Unsupported anything-but pattern: numeric"),
        ('{"a": [{"anything-but": {"prefix": ""}}]}', "Null prefix/suffix not allowed"),
    ],
)
def test_compile_pattern_says_what_is_wrong(pattern: str, reason: str) -> None:
    with pytest.raises(Invalid) as raised:
        compile_pattern(pattern)
    assert raised.value.message == f"Event pattern is not valid. Reason: {reason}"


def test_compile_pattern_bounds_combinations() -> None:
    choice = [{"a": [1]}, {"b": [1]}]
    deep: dict[str, Any] = {"$or": choice}
    for name in "cdefghijk":
        deep = {name: deep, "$or": choice}
    with pytest.raises(Invalid, match="over 1000 rule combinations"):
        compile_pattern(deep)


def test_sources_are_what_can_match() -> None:
    assert compile_pattern({"source": ["a", "b"], "detail-type": ["t"]}).sources == {"a", "b"}
    assert compile_pattern({"source": ["a", {"prefix": "b"}]}).sources is None
    assert compile_pattern({"detail": {"source": ["a"]}}).sources is None


def test_matcher_of_tests_one_value() -> None:
    assert matcher_of("a")("a")
    assert not matcher_of(1)(True)
    assert matcher_of({"prefix": "a"})("ab")
    with pytest.raises(Invalid, match=r"^Unrecognized match type x$"):
        matcher_of({"x": 1})


@given(st.text(alphabet="ab*", max_size=8), st.text(alphabet="abc", max_size=12))
def test_wildcard_agrees_with_fnmatch(pattern: str, value: str) -> None:
    import fnmatch

    if "**" in pattern:
        return
    assert matcher_of({"wildcard": pattern})(value) == fnmatch.fnmatchcase(value, pattern)


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
_WORDS = st.sampled_from(
    ["a", "b", "a.b", "$or", "prefix", "suffix", "anything-but", "numeric", "exists", "cidr", "wildcard", "equals-ignore-case"]
)
_JSON = st.recursive(_PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3), max_leaves=12)


@given(st.dictionaries(_WORDS, _JSON, max_size=3), st.dictionaries(_WORDS, _JSON, max_size=3))
def test_any_json_is_a_pattern_or_is_refused(pattern: dict[str, Any], event: dict[str, Any]) -> None:
    try:
        compiled = compile_pattern(pattern)
    except Invalid:
        return
    assert compiled.matches(event) in (True, False)


@given(_JSON)
def test_a_pattern_made_of_an_event_matches_it(value: Any) -> None:
    def pattern_of(thing: Any) -> Any:
        if isinstance(thing, dict):
            return {name: pattern_of(one) for name, one in thing.items()}
        return [thing]

    def has_only_plain(thing: Any) -> bool:
        if isinstance(thing, dict):
            return bool(thing) and all("." not in name and name != "$or" and has_only_plain(one) for name, one in thing.items())
        return not isinstance(thing, list)

    if isinstance(value, dict) and has_only_plain(value):
        assert compile_pattern(pattern_of(value)).matches(value)
