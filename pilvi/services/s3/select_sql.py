"""S3 Select's SQL: from text to a tree. Only its grammar is known here, so nothing else can reach an engine.

    SELECT * | expression [AS name], ...  FROM S3Object[*].path [alias]  [WHERE expression]  [LIMIT number]

Source: S3 User Guide, "SQL reference for Amazon S3 Select"; error codes of S3 API Reference, "List of SELECT Object Content
error codes".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pilvi.core.errors import ServiceError

EXPRESSION_BYTES = 256 << 10
DEPTH = 60

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*)
      | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_$]*)
      | (?P<string>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")*")
      | (?P<ion>`[^`]*`)
      | (?P<sign><>|!=|<=|>=|\|\||[=<>+\-*/%(),.\[\]])""",
    re.VERBOSE,
)

KEYWORDS = frozenset(
    [
        "SELECT",
        "FROM",
        "WHERE",
        "LIMIT",
        "AS",
        "AND",
        "OR",
        "NOT",
        "IN",
        "BETWEEN",
        "LIKE",
        "ESCAPE",
        "IS",
        "NULL",
        "MISSING",
        "TRUE",
        "FALSE",
        "CAST",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "GROUP",
        "ORDER",
        "HAVING",
        "JOIN",
        "UNION",
        "INSERT",
        "UPDATE",
        "DELETE",
        "CREATE",
        "DROP",
        "DISTINCT",
        "BY",
        "EXISTS",
        "WITH",
        "INTERSECT",
        "EXCEPT",
    ]
)
UNSUPPORTED = frozenset({"GROUP", "ORDER", "HAVING", "JOIN", "UNION", "DISTINCT", "INTERSECT", "EXCEPT", "WITH", "EXISTS"})
AGGREGATES = frozenset({"AVG", "COUNT", "MAX", "MIN", "SUM"})
DATE_PARTS = frozenset({"YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND", "TIMEZONE_HOUR", "TIMEZONE_MINUTE"})
TYPES = frozenset(
    [
        "BOOL",
        "BOOLEAN",
        "INT",
        "INTEGER",
        "STRING",
        "FLOAT",
        "DECIMAL",
        "NUMERIC",
        "TIMESTAMP",
        "DOUBLE",
        "CHAR",
        "VARCHAR",
        "CHARACTER",
        "SMALLINT",
        "BIGINT",
        "REAL",
    ]
)
COMPARISONS = frozenset({"=", "<>", "!=", "<", "<=", ">", ">="})

ARITIES: dict[str, tuple[int, int]] = {
    "AVG": (1, 1),
    "COUNT": (1, 1),
    "MAX": (1, 1),
    "MIN": (1, 1),
    "SUM": (1, 1),
    "CHAR_LENGTH": (1, 1),
    "CHARACTER_LENGTH": (1, 1),
    "LOWER": (1, 1),
    "UPPER": (1, 1),
    "SUBSTRING": (2, 3),
    "TRIM": (1, 1),
    "UTCNOW": (0, 0),
    "TO_TIMESTAMP": (1, 1),
    "TO_STRING": (2, 2),
    "DATE_ADD": (3, 3),
    "DATE_DIFF": (3, 3),
    "EXTRACT": (2, 2),
    "COALESCE": (1, 100),
    "NULLIF": (2, 2),
}
"""How many arguments each function takes."""


class Token(NamedTuple):
    kind: str
    """number, word, string, quoted, ion, sign, end"""
    text: str
    line: int
    column: int

    @property
    def upper(self) -> str:
        return self.text.upper() if self.kind == "word" else self.text if self.kind == "sign" else ""


class Step(NamedTuple):
    """One step of a path."""

    name: str
    is_exact: bool = False
    """Written in quotation marks: its case counts."""
    at: int | None = None
    """[3]"""
    is_every: bool = False
    """[*]"""


class Node(NamedTuple):
    """An expression: what it is, its parts, and what is fixed about it."""

    kind: str
    """literal, path, unary, binary, is, in, between, like, call, cast, case, star, slot"""
    value: Any = None
    parts: tuple[Node, ...] = ()


class Column(NamedTuple):
    node: Node
    name: str
    """'' when neither an alias nor a path names it."""


class Query(NamedTuple):
    columns: tuple[Column, ...]
    """Empty for *."""
    source: tuple[Step, ...]
    """The path behind S3Object, without its first [*]."""
    alias: str
    where: Node | None
    limit: int | None


def parse(text: str) -> Query:
    """The tree of an expression. Errors: the Lexer... and Parse... codes of S3 Select."""
    if len(text.encode()) > EXPRESSION_BYTES:
        raise failure(
            "ExpressionTooLong", "The SQL expression is too long: The maximum byte-length for the SQL expression is 256 KB."
        )
    return _Parser(list(tokens_of(text))).query()


def tokens_of(text: str) -> Iterator[Token]:
    at = line = start = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        column = at - start + 1
        if found is None:
            raise failure("LexerInvalidChar", f"Invalid character at line {line + 1}, column {column}.")
        kind = str(found.lastgroup)
        if kind != "space":
            yield Token(kind, found[0], line + 1, column)
        if breaks := found[0].count("\n"):
            line += breaks
            start = at + found[0].rindex("\n") + 1
        at = found.end()
    yield Token("end", "", line + 1, at - start + 1)


def failure(code: str, message: str) -> ServiceError:
    return ServiceError(code, message, 400)


class _Parser:
    """Recursive descent, one method a level of precedence."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    # -- tokens ------------------------------------------------------------------------------------------------------

    @property
    def token(self) -> Token:
        return self._tokens[self._at]

    def take(self) -> Token:
        token = self.token
        self._at += token.kind != "end"
        return token

    def accept(self, *words: str) -> str:
        """The keyword or sign that is next, when it is one of these."""
        upper = self.token.upper
        if upper and upper in words:
            self.take()
            return upper
        return ""

    def expect(self, word: str, code: str = "ParseUnexpectedToken") -> None:
        if not self.accept(word):
            raise self.unexpected(code)

    def unexpected(self, code: str = "ParseUnexpectedToken") -> ServiceError:
        token = self.token
        if token.upper in UNSUPPORTED:
            code = "ParseUnsupportedSyntax"
        what = "end of expression" if token.kind == "end" else f"{token.kind.upper()}:{token.text}"
        return failure(code, f"Unexpected token found {what} at line {token.line}, column {token.column}.")

    # -- the statement -----------------------------------------------------------------------------------------------

    def query(self) -> Query:
        if not self.accept("SELECT"):
            raise self.unexpected("ParseUnsupportedSyntax" if self.token.kind == "word" else "ParseUnexpectedToken")
        columns = self.columns()
        if not self.accept("FROM"):
            raise self.unexpected("ParseSelectMissingFrom" if self.token.kind == "end" else "ParseUnexpectedToken")
        source, alias = self.source()
        where = self.expression() if self.accept("WHERE") else None
        limit = self.limit() if self.accept("LIMIT") else None
        if self.token.kind != "end":
            raise self.unexpected()
        return Query(columns, source, alias, where, limit)

    def columns(self) -> tuple[Column, ...]:
        if self.accept("*"):
            if self.token.upper == ",":
                raise failure(
                    "ParseAsteriskIsNotAloneInSelectList", "Other expressions are not allowed in the SELECT list when * is used."
                )
            return ()
        if self.token.upper == "FROM" or self.token.kind == "end":
            raise failure("ParseEmptySelect", "The SQL expression contains an empty SELECT.")
        found = [self.column()]
        while self.accept(","):
            if self.token.upper == "*":
                raise failure(
                    "ParseAsteriskIsNotAloneInSelectList", "Other expressions are not allowed in the SELECT list when * is used."
                )
            found.append(self.column())
        return tuple(found)

    def column(self) -> Column:
        node = self.expression()
        if self.accept("AS"):
            return Column(node, self.name("ParseExpectedIdentForAlias"))
        if self.token.kind == "quoted" or (self.token.kind == "word" and self.token.upper not in KEYWORDS):
            return Column(node, self.name("ParseExpectedIdentForAlias"))
        if node.kind == "path":
            named = [step.name for step in node.value if step.name]
            return Column(node, named[-1] if named and node.value[-1].at is None else "")
        return Column(node, "")

    def name(self, code: str) -> str:
        token = self.token
        if token.kind == "quoted":
            return self.take().text[1:-1].replace('""', '"')
        if token.kind != "word" or token.upper in KEYWORDS:
            raise self.unexpected(code)
        return self.take().text

    def source(self) -> tuple[tuple[Step, ...], str]:
        if self.token.upper == "(":
            raise failure("ParseUnsupportedSelect", "The SQL expression contains an unsupported use of SELECT.")
        if self.token.upper != "S3OBJECT":
            raise self.unexpected()
        self.take()
        steps = self.steps()
        if steps and steps[0].is_every:
            steps = steps[1:]
        alias = ""
        if self.accept("AS") or self.token.kind == "quoted" or (self.token.kind == "word" and self.token.upper not in KEYWORDS):
            alias = self.name("ParseExpectedIdentForAlias")
        if self.token.upper == ",":
            raise failure("ParseUnsupportedSyntax", "The SQL expression contains unsupported syntax.")
        return steps, alias

    def limit(self) -> int:
        token = self.take()
        if token.kind != "number" or not token.text.isdecimal():
            raise failure("ParseExpectedNumber", "The SQL expression has a LIMIT that is not a number.")
        return int(token.text)

    # -- expressions -------------------------------------------------------------------------------------------------

    def expression(self) -> Node:
        self._depth += 1
        if self._depth > DEPTH:
            raise failure("ExpressionTooLong", "The SQL expression is nested too deeply.")
        node = self.conjunction()
        while self.accept("OR"):
            node = Node("binary", "OR", (node, self.conjunction()))
        self._depth -= 1
        return node

    def conjunction(self) -> Node:
        node = self.negation()
        while self.accept("AND"):
            node = Node("binary", "AND", (node, self.negation()))
        return node

    def negation(self) -> Node:
        count = 0
        while self.accept("NOT"):
            count += 1
        node = self.comparison()
        return Node("unary", "NOT", (node,)) if count % 2 else node

    def comparison(self) -> Node:
        node = self.sum()
        while True:
            if sign := self.accept(*COMPARISONS):
                node = Node("binary", "<>" if sign == "!=" else sign, (node, self.sum()))
            elif self.accept("IS"):
                is_not = bool(self.accept("NOT"))
                what = self.accept("NULL", "MISSING")
                if not what:
                    raise self.unexpected()
                node = negated(Node("is", what, (node,)), is_not)
            else:
                is_not = bool(self.accept("NOT"))
                found = self.membership(node)
                if found is None:
                    if is_not:
                        raise self.unexpected()
                    return node
                node = negated(found, is_not)

    def membership(self, node: Node) -> Node | None:
        if self.accept("IN"):
            self.expect("(", "ParseExpectedLeftParenValueConstructor")
            return Node("in", None, (node, *self.arguments()))
        if self.accept("BETWEEN"):
            low = self.sum()
            self.expect("AND", "ParseExpectedKeyword")
            return Node("between", None, (node, low, self.sum()))
        if self.accept("LIKE"):
            pattern = self.sum()
            escape = (self.sum(),) if self.accept("ESCAPE") else ()
            return Node("like", None, (node, pattern, *escape))
        return None

    def sum(self) -> Node:
        node = self.product()
        while sign := self.accept("+", "-", "||"):
            node = Node("binary", sign, (node, self.product()))
        return node

    def product(self) -> Node:
        node = self.signed()
        while sign := self.accept("*", "/", "%"):
            node = Node("binary", sign, (node, self.signed()))
        return node

    def signed(self) -> Node:
        is_negative = False
        while sign := self.accept("-", "+"):
            is_negative ^= sign == "-"
        node = self.primary()
        return Node("unary", "-", (node,)) if is_negative else node

    def primary(self) -> Node:
        token = self.token
        if self.accept("("):
            if self.token.upper == "SELECT":
                raise failure("ParseUnsupportedSelect", "The SQL expression contains an unsupported use of SELECT.")
            node = self.expression()
            self.expect(")", "ParseExpectedToken")
            return node
        if token.kind == "number":
            self.take()
            return Node("literal", float(token.text) if re.search(r"[.eE]", token.text) else int(token.text))
        if token.kind == "string":
            self.take()
            return Node("literal", token.text[1:-1].replace("''", "'"))
        if token.kind == "ion":
            self.take()
            return Node("call", "TO_TIMESTAMP", (Node("literal", token.text[1:-1]),))
        if word := self.accept("TRUE", "FALSE", "NULL", "MISSING"):
            return Node("literal", {"TRUE": True, "FALSE": False}.get(word))
        if self.accept("CAST"):
            return self.cast()
        if self.accept("CASE"):
            return self.case()
        if token.kind == "quoted" or (token.kind == "word" and token.upper not in KEYWORDS):
            return self.path_or_call()
        raise self.unexpected("ParseExpectedExpression" if token.kind == "end" else "ParseUnexpectedToken")

    def cast(self) -> Node:
        self.expect("(", "ParseExpectedLeftParenAfterCast")
        node = self.expression()
        if not self.accept("AS"):
            raise self.unexpected("ParseCastArity" if self.token.upper in (",", ")") else "ParseExpectedKeyword")
        kind = self.token.upper
        if kind not in TYPES:
            raise self.unexpected("ParseExpectedTypeName")
        self.take()
        sizes: list[int] = []
        if self.accept("("):
            while True:
                token = self.take()
                if token.kind != "number" or not token.text.isdecimal():
                    raise failure("ParseInvalidTypeParam", "The SQL expression contains a parameter value that is not valid.")
                sizes.append(int(token.text))
                if not self.accept(","):
                    break
            self.expect(")", "ParseExpectedRightParenBuiltinFunctionCall")
        self.expect(")", "ParseExpectedRightParenBuiltinFunctionCall")
        return Node("cast", (kind, tuple(sizes)), (node,))

    def case(self) -> Node:
        subject = None if self.token.upper == "WHEN" else self.expression()
        parts: list[Node] = []
        while self.accept("WHEN"):
            when = self.expression()
            self.expect("THEN", "ParseExpectedKeyword")
            parts += (Node("binary", "=", (subject, when)) if subject is not None else when, self.expression())
        if not parts:
            raise self.unexpected("ParseExpectedWhenClause")
        if self.accept("ELSE"):
            parts.append(self.expression())
        self.expect("END", "ParseExpectedKeyword")
        return Node("case", None, tuple(parts))

    def arguments(self) -> tuple[Node, ...]:
        """Expressions up to the closing parenthesis, which is taken too."""
        if self.accept(")"):
            return ()
        found = [self.expression()]
        while self.accept(","):
            found.append(self.expression())
        self.expect(")", "ParseExpectedArgumentDelimiter")
        return tuple(found)

    def path_or_call(self) -> Node:
        token = self.take()
        if token.kind == "word" and self.accept("("):
            return self.call(token.upper)
        first = Step(token.text[1:-1].replace('""', '"'), True) if token.kind == "quoted" else Step(token.text)
        return Node("path", (first, *self.steps()))

    def steps(self) -> tuple[Step, ...]:
        found: list[Step] = []
        while sign := self.accept(".", "["):
            if sign == ".":
                if self.accept("*"):
                    raise failure("ParseInvalidPathComponent", "The SQL expression contains a path component that is not valid.")
                is_exact = self.token.kind == "quoted"
                if not is_exact and self.token.kind != "word":
                    raise self.unexpected("ParseInvalidPathComponent")
                text = self.take().text
                found.append(Step(text[1:-1].replace('""', '"') if is_exact else text, is_exact))
                continue
            if self.accept("*"):
                found.append(Step("", is_every=True))
            elif self.token.kind == "number" and self.token.text.isdecimal():
                found.append(Step("", at=int(self.take().text)))
            elif self.token.kind == "string":
                found.append(Step(self.take().text[1:-1].replace("''", "'"), True))
            else:
                raise self.unexpected("ParseInvalidPathComponent")
            self.expect("]", "ParseInvalidPathComponent")
        return tuple(found)

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(self, name: str) -> Node:
        if name not in ARITIES:
            raise failure("UnsupportedFunction", f"Encountered an unsupported SQL function: {name}.")
        special: Callable[[], tuple[Any, tuple[Node, ...]]] | None = {
            "COUNT": self.count,
            "SUBSTRING": self.substring,
            "TRIM": self.trim,
            "EXTRACT": self.extract,
            "DATE_ADD": self.dated,
            "DATE_DIFF": self.dated,
        }.get(name)
        more, parts = special() if special is not None else (None, self.arguments())
        low, high = ARITIES[name]
        if not low <= len(parts) + (name in ("EXTRACT", "DATE_ADD", "DATE_DIFF")) <= high + (name == "TRIM"):
            raise failure("EvaluatorInvalidArguments", f"Incorrect number of arguments in the function call to {name}.")
        return Node("call", name if more is None else (name, more), parts)

    def count(self) -> tuple[Any, tuple[Node, ...]]:
        if self.accept("*"):
            self.expect(")", "ParseExpectedRightParenBuiltinFunctionCall")
            return None, (Node("star"),)
        return None, self.arguments()

    def substring(self) -> tuple[Any, tuple[Node, ...]]:
        first = self.expression()
        if not self.accept("FROM"):
            self.expect(",", "ParseExpectedArgumentDelimiter")
            return None, (first, *self.arguments())
        start = self.expression()
        parts = (first, start, self.expression()) if self.accept("FOR") else (first, start)
        self.expect(")", "ParseExpectedRightParenBuiltinFunctionCall")
        return None, parts

    def trim(self) -> tuple[Any, tuple[Node, ...]]:
        side = self.accept("LEADING", "TRAILING", "BOTH") or "BOTH"
        if self.accept("FROM"):
            return side, self.arguments()
        first = self.expression()
        if self.accept("FROM"):
            return side, (*self.arguments(), first)
        self.expect(")", "ParseExpectedRightParenBuiltinFunctionCall")
        return side, (first,)

    def extract(self) -> tuple[Any, tuple[Node, ...]]:
        part = self.date_part()
        self.expect("FROM", "ParseExpectedKeyword")
        return part, self.arguments()

    def dated(self) -> tuple[Any, tuple[Node, ...]]:
        part = self.date_part()
        self.expect(",", "ParseExpectedArgumentDelimiter")
        return part, self.arguments()

    def date_part(self) -> str:
        if self.token.upper not in DATE_PARTS:
            raise self.unexpected("ParseExpectedDatePart")
        return self.take().upper


def negated(node: Node, is_not: bool) -> Node:
    return Node("unary", "NOT", (node,)) if is_not else node


def aggregates_in(node: Node) -> Iterator[Node]:
    """The aggregate calls of an expression."""
    if is_aggregate(node):
        yield node
        return
    for part in node.parts:
        yield from aggregates_in(part)


def is_aggregate(node: Node) -> bool:
    return node.kind == "call" and node.value in AGGREGATES
