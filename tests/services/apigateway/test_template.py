"""Mapping templates."""

from __future__ import annotations

import json

import pytest

from pilvi.services.apigateway.template import TemplateError, render, render_response

# The template that API Gateway's console offers under "method request passthrough".
PASSTHROUGH = """#set($allParams = $input.params())
{
"body-json" : $input.json('$'),
"params" : {
#foreach($type in $allParams.keySet())
    #set($params = $allParams.get($type))
"$type" : {
    #foreach($paramName in $params.keySet())
    "$paramName" : "$util.escapeJavaScript($params.get($paramName))"
        #if($foreach.hasNext),#end
    #end
}
    #if($foreach.hasNext),#end
#end
},
"stage-variables" : {
#foreach($key in $stageVariables.keySet())
"$key" : "$util.escapeJavaScript($stageVariables.get($key))"
    #if($foreach.hasNext),#end
#end
},
"context" : {
    "account-id" : "$context.identity.accountId",
    "api-id" : "$context.apiId",
    "http-method" : "$context.httpMethod",
    "stage" : "$context.stage",
    "source-ip" : "$context.identity.sourceIp",
    "user" : "$context.identity.user",
    "resource-path" : "$context.resourcePath"
    }
}
"""


BODY = (
    '{"features": {"age": 22, "sex": "male"}, "list": [1, "two", {"three": 3}], "text": "it\'s \\"q\\"", "none": null, "yes": true}'
)


@pytest.fixture
def rendered(call):
    return lambda template, body=BODY: render(template, call(), body)


def test_passthrough_template_of_the_console(rendered):
    event = json.loads(rendered(PASSTHROUGH))
    assert event["body-json"] == json.loads(BODY)
    assert event["params"] == {"path": {"id": "7"}, "querystring": {"a": "2", "b": "x y"}, "header": {"Host": "h", "X-Thing": "t"}}
    assert event["stage-variables"] == {"color": 'bl"ue'}
    assert event["context"] == {
        "account-id": "",
        "api-id": "abcdefghij",
        "http-method": "POST",
        "stage": "prod",
        "source-ip": "10.0.0.1",
        "user": "",
        "resource-path": "/pets/{id}",
    }


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain, no $ or # at all: 5$ #1 ##gone", "plain, no $ or # at all: 5$ #1 "),
        ("$input.json('$.features')", '{"age":22,"sex":"male"}'),
        ("$input.json('$.text')", '"it\'s \\"q\\""'),
        ("$input.json('$.missing')", '""'),
        ("$input.path('$.features.age')", "22"),
        ("$input.path('$.features')", "{age=22, sex=male}"),
        ("$input.path('$.list')", '[1,"two",{"three":3}]'),
        ("$input.path('$.list[1]')", "two"),
        ("$input.path('$.list')[2].three", "3"),
        ("$input.path('$.yes')", "true"),
        ("[$input.path('$.missing')]", "[]"),
        ("#set($root = $input.path('$'))$root.features.sex-x", "$root.features.sex-x"),
        ("#set($root = $input.path('$'))${root.features.sex}-x", "male-x"),
        ("$undefined $!undefined ${undefined}", "$undefined  ${undefined}"),
        ("$input.params('id') $input.params('b') $input.params('x-thing')", "7 x y t"),
        ("$input.params().header.get('Host') $input.params().querystring.a", "h 2"),
        ("$context.identity.sourceIp $context.requestId $stageVariables.color", '10.0.0.1 rid bl"ue'),
        ("$util.base64Encode('abc') $util.base64Decode('YWJj')", "YWJj abc"),
        ("$util.urlEncode('a b&c') $util.urlDecode('a+b%26c')", "a+b%26c a b&c"),
        ('$util.escapeJavaScript($input.path("$.text"))', 'it\\\'s \\"q\\"'),
        ('$util.escapeJavaScript("it\'s").replaceAll("\\\\\'","\'")', "it's"),
        ('$util.parseJson(\'{"a": {"b": 5}}\').a.b', "5"),
        ("#set($n = 2 + 3 * 4)$n", "14"),
        ("#set($n = (2 + 3) * 4 - 7 / 2)$n", "17"),
        ("#set($s = 'a' + 1)$s", "a1"),
        ('#set($x = "v")#set($s = "$x+${x}-\'q\'")$s', "v+v-'q'"),
        ("#set($m = {'a': 1, 'b': [1..3]})#set($m.c = 'new')$m.b.size() $m.c $m.get('a')", "3 new 1"),
        ("#foreach($i in [3..1])$i#if($foreach.hasNext),#end#end", "3,2,1"),
        ("#foreach($e in $input.path('$.features').entrySet())$e.key=$e.value;#end", "age=22;sex=male;"),
        ("#foreach($i in [1,2,3,4])#if($i == 3)#break#end$i#end", "12"),
        ("#if($input.path('$.yes') && !$input.path('$.none'))A#{else}B#end", "A"),
        ("#if($input.path('$.features.age') >= 23)A#elseif($input.path('$.features.age') == 22)B#{else}C#end", "B"),
        ("#if($input.path('$.missing') == $null || false)A#end", "A"),
        ("#if('a' == 'b' or 1 lt 2)A#end", "A"),
        ("#[[ $raw #if ]]##* gone *#.", " $raw #if ."),
        ("#set($a = 1)\n#if($a == 1)\nx\n#end\ny", "x\ny"),
    ],
)
def test_render(rendered, template, expected):
    assert rendered(template) == expected


def test_an_empty_body_is_an_empty_object(rendered):
    assert rendered("$input.json('$')", "") == "{}"
    assert rendered("[$input.body]", "raw, no json") == "[raw, no json]"


def test_response_override(call):
    text, override = render_response(
        "#set($context.responseOverride.status = 201)#set($context.responseOverride.header.X-A = 'b')ok", call(), "{}"
    )
    assert (text, override) == ("ok", {"header": {"X-A": "b"}, "status": 201})


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("#macro(x)#end", "#macro"),
        ("#parse('x')", "#parse"),
        ("$input.path('$..deep')", "JSON path"),
        ("$util.nothing()", ".nothing()"),
        ("#set($s = 'a')$s.getClass()", ".getClass()"),
        ("#set($s = 'a')$s.replaceAll('[a-z]+', 'b')", "regular expression"),
        ("#if($a", "')' expected"),
        ("#foreach($x in [1..3])", "#foreach without #end"),
        ("#end", "#end without"),
        ("#set($input = 1)", "#set of $input"),
        ("#set($context.stage = 'x')", "#set of $context.stage"),
        ("#foreach($x in [1..9000])#end", "range"),
        ("#foreach($x in [1..900])#foreach($y in [1..900])$y#end#end", "too many steps"),
        ("#set($x = 1 / 0)", "division by zero"),
    ],
)
def test_what_is_not_supported_is_named(rendered, template, named):
    with pytest.raises(TemplateError) as raised:
        rendered(template)
    assert named in str(raised.value)
