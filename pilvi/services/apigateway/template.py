"""Mapping templates, second half: a template's tree carried out over a call, with `$input`, `$context`, `$stageVariables`, `$util`.

Bounded in steps and output, so that a template cannot hold the server. Source: API Gateway Developer Guide, "Variables for data
transformations for API Gateway".
"""

from __future__ import annotations

import base64
import binascii
import json
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from pilvi.services.apigateway.call import Call
from pilvi.services.apigateway.mapping import json_path
from pilvi.services.apigateway.template_parser import (
    Binary,
    Break,
    Foreach,
    If,
    Index,
    Items,
    Literal,
    Member,
    Method,
    Not,
    Pairs,
    Reference,
    Set,
    Span,
    TemplateError,
    Text,
    parsed,
)

__all__ = ["Override", "TemplateError", "render", "render_response"]

MOST_STEPS = 200_000
MOST_ROUNDS = 1000
"""Source: API Gateway quotas, "#foreach" iterations in a mapping template."""
MOST_OUTPUT = 10 * 1024 * 1024
LITERAL = re.compile(r"(?:[^\\.\[\]{}()*+?^$|]|\\[^a-zA-Z0-9])+")
Override = Mapping[str, Any]


class Missing:
    """What a reference to nothing gives."""

    def __bool__(self) -> bool:
        return False


MISSING = Missing()
compiled = lru_cache(maxsize=512)(parsed)


def render(template: str, call: Call, body: str) -> str:
    """A request template's text."""
    return _Run(call, body).text_of(template)


def render_response(template: str, call: Call, body: str) -> tuple[str, Override]:
    """A response template's text, and what it set below `$context.responseOverride`."""
    run = _Run(call, body)
    return run.text_of(template), run.variables["context"]["responseOverride"]


class Input:
    """`$input`"""

    def __init__(self, call: Call, body: str) -> None:
        self.body = body
        self._call = call

    def value(self) -> Any:
        if not self.body.strip():
            return {}
        try:
            return json.loads(self.body)
        except ValueError:
            return self.body

    def path(self, path: str = "$") -> Any:
        return found(self.value(), path)

    def json(self, path: str = "$") -> str:
        value = found(self.value(), path)
        return '""' if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def params(self, name: str | None = None) -> Any:
        """All of them by place; or one, looked for in path, query string, headers in this order."""
        call = self._call
        if name is None:
            return {
                "path": dict(call.parameters),
                "querystring": {key: values[-1] for key, values in call.arguments.items()},
                "header": {key: values[-1] for key, values in call.headers.items()},
            }
        if name in call.parameters:
            return call.parameters[name]
        if name in call.arguments:
            return call.arguments[name][-1]
        return call.header(name) or ""


class Util:
    """`$util`"""

    def escapeJavaScript(self, text: Any) -> str:  # noqa: N802 - the template language's own name
        escaped = json.dumps(shown(text), ensure_ascii=True)[1:-1]
        return escaped.replace("'", "\\'").replace("/", "\\/")

    def parseJson(self, text: str) -> Any:  # noqa: N802
        try:
            return json.loads(text)
        except ValueError as problem:
            raise TemplateError(f"$util.parseJson: {problem}") from None

    def urlEncode(self, text: Any) -> str:  # noqa: N802
        return quote_plus(shown(text), safe="*")

    def urlDecode(self, text: Any) -> str:  # noqa: N802
        return unquote_plus(shown(text))

    def base64Encode(self, text: Any) -> str:  # noqa: N802
        return base64.b64encode(shown(text).encode()).decode()

    def base64Decode(self, text: Any) -> str:  # noqa: N802
        try:
            return base64.b64decode(shown(text)).decode("utf-8", "replace")
        except (binascii.Error, ValueError) as problem:
            raise TemplateError(f"$util.base64Decode: {problem}") from None


def found(value: Any, path: str) -> Any:
    try:
        return json_path(value, path)
    except ValueError as problem:
        raise TemplateError(f"{problem} is not supported") from None


class _Run:
    """One rendering."""

    def __init__(self, call: Call, body: str) -> None:
        self.variables: dict[str, Any] = {
            "input": Input(call, body),
            "util": Util(),
            "context": {**call.context, "responseOverride": {"header": {}}},
            "stageVariables": dict(call.variables),
        }
        self.steps = self.size = 0
        self.output: list[str] = []

    def text_of(self, template: str) -> str:
        self.carry_out(compiled(template))
        return "".join(self.output)

    def step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise TemplateError("too many steps")

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > MOST_OUTPUT:
            raise TemplateError("too much output")
        self.output.append(text)

    # -- nodes ------------------------------------------------------------------------------------------------------

    def carry_out(self, nodes: list[Any]) -> bool:
        """Whether a #break was met."""
        for node in nodes:
            self.step()
            if isinstance(node, str):
                self.write(node)
            elif isinstance(node, Reference):
                self.write(self.rendered(node))
            elif isinstance(node, Set):
                self.assign(node)
            elif isinstance(node, If):
                if self.choose(node):
                    return True
            elif isinstance(node, Foreach):
                self.repeat(node)
            elif isinstance(node, Break):
                return True
        return False

    def rendered(self, reference: Reference) -> str:
        """A reference to nothing stands as it was written, unless it is quiet or asks one of the given objects."""
        value = self.resolved(reference)
        if value is None or value is MISSING:
            return (
                "" if reference.is_quiet or reference.name in ("input", "context", "stageVariables", "util") else reference.source
            )
        return shown(value)

    def choose(self, node: If) -> bool:
        for condition, body in node.branches:
            if condition is None or truth(self.value(condition)):
                return self.carry_out(body)
        return False

    def repeat(self, node: Foreach) -> None:
        values = self.value(node.values)
        if values is None or values is MISSING:
            return
        rounds = list(values.values()) if isinstance(values, dict) else values
        if not isinstance(rounds, list):
            raise TemplateError(f"#foreach over {type(values).__name__}")
        if len(rounds) > MOST_ROUNDS:
            raise TemplateError(f"#foreach over more than {MOST_ROUNDS} elements")
        kept = {name: self.variables[name] for name in (node.name, "foreach", "velocityCount") if name in self.variables}
        for number, value in enumerate(rounds):
            self.variables[node.name] = value
            self.variables["velocityCount"] = number + 1
            self.variables["foreach"] = {
                "index": number,
                "count": number + 1,
                "hasNext": number + 1 < len(rounds),
                "first": number == 0,
                "last": number + 1 == len(rounds),
            }
            if self.carry_out(node.body):
                break
        for name in (node.name, "foreach", "velocityCount"):
            self.variables.pop(name, None)
        self.variables |= kept

    def assign(self, node: Set) -> None:
        value, target = self.value(node.value), node.target
        value = None if value is MISSING else value
        if not target.steps:
            if target.name in ("input", "util", "context", "stageVariables"):
                raise TemplateError(f"#set of ${target.name}")
            self.variables[target.name] = value
            return
        home = self.resolved(Reference(target.name, target.steps[:-1], False, target.source))
        last = target.steps[-1]
        key: Any = last.name if isinstance(last, Member) else self.value(last.value) if isinstance(last, Index) else None
        if target.name == "context" and not target.source.lstrip("$!{").startswith("context.responseOverride."):
            raise TemplateError(f"#set of {target.source} is not supported")
        is_place = (
            isinstance(key, str)
            if isinstance(home, dict)
            else isinstance(home, list) and isinstance(key, int) and 0 <= key < len(home)
        )
        if is_place and isinstance(home, dict | list):
            place: Any = home
            place[key] = value
        else:
            raise TemplateError(f"#set of {target.source} is not supported")

    # -- expressions ------------------------------------------------------------------------------------------------

    def value(self, node: Any) -> Any:
        self.step()
        if isinstance(node, Literal):
            return node.value
        if isinstance(node, Reference):
            return self.resolved(node)
        if isinstance(node, Text):
            return "".join([part if isinstance(part, str) else self.interpolated(part) for part in node.parts])
        if isinstance(node, Not):
            return not truth(self.value(node.value))
        if isinstance(node, Binary):
            return self.combined(node)
        if isinstance(node, Items):
            return [self.value(each) for each in node.values]
        if isinstance(node, Pairs):
            return {shown(self.value(key)): self.value(each) for key, each in node.values}
        if isinstance(node, Span):
            return spanned(self.value(node.first), self.value(node.last))
        raise TemplateError(f"{type(node).__name__} in an expression")

    def interpolated(self, part: Any) -> str:
        if not isinstance(part, Reference):
            raise TemplateError("a directive within a string is not supported")
        return self.rendered(part)

    def combined(self, node: Binary) -> Any:
        if node.sign in ("&&", "||"):
            left = truth(self.value(node.left))
            return truth(self.value(node.right)) if left is (node.sign == "&&") else left
        left, right = self.value(node.left), self.value(node.right)
        if node.sign in ("==", "!="):
            return equal(left, right) is (node.sign == "==")
        if node.sign == "+" and (isinstance(left, str) or isinstance(right, str)):
            return shown(left) + shown(right)
        if not is_number(left) or not is_number(right):
            if isinstance(left, str) and isinstance(right, str) and node.sign in COMPARE:
                return COMPARE[node.sign](left, right)
            raise TemplateError(f"'{node.sign}' between {type(left).__name__} and {type(right).__name__}")
        if node.sign in COMPARE:
            return COMPARE[node.sign](left, right)
        return calculated(node.sign, left, right)

    def resolved(self, reference: Reference) -> Any:
        value = self.variables.get(reference.name, MISSING)
        for step in reference.steps:
            if value is None or value is MISSING:
                return MISSING
            self.step()
            if isinstance(step, Member):
                value = member_of(value, step.name)
            elif isinstance(step, Index):
                value = at_index(value, self.value(step.value))
            else:
                value = call_method(value, step, [self.value(each) for each in step.arguments])
        return value


# -- values -------------------------------------------------------------------------------------------------------------

COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def shown(value: Any) -> str:
    """As text: maps in Java's way, lists as JSON, as API Gateway writes them."""
    if value is None or value is MISSING:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={'null' if each is None else shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | int | float):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    raise TemplateError(f"{type(value).__name__} has no text")


def truth(value: Any) -> bool:
    """Velocity's: false, null, nothing, and what is empty or zero, do not count."""
    return bool(value)


def equal(left: Any, right: Any) -> bool:
    if left is MISSING:
        left = None
    if right is MISSING:
        right = None
    if is_number(left) != is_number(right) and left is not None and right is not None:
        return shown(left) == shown(right)
    return bool(left == right)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def calculated(sign: str, left: Any, right: Any) -> Any:
    """Whole numbers divide as in Java: towards zero."""
    try:
        if sign in ("/", "%") and isinstance(left, int) and isinstance(right, int):
            whole = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
            return whole if sign == "/" else left - whole * right
        calculate: Callable[[Any, Any], Any] = {
            "+": operator.add,
            "-": operator.sub,
            "*": operator.mul,
            "/": operator.truediv,
            "%": operator.mod,
        }[sign]
        return calculate(left, right)
    except ZeroDivisionError:
        raise TemplateError("division by zero") from None


def spanned(first: Any, last: Any) -> list[int]:
    if not isinstance(first, int) or not isinstance(last, int) or abs(last - first) > MOST_ROUNDS:
        raise TemplateError("a range needs two whole numbers, not too far apart")
    return list(range(first, last + 1)) if first <= last else list(range(first, last - 1, -1))


def member_of(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name, MISSING)
    if isinstance(value, Input) and name == "body":
        return value.body
    if isinstance(value, list) and name == "size":
        return len(value)
    raise TemplateError(f"the member .{name} of {type(value).__name__} is not supported")


def at_index(value: Any, key: Any) -> Any:
    if isinstance(value, dict):
        return value.get(shown(key), MISSING)
    if isinstance(value, list) and isinstance(key, int):
        return value[key] if -len(value) <= key < len(value) else MISSING
    raise TemplateError(f"an index into {type(value).__name__}")


def entries(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": each} for key, each in value.items()]


def appended(value: list[Any], item: Any) -> bool:
    value.append(item)
    return True


def put(value: dict[str, Any], key: str, item: Any) -> Any:
    before = value.get(key)
    value[key] = item
    return before


def literal_of(expression: str) -> str:
    """The text that a regular expression without operators stands for; the template language's own expressions are Java's."""
    plain = LITERAL.fullmatch(expression)
    if plain is None:
        raise TemplateError(f"the regular expression {expression} is not supported")
    return re.sub(r"\\(.)", r"\1", expression)


def replaced_all(text: str, expression: str, replacement: str) -> str:
    if "$" in replacement or "\\" in replacement:
        raise TemplateError(f"the replacement {replacement} is not supported")
    return text.replace(literal_of(expression), replacement)


METHODS: Mapping[type, Mapping[str, Callable[..., Any]]] = {
    str: {
        "length": len,
        "toString": str,
        "isEmpty": lambda text: not text,
        "contains": lambda text, part: part in text,
        "startsWith": str.startswith,
        "endsWith": str.endswith,
        "indexOf": str.find,
        "lastIndexOf": str.rfind,
        "substring": lambda text, begin, end=None: text[begin:end],
        "replace": str.replace,
        "replaceAll": replaced_all,
        "split": lambda text, expression: text.split(literal_of(expression)),
        "toLowerCase": str.lower,
        "toUpperCase": str.upper,
        "trim": str.strip,
        "concat": lambda text, other: text + other,
        "equals": lambda text, other: text == other,
        "equalsIgnoreCase": lambda text, other: isinstance(other, str) and text.lower() == other.lower(),
    },
    list: {
        "size": len,
        "isEmpty": lambda values: not values,
        "get": at_index,
        "contains": lambda values, item: item in values,
        "add": appended,
        "toString": lambda values: shown(values),
    },
    dict: {
        "size": len,
        "isEmpty": lambda value: not value,
        "get": lambda value, key: value.get(key),
        "keySet": lambda value: list(value),
        "values": lambda value: list(value.values()),
        "entrySet": entries,
        "containsKey": lambda value, key: key in value,
        "put": put,
        "getKey": lambda value: value.get("key"),
        "getValue": lambda value: value.get("value"),
        "toString": lambda value: shown(value),
    },
    int: {"toString": str, "intValue": int, "equals": lambda number, other: number == other},
    float: {"toString": str, "intValue": int, "equals": lambda number, other: number == other},
    bool: {"toString": lambda value: shown(value), "equals": lambda value, other: value == other},
    Input: {"json": Input.json, "path": Input.path, "params": Input.params},
    Util: {
        name: getattr(Util, name)
        for name in ("escapeJavaScript", "parseJson", "urlEncode", "urlDecode", "base64Encode", "base64Decode")
    },
}


def call_method(value: Any, method: Method, arguments: list[Any]) -> Any:
    known = METHODS.get(type(value), {}).get(method.name)
    if known is None:
        raise TemplateError(f"the method .{method.name}() of {type(value).__name__} is not supported")
    try:
        return known(value, *arguments)
    except (TypeError, ValueError, AttributeError) as problem:
        raise TemplateError(f".{method.name}(): {problem}") from None
