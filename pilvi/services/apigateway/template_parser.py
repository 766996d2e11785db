"""Mapping templates, first half: from the text of a template to a tree. Pure.

The part of the Velocity Template Language that mapping templates live on:

    text, $reference, ${reference}, $!quiet   .member   .method(arguments)   [index]
    #set(...)  #if(...) #elseif(...) #else #end  #foreach($x in ...) #end  #break  ## comment  #* comment *#  #[[ as it is ]]#
    'text' "text with $references" 1 1.5 true false [1, 2] [1..5] {"a": 1}  ! && || == != < <= > >= + - * / % and or not eq ne lt le gt ge

Anything else is a TemplateError that names the construct.
Source: Apache Velocity, "VTL Reference"; API Gateway Developer Guide, "Mapping template reference".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]*")
DIRECTIVE = re.compile(r"#(?:\{(\w+)\}|(\w+))")
NUMBER = re.compile(r"\d+\.\d+|\d+")
BLANK = re.compile(r"\s*")
LINE_END = re.compile(r"[ \t]*\r?\n")
OPERATORS = re.compile(r"==|!=|<=|>=|&&|\|\||<|>|\+|-|\*|/|%|(?:and|or|eq|ne|lt|le|gt|ge)\b")
PRECEDENCE = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/", "%"))
WORDS = {"and": "&&", "or": "||", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
MOST_DEPTH = 100


class TemplateError(Exception):
    """A template that cannot be carried out, with the construct that is in the way."""


@dataclass(frozen=True, slots=True)
class Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class Text:
    """A double-quoted string: its parts are text and references."""

    parts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Items:
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Span:
    first: Any
    last: Any


@dataclass(frozen=True, slots=True)
class Pairs:
    values: tuple[tuple[Any, Any], ...]


@dataclass(frozen=True, slots=True)
class Not:
    value: Any


@dataclass(frozen=True, slots=True)
class Binary:
    sign: str
    left: Any
    right: Any


@dataclass(frozen=True, slots=True)
class Member:
    name: str


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Index:
    value: Any


@dataclass(frozen=True, slots=True)
class Reference:
    name: str
    steps: tuple[Member | Method | Index, ...]
    is_quiet: bool
    source: str


@dataclass(frozen=True, slots=True)
class Set:
    target: Reference
    value: Any


@dataclass(slots=True)
class If:
    branches: list[tuple[Any, list[Any]]] = field(default_factory=list)
    """(condition, what follows); None as the condition of #else."""


@dataclass(slots=True)
class Foreach:
    name: str
    values: Any
    body: list[Any]


@dataclass(frozen=True, slots=True)
class Break:
    pass


def parsed(text: str) -> list[Any]:
    """The nodes of a template; plain text stands as str."""
    parser = _Parser(text)
    nodes, end = parser.block(0)
    if end:
        raise TemplateError(f"#{end} without a beginning")
    return nodes


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    # -- text and directives ----------------------------------------------------------------------------------------

    def block(self, depth: int) -> tuple[list[Any], str]:
        """Nodes up to the end, or up to #end, #else or #elseif, whose name comes along."""
        if depth > MOST_DEPTH:
            raise TemplateError("nesting too deep")
        nodes: list[Any] = []
        while self.at < len(self.text):
            following = min(
                (i for i in (self.text.find("#", self.at), self.text.find("$", self.at)) if i >= 0), default=len(self.text)
            )
            if following > self.at:
                nodes.append(self.text[self.at : following])
                self.at = following
            elif self.text[self.at] == "$":
                nodes.append(self.dollar())
            elif (end := self.hash(nodes, depth)) is not None:
                return nodes, end
        return nodes, ""

    def hash(self, nodes: list[Any], depth: int) -> str | None:
        """A directive or comment at '#'; gives the name of a directive that ends a block."""
        if self.took("##"):
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end + 1
            return None
        if self.took("#*"):
            self.at = self.after("*#")
            return None
        if self.took("#[["):
            begin, self.at = self.at, self.after("]]#")
            nodes.append(self.text[begin : self.at - 3])
            return None
        found = DIRECTIVE.match(self.text, self.at)
        name = (found[1] or found[2]) if found else ""
        if found is None or (name not in DIRECTIVES and name not in UNSUPPORTED):
            nodes.append("#")
            self.at += 1
            return None
        if name in UNSUPPORTED:
            raise TemplateError(f"the directive #{name} is not supported")
        self.at = found.end()
        if name in ("end", "else", "elseif"):
            if name != "elseif":
                self.line_end()
            return name
        nodes.append(DIRECTIVES[name](self, depth))
        return None

    def set_directive(self, _depth: int) -> Set:
        self.expect("(")
        self.blank()
        if not self.took("$"):
            raise TemplateError("#set needs a reference")
        target = self.reference(self.at - 1)
        self.expect("=")
        value = self.expression()
        self.expect(")")
        self.line_end()
        return Set(target, value)

    def if_directive(self, depth: int) -> If:
        node, condition = If(), self.condition()
        while True:
            body, end = self.block(depth + 1)
            node.branches.append((condition, body))
            if end == "end":
                return node
            if end == "" or condition is None:
                raise TemplateError("#if without #end")
            condition = self.condition() if end == "elseif" else None

    def condition(self) -> Any:
        self.expect("(")
        value = self.expression()
        self.expect(")")
        self.line_end()
        return value

    def foreach_directive(self, depth: int) -> Foreach:
        self.expect("(")
        self.expect("$")
        name = self.name()
        self.blank()
        if not self.took("in"):
            raise TemplateError("#foreach needs 'in'")
        values = self.expression()
        self.expect(")")
        self.line_end()
        body, end = self.block(depth + 1)
        if end != "end":
            raise TemplateError("#foreach without #end")
        return Foreach(name, values, body)

    def break_directive(self, _depth: int) -> Break:
        self.line_end()
        return Break()

    # -- references -------------------------------------------------------------------------------------------------

    def dollar(self) -> Any:
        """A reference, or the sign itself where no name follows."""
        begin = self.at
        self.at += 1
        if re.compile(r"!?\{?[a-zA-Z_]").match(self.text, self.at) is None:
            return "$"
        return self.reference(begin)

    def reference(self, begin: int) -> Reference:
        is_quiet, in_braces = self.took("!"), self.took("{")
        name = self.name()
        steps: list[Member | Method | Index] = []
        while True:
            if self.text.startswith(".", self.at) and NAME.match(self.text, self.at + 1):
                self.at += 1
                member = self.name()
                steps.append(Method(member, self.arguments(")")) if self.took("(") else Member(member))
            elif self.took("["):
                steps.append(Index(self.expression()))
                self.expect("]")
            else:
                break
        if in_braces:
            self.expect("}")
        return Reference(name, tuple(steps), is_quiet, self.text[begin : self.at])

    def arguments(self, closing: str) -> tuple[Any, ...]:
        values: list[Any] = []
        while not self.took_after_blank(closing):
            if values:
                self.expect(",")
            values.append(self.expression())
        return tuple(values)

    # -- expressions ------------------------------------------------------------------------------------------------

    def expression(self, level: int = 0, depth: int = 0) -> Any:
        if level == len(PRECEDENCE):
            return self.operand(depth)
        left = self.expression(level + 1, depth)
        while True:
            self.blank()
            found = OPERATORS.match(self.text, self.at)
            sign = WORDS.get(found[0], found[0]) if found else ""
            if found is None or sign not in PRECEDENCE[level]:
                return left
            self.at = found.end()
            left = Binary(sign, left, self.expression(level + 1, depth))

    def operand(self, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise TemplateError("nesting too deep")
        self.blank()
        if self.took("$"):
            return self.reference(self.at - 1)
        if self.took("("):
            inside = self.expression(0, depth + 1)
            self.expect(")")
            return inside
        if self.took("!") or self.word("not"):
            return Not(self.operand(depth + 1))
        if self.took("'"):
            begin, self.at = self.at, self.after("'")
            return Literal(self.text[begin : self.at - 1])
        if self.took('"'):
            return self.quoted()
        if self.took("["):
            return self.items()
        if self.took("{"):
            return self.pairs()
        if self.took("-"):
            return Binary("-", Literal(0), self.operand(depth + 1))
        if (found := NUMBER.match(self.text, self.at)) is not None:
            self.at = found.end()
            return Literal(float(found[0]) if "." in found[0] else int(found[0]))
        for word, value in (("true", True), ("false", False), ("null", None)):
            if self.word(word):
                return Literal(value)
        raise TemplateError(f"cannot read an expression at '{self.text[self.at : self.at + 30]}'")

    def quoted(self) -> Text:
        """References inside are carried out; a doubled quote stands for one."""
        begin = self.at
        while True:
            self.at = self.after('"')
            if not self.took('"'):
                break
        inner = self.text[begin : self.at - 1].replace('""', '"')
        return Text(tuple(parsed(inner)))

    def items(self) -> Items | Span:
        if self.took_after_blank("]"):
            return Items(())
        first = self.expression()
        self.blank()
        if self.took(".."):
            span = Span(first, self.expression())
            self.expect("]")
            return span
        if self.took_after_blank("]"):
            return Items((first,))
        self.expect(",")
        return Items((first, *self.arguments("]")))

    def pairs(self) -> Pairs:
        found: list[tuple[Any, Any]] = []
        while not self.took_after_blank("}"):
            if found:
                self.expect(",")
            key = self.expression()
            self.expect(":")
            found.append((key, self.expression()))
        return Pairs(tuple(found))

    # -- characters -------------------------------------------------------------------------------------------------

    def took(self, wanted: str) -> bool:
        if self.text.startswith(wanted, self.at):
            self.at += len(wanted)
            return True
        return False

    def took_after_blank(self, wanted: str) -> bool:
        self.blank()
        return self.took(wanted)

    def word(self, wanted: str) -> bool:
        found = NAME.match(self.text, self.at)
        return found is not None and found[0] == wanted and self.took(wanted)

    def expect(self, wanted: str) -> None:
        if not self.took_after_blank(wanted):
            raise TemplateError(f"'{wanted}' expected at '{self.text[self.at : self.at + 30]}'")

    def blank(self) -> None:
        found = BLANK.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def line_end(self) -> None:
        """A directive swallows the end of its line."""
        if (found := LINE_END.match(self.text, self.at)) is not None:
            self.at = found.end()

    def name(self) -> str:
        found = NAME.match(self.text, self.at)
        if found is None:
            raise TemplateError(f"a name expected at '{self.text[self.at : self.at + 30]}'")
        self.at = found.end()
        return found[0]

    def after(self, wanted: str) -> int:
        end = self.text.find(wanted, self.at)
        if end < 0:
            raise TemplateError(f"'{wanted}' is missing")
        return end + len(wanted)


DIRECTIVES: dict[str, Callable[[_Parser, int], Any]] = {
    "set": _Parser.set_directive,
    "if": _Parser.if_directive,
    "foreach": _Parser.foreach_directive,
    "break": _Parser.break_directive,
    "end": _Parser.break_directive,
    "else": _Parser.break_directive,
    "elseif": _Parser.break_directive,
}
"""The last three end a block before their function would be called."""
UNSUPPORTED = frozenset({"stop", "macro", "include", "parse", "evaluate", "define"})
