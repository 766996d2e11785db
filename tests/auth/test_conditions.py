"""Every operator, with values that are there, absent, one or many.

Source: IAM User Guide, "Condition operators" and "Single-valued vs. multivalued context keys".
"""

from __future__ import annotations

import pytest

from pilvi.auth.conditions import BadValue, UnknownOperator, compile_condition, known_operator


def holds(condition, facts, *, variables=True):
    tests = compile_condition(condition, variables=variables)
    return all(test({key.lower(): value for key, value in facts.items()}) for test in tests)


@pytest.mark.parametrize(
    ("operator", "wanted", "given", "expected"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", ["a", "b"], "b", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", [], "a", False),
        ("StringNotEquals", ["a", "b"], "c", True),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringEqualsIgnoreCase", "aB", "Ab", True),
        ("StringEqualsIgnoreCase", "aB", "x", False),
        ("StringNotEqualsIgnoreCase", "aB", "Ab", False),
        ("StringLike", "a*c?", "abbcd", True),
        ("StringLike", "", "", True),
        ("StringLike", ["x", "a*"], "b", False),
        ("StringNotLike", "a*", "b", True),
        ("stringequals", "a", "a", True),
        ("NumericEquals", "10", "10.0", True),
        ("NumericEquals", 10, "10", True),
        ("NumericNotEquals", "10", "11", True),
        ("NumericLessThan", "10", "9", True),
        ("NumericLessThan", "10", "10", False),
        ("NumericLessThanEquals", "10", "10", True),
        ("NumericGreaterThan", "10", "10", False),
        ("NumericGreaterThanEquals", "10", "10", True),
        ("NumericEquals", "10", "ten", False),
        ("NumericNotEquals", "10", "ten", True),
        ("NumericEquals", "1", "nan", False),
        ("DateEquals", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00", True),
        ("DateNotEquals", "2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z", True),
        ("DateLessThan", "2026-01-02T00:00:00Z", "2026-01-01T23:59:59Z", True),
        ("DateLessThanEquals", "2026-01-02", "2026-01-02T00:00:00Z", True),
        ("DateGreaterThan", "1767312000", "2026-01-02T00:00:01Z", True),
        ("DateGreaterThanEquals", "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", False),
        ("DateEquals", "2026-01-02", "soon", False),
        ("Bool", "true", "true", True),
        ("Bool", True, "true", True),
        ("Bool", "False", "false", True),
        ("Bool", "true", "false", False),
        ("BinaryEquals", "aGVsbG8=", "aGVsbG8=", True),
        ("BinaryEquals", "aGVsbG8=", "eGVsbG8=", False),
        ("BinaryEquals", "aGVsbG8=", "!", False),
        ("IpAddress", "10.0.0.0/8", "10.1.2.3", True),
        ("IpAddress", ["1.2.3.4", "2001:db8::/32"], "2001:db8::1", True),
        ("IpAddress", "10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("IpAddress", "10.0.0.1/8", "11.1.2.3", False),
        ("IpAddress", "10.0.0.0/8", "somewhere", False),
        ("NotIpAddress", "10.0.0.0/8", "11.1.2.3", True),
        ("ArnLike", "arn:aws:s3:::b*", "arn:aws:s3:::bkt/k:1", True),
        ("ArnLike", "arn:aws:lambda:*:1:function:*", "arn:aws:lambda:us-east-1:1:function:f", True),
        ("ArnLike", "arn:aws:*:function:f", "arn:aws:lambda:us-east-1:1:function:f", False),
        ("ArnLike", "*", "arn:aws:s3:::b", True),
        ("ArnLike", "arn:aws:s3:::b", "not an arn", False),
        ("ArnEquals", "arn:aws:s3:::b*", "arn:aws:s3:::bkt", True),
        ("ArnEquals", "arn:aws:s3:::b?t", "arn:aws:s3:::bkt", True),
        ("ArnNotEquals", "arn:aws:s3:::a*", "arn:aws:s3:::bkt", True),
        ("ArnNotLike", "arn:aws:s3:::b*", "arn:aws:s3:::bkt", False),
    ],
)
def test_operators(operator, wanted, given, expected):
    assert holds({operator: {"my:Key": wanted}}, {"my:key": given}) is expected


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("StringEquals", False),
        ("StringNotEquals", True),
        ("StringLike", False),
        ("StringNotLike", True),
        ("NotIpAddress", True),
        ("ArnNotLike", True),
        ("Bool", False),
        ("BoolIfExists", True),
        ("StringEqualsIfExists", True),
        ("ForAllValues:StringEquals", True),
        ("ForAnyValue:StringEquals", False),
        ("ForAnyValue:StringNotEquals", False),
        ("ForAnyValue:StringEqualsIfExists", True),
    ],
)
@pytest.mark.parametrize("facts", [{}, {"k": []}])
def test_absent_keys(operator, expected, facts):
    value = "arn:aws:s3:::b" if "Arn" in operator else "10.0.0.0/8" if "Ip" in operator else "true"
    assert holds({operator: {"k": value}}, facts) is expected


@pytest.mark.parametrize(
    ("operator", "wanted", "given", "expected"),
    [
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "b"], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "c"], False),
        ("ForAllValues:StringEquals", ["a", "b"], "a", True),
        ("ForAllValues:StringNotEquals", ["a"], ["b", "c"], True),
        ("ForAllValues:StringNotEquals", ["a"], ["a", "c"], False),
        ("ForAnyValue:StringEquals", ["a", "b"], ["c", "a"], True),
        ("ForAnyValue:StringEquals", ["a", "b"], ["c", "d"], False),
        ("ForAnyValue:StringNotEquals", ["a"], ["a", "b"], True),
        ("ForAnyValue:StringNotEquals", ["a"], ["a"], False),
        ("ForAnyValue:StringLike", ["a*"], ["abc"], True),
        ("forallvalues:stringlike", ["a*"], ["abc"], True),
        ("StringEquals", ["a"], ["a", "b"], True),
        ("StringNotEquals", ["a"], ["a", "b"], False),
    ],
)
def test_many_values(operator, wanted, given, expected):
    assert holds({operator: {"k": wanted}}, {"k": given}) is expected


@pytest.mark.parametrize(
    ("wanted", "facts", "expected"),
    [
        ("true", {}, True),
        ("true", {"k": "v"}, False),
        ("false", {"k": "v"}, True),
        (False, {}, False),
        (["true", "false"], {}, True),
    ],
)
def test_null(wanted, facts, expected):
    assert holds({"Null": {"k": wanted}}, facts) is expected


@pytest.mark.parametrize(
    ("operator", "wanted", "given", "expected"),
    [
        ("StringEquals", "${aws:username}", "anna", True),
        ("StringEquals", ["x", "${aws:username}"], "x", True),
        ("StringEquals", "${aws:username}", "bob", False),
        ("StringEquals", "${no:key}", "bob", False),
        ("StringEquals", "${no:key, 'bob'}", "bob", True),
        ("StringNotEquals", "${no:key}", "bob", True),
        ("StringEqualsIgnoreCase", "${aws:username}", "ANNA", True),
        ("StringLike", ["home/${aws:username}/*"], "home/anna/x", True),
        ("StringLike", ["home/${aws:username}/*"], "home/bob/x", False),
        ("ArnLike", "arn:aws:iam::1:user/${aws:username}", "arn:aws:iam::1:user/anna", True),
        ("ArnLike", "arn:aws:${svc}:::${aws:username}", "arn:aws:s3:::anna", True),
        ("ArnLike", "arn:aws:iam::1:user/${no:key}", "arn:aws:iam::1:user/", False),
    ],
)
def test_variables(operator, wanted, given, expected):
    assert holds({operator: {"k": wanted}}, {"k": given, "aws:username": "anna", "svc": "s3"}) is expected


def test_variables_mean_nothing_in_the_old_version():
    assert holds({"StringEquals": {"k": "${aws:username}"}}, {"k": "${aws:username}"}, variables=False)


def test_all_keys_and_operators_must_hold():
    condition = {"StringEquals": {"a": "1", "b": "2"}, "Bool": {"c": "true"}, "StringLike": {}}
    assert holds(condition, {"a": "1", "b": "2", "c": "true"})
    assert not holds(condition, {"a": "1", "b": "x", "c": "true"})
    assert not holds(condition, {"a": "1", "b": "2", "c": "false"})
    assert holds({}, {})


@pytest.mark.parametrize(
    "operator", ["StringAlmost", "ForAnyValue::StringEquals", "ForSomeValues:StringEquals", "NullIfExists", "ForAnyValue:Null", ""]
)
def test_unknown_operators(operator):
    assert not known_operator(operator)
    with pytest.raises(UnknownOperator):
        compile_condition({operator: {"k": "v"}}, variables=True)


@pytest.mark.parametrize(
    ("operator", "value"),
    [("NumericEquals", "x"), ("DateEquals", "x"), ("IpAddress", "10.0.0.0/99"), ("DateLessThan", "2026-13-01")],
)
def test_values_an_operator_cannot_read(operator, value):
    with pytest.raises(BadValue):
        compile_condition({operator: {"k": value}}, variables=True)
