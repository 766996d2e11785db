"""Names in every form."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilvi.core.errors import ServiceError
from pilvi.services.lambda_.names import function_ref, layer_ref

CTX = SimpleNamespace(account="111122223333", region="eu-west-1")
NAMES = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_-]{0,20}", fullmatch=True).filter(lambda name: name not in ("function", "arn"))
QUALIFIERS = st.one_of(st.just(""), st.just("$LATEST"), st.from_regex(r"[a-zA-Z0-9_]{1,10}", fullmatch=True))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    NAMES,
    QUALIFIERS,
    st.sampled_from(["", "function:", "444455556666:function:", "arn:aws:lambda:eu-west-1:444455556666:function:"]),
)
def test_every_form_leads_to_the_same_function(name, qualifier, prefix):
    text = prefix + name + (f":{qualifier}" if qualifier else "")
    found = function_ref(CTX, {"FunctionName": text})
    assert found == ("444455556666" if "4444" in prefix else "111122223333", "eu-west-1", name, qualifier)
    assert function_ref(CTX, {"FunctionName": found.qualified_arn}) == found
    beside = function_ref(CTX, {"FunctionName": prefix + name, "Qualifier": qualifier or None})
    assert beside == found


@pytest.mark.parametrize("text", ["", "a b", "arn:aws:lambda:eu-west-1:444455556666:layer:x", "a:b:c:d", "x/y"])
def test_other_forms_are_refused(text):
    with pytest.raises(ServiceError):
        function_ref(CTX, {"FunctionName": text})


def test_layers_have_versions():
    assert layer_ref(CTX, "tools").version_arn == "arn:aws:lambda:eu-west-1:111122223333:layer:tools:0"
    arn = "arn:aws:lambda:eu-west-1:444455556666:layer:tools:12"
    assert layer_ref(CTX, arn).version_arn == arn
    assert layer_ref(CTX, arn).version == 12
