"""The filter language, by AWS's own examples and by comparison with Python's regular expressions."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.core.errors import Invalid
from pilvi.services.logs.filter_pattern import compile_pattern
from pilvi.services.logs.pattern_regex import compile_regex

LINE = '127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'
JSON = (
    '{"eventType":"UpdateTrail","sourceIPAddress":"111.111.111.111","arrayKey":["value","another value"],'
    '"objectList":[{"name":"a","id":1},{"name":"b","id":2}],"SomeObject":null,"flag":true,"off":false,"n":12.5,"s":"12","key.dot":{"x":1}}'
)


@pytest.mark.parametrize(
    ("pattern", "message", "expected"),
    [
        ("", "anything", True),
        ("ERROR", "[ERROR 400] BAD REQUEST", True),
        ("ERROR", "[error 400] BAD REQUEST", False),
        ("ERROR ARGUMENTS", "ERROR of ARGUMENTS", True),
        ("ERROR ARGUMENTS", "ERROR of others", False),
        ('"INTERNAL SERVER ERROR"', "[ERROR 500] INTERNAL SERVER ERROR", True),
        ('"SERVER INTERNAL"', "[ERROR 500] INTERNAL SERVER ERROR", False),
        ("?ERROR ?WARN", "WARN it", True),
        ("?ERROR ?WARN", "INFO it", False),
        ("ERROR -EXITING", "ERROR here", True),
        ("ERROR -EXITING", "ERROR EXITING", False),
        ('-"a b"', "xa by", False),
        ("%AUTHORIZED%", "[ERROR 401] UNAUTHORIZED REQUEST", True),
        ("%4[0-9]{2}%", "status 404", True),
        ("%4[0-9]{2}%", "status 504", False),
        ('"say \\"hi\\""', 'they say "hi"', True),
    ],
)
def test_terms(pattern, message, expected):
    assert compile_pattern(pattern)(message) is expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ('{ $.eventType = "UpdateTrail" }', True),
        ("{ $.eventType = UpdateTrail }", True),
        ('{ $.eventType != "UpdateTrail" }', False),
        ('{ $.eventType = "Update*" }', True),
        ('{ $.eventType = "*Trail*" }', True),
        ('{ $.eventType = "*x*" }', False),
        ("{ $.sourceIPAddress != 123.123.* }", True),
        ('{ $.arrayKey[0] = "value" }', True),
        ('{ $.arrayKey[1] = "value" }', False),
        ('{ $.arrayKey[*] = "another value" }', True),
        ("{ $.objectList[1].id = 2 }", True),
        ("{ $.objectList[5].id = 2 }", False),
        ("{ $.SomeObject IS NULL }", True),
        ("{ $.SomeOtherObject NOT EXISTS }", True),
        ("{ $.eventType NOT EXISTS }", False),
        ("{ $.flag IS TRUE }", True),
        ("{ $.off IS FALSE }", True),
        ("{ $.off IS TRUE }", False),
        ("{ $.n > 12 && $.n <= 12.5 }", True),
        ("{ $.n > 1e2 }", False),
        ("{ ($.n > 100) || ($.flag IS TRUE) }", True),
        ("{ ($.n > 100 || $.flag IS TRUE) && $.off IS TRUE }", False),
        ("{ $.n > 100 && $.off IS TRUE || $.flag IS TRUE }", True),
        ("{ $.eventType = %Upd[a-z]+T% }", True),
        ("{ $.['key.dot'].x = 1 }".replace("$.", "$"), True),
        ("{ $.s = 12 }", True),
    ],
)
def test_json(pattern, expected):
    assert compile_pattern(pattern)(JSON) is expected
    assert compile_pattern(pattern)("no json") is False


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[ip, user, username, timestamp, request, status_code, bytes]", True),
        ("[ip, user, username, timestamp, request, status_code]", False),
        ("[ip, user, username, timestamp, request =*.html*, status_code = 4*, bytes]", True),
        ("[ip, user, username, timestamp, request =*.html*, status_code = 5*, bytes]", False),
        ("[..., request =*.html*, status_code = 4*, bytes]", True),
        ("[ip, ..., bytes > 1000]", True),
        ("[ip, ..., bytes > 2000]", False),
        ("[ip, ..., status_code = 404 || status_code = 410, bytes]", True),
        ("[ip != 127.0.0.1, ...]", False),
        ("[ip = %127%, ...]", True),
        ("[ip, user, username = frank && username != bob, ...]", True),
    ],
)
def test_fields(pattern, expected):
    assert compile_pattern(pattern)(LINE) is expected


@pytest.mark.parametrize(
    "pattern",
    ["{ $.a }", "{ $.a = }", "{ a = 1 }", "{ $.a = 1", "[a, b", '"open', "%a(b)%", "[a, ..., b, ...]", "{ $.a < x }", "[a = 1 b]"],
)
def test_what_does_not_parse_is_invalid(pattern):
    with pytest.raises(Invalid, match="Invalid filter pattern"):
        compile_pattern(pattern)


ATOMS = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", r"\d", r"\w", "^", "$", "1"])
PIECES = st.tuples(ATOMS, st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,2}", "{1,}"])).map(
    lambda pair: pair[0] if pair[0] in "^$" else "".join(pair)
)


@given(
    st.lists(st.lists(PIECES, min_size=1, max_size=4).map("".join), min_size=1, max_size=2).map("|".join),
    st.text("abc1 \n", max_size=8),
)
def test_regex_agrees_with_python(expression, text):
    python = re.search(expression.replace("$", r"\Z"), text, re.DOTALL)
    assert compile_regex(expression)(text) is (python is not None)


def test_regex_takes_time_in_proportion():
    assert not compile_regex(".*.*.*.*.*z")("a" * 200_000)
