"""From S3 Select's tree to SQL that DuckDB runs over one block of records.

Each block is a table `block`; a statement gives one row: the records as text, one after the other, and how many they are.
Aggregates give one row of partial values a block; `final` makes the one record of them.

CSV fields are text, as S3 Select has it; JSON values keep their types; Parquet's columns are DuckDB's. A value's kind says which
conversions comparing and printing it needs. Everything a client wrote arrives as a quoted literal or identifier.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pilvi.services.s3.select_sql import Node, Query, Step, aggregates_in, failure, is_aggregate

TEXT, NUMBER, TRUTH, TIME, JSON, NATIVE, NOTHING = "text", "number", "truth", "time", "json", "native", "nothing"

CASTS = {
    "BOOL": (TRUTH, "BOOLEAN"),
    "BOOLEAN": (TRUTH, "BOOLEAN"),
    "INT": (NUMBER, "BIGINT"),
    "INTEGER": (NUMBER, "BIGINT"),
    "SMALLINT": (NUMBER, "BIGINT"),
    "BIGINT": (NUMBER, "BIGINT"),
    "FLOAT": (NUMBER, "DOUBLE"),
    "DOUBLE": (NUMBER, "DOUBLE"),
    "REAL": (NUMBER, "DOUBLE"),
    "DECIMAL": (NUMBER, "DOUBLE"),
    "NUMERIC": (NUMBER, "DOUBLE"),
    "STRING": (TEXT, "VARCHAR"),
    "CHAR": (TEXT, "VARCHAR"),
    "VARCHAR": (TEXT, "VARCHAR"),
    "CHARACTER": (TEXT, "VARCHAR"),
    "TIMESTAMP": (TIME, "TIMESTAMP"),
}
_POSITION = re.compile(r"_(\d+)\Z")
_ION = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?T?(?:(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?)?(Z|[+-]\d\d:\d\d)?\Z")
_PATTERN = re.compile(r"yyyy|yy|y|MMMM|MMM|MM|M|dd|d|a|hh|h|HH|H|mm|m|ss|s|S+|n|X+|x+|'[^']*'|.")
_STRFTIME = {
    "yyyy": "%Y", "y": "%Y", "yy": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "M": "%-m", "dd": "%d", "d": "%-d", "a": "%p",
    "hh": "%I", "h": "%-I", "HH": "%H", "H": "%-H", "mm": "%M", "m": "%-M", "ss": "%S", "s": "%-S", "SSS": "%g", "n": "%n",
}  # fmt: skip


class Value(NamedTuple):
    sql: str
    kind: str


@dataclass(frozen=True, slots=True)
class Output:
    """How records are written."""

    is_json: bool
    record: str = "\n"
    field: str = ","
    quote: str = '"'
    escape: str = '"'
    is_always: bool = False


Find = Callable[[tuple[Step, ...]], Value]


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean in one block of records."""

    rows: str
    """What stands behind FROM."""
    find: Find
    """A path without the table's name."""
    all_csv: Callable[[Output], str]
    """SELECT * as a record of CSV, or of JSON."""
    all_json: str


STATEMENT_CHARACTERS = 4 << 20
"""What the parts of one statement may have together."""


class Planner:
    """One query over any number of blocks."""

    def __init__(self, query: Query, output: Output, now: datetime) -> None:
        self._query = query
        self.output = output
        self._now = now
        self._left = STATEMENT_CHARACTERS
        self.aggregates: list[Node] = []
        for column in query.columns:
            self.aggregates += [node for node in aggregates_in(column.node) if node not in self.aggregates]
        if query.where is not None and any(aggregates_in(query.where)):
            raise failure("UnsupportedSqlStructure", "Aggregate functions are not supported in the WHERE clause.")
        if self.aggregates and any(has_path(column.node) for column in query.columns):
            raise failure("UnsupportedSqlStructure", "Encountered an unsupported SQL structure. Check the SQL Reference.")

    def names(self) -> Iterator[tuple[Step, ...]]:
        """Every path of the query, without the table's name."""
        nodes = [column.node for column in self._query.columns]
        if self._query.where is not None:
            nodes.append(self._query.where)
        while nodes:
            node = nodes.pop()
            nodes += node.parts
            if node.kind == "path":
                yield self._within(node.value)

    @property
    def references(self) -> int:
        """How often a record's fields are named: how many times its size an answer may have."""
        return max(1, sum(1 for _ in self.names()))

    @property
    def is_everything(self) -> bool:
        return not self._query.columns

    # -- statements --------------------------------------------------------------------------------------------------

    def records(self, scope: Scope, limit: int | None) -> str:
        """The records of a block: (text, count)."""
        self._left = STATEMENT_CHARACTERS
        if self.is_everything:
            record = scope.all_json if self.output.is_json else scope.all_csv(self.output)
        else:
            values = [self.value(column.node, scope) for column in self._query.columns]
            record = self.record(values)
        many = "" if limit is None else f" LIMIT {limit}"
        inner = f"SELECT {record} AS record FROM {scope.rows}{self.where(scope)}{many}"
        return f"SELECT string_agg(record || {quoted(self.output.record)}, ''), count(*) FROM ({inner})"

    def partial(self, scope: Scope) -> str:
        """One row: the aggregates of a block."""
        self._left = STATEMENT_CHARACTERS
        parts = [
            f"{sql} AS p{number}_{at}"
            for number, node in enumerate(self.aggregates)
            for at, sql in enumerate(self.partials_of(node, scope))
        ]
        return f"SELECT {', '.join(parts)} FROM {scope.rows}{self.where(scope)}"

    def partials_of(self, node: Node, scope: Scope) -> list[str]:
        argument = node.parts[0]
        if argument.kind == "star":
            return ["count(*)"]
        value = self.value(argument, scope)
        if node.value == "COUNT":
            return [f"count(*) FILTER (NOT {is_null(value)})"]
        if node.value in ("MIN", "MAX"):
            return [f"{node.value}({value.sql if value.kind in (TEXT, TIME, NATIVE) else number(value)})"]
        strict = f"CAST({value.sql} AS DOUBLE)" if value.kind == TEXT else number(value)
        return [f"sum({strict})", f"count({strict})"] if node.value == "AVG" else [f"sum({strict})"]

    def final(self, scope: Scope) -> str:
        """The one record made of all blocks' aggregates, which are the table `partials`."""
        self._left = STATEMENT_CHARACTERS
        values = [self.value(column.node, scope) for column in self._query.columns]
        return f"SELECT {self.record(values)} FROM (SELECT * FROM partials)"

    def slot(self, node: Node, scope: Scope) -> Value:
        name = f"p{self.aggregates.index(node)}"
        if node.value == "AVG":
            return Value(f"(sum({name}_0) / nullif(sum({name}_1), 0))", NUMBER)
        if node.value in ("MIN", "MAX"):
            kind = self.value(node.parts[0], scope).kind
            return Value(f"{node.value}({name}_0)", kind if kind in (TEXT, TIME, NATIVE) else NUMBER)
        return Value(f"sum({name}_0)", NUMBER)

    def where(self, scope: Scope) -> str:
        return "" if self._query.where is None else f" WHERE {truth(self.value(self._query.where, scope))}"

    # -- records -----------------------------------------------------------------------------------------------------

    def record(self, values: Sequence[Value]) -> str:
        if not self.output.is_json:
            fields = [csv_field(f"coalesce({text(value)}, '')", self.output) for value in values]
            return f" || {quoted(self.output.field)} || ".join(fields)
        pairs = []
        for at, (column, value) in enumerate(zip(self._query.columns, values, strict=True), 1):
            name = json_text(column.name or f"_{at}")
            pairs.append(f"{quoted(name + ':')} || {as_json(value)}")
        return f"'{{' || concat_ws(',', {', '.join(pairs)}) || '}}'"

    # -- expressions -------------------------------------------------------------------------------------------------

    def value(self, node: Node, scope: Scope) -> Value:
        found = self._value(node, scope)
        self._left -= len(found.sql)  # BETWEEN, NULLIF and their like say their operands twice, and so do those inside of them
        if self._left < 0:
            raise failure("ExpressionTooLong", "The SQL expression is nested too deeply.")
        return found

    def _value(self, node: Node, scope: Scope) -> Value:
        if is_aggregate(node):
            return self.slot(node, scope)
        if node.kind == "path":
            return scope.find(self._within(node.value))
        if node.kind == "literal":
            return literal(node.value)
        parts = [self.value(part, scope) for part in node.parts if part.kind != "star"]
        return _MAKERS[node.kind](self, node, parts)

    def _within(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """A path without the table's name or alias before it."""
        first = steps[0]
        names = {"s3object", self._query.alias.lower()} - {""}
        if first.name.lower() in names and (len(steps) > 1 or not _POSITION.match(first.name)):
            rest = steps[1:]
            return rest[1:] if rest and rest[0].is_every else rest
        return steps

    def unary(self, node: Node, parts: list[Value]) -> Value:
        if node.value == "NOT":
            return Value(f"(NOT {truth(parts[0])})", TRUTH)
        return Value(f"(-{number(parts[0])})", NUMBER)

    def binary(self, node: Node, parts: list[Value]) -> Value:
        left, right = parts
        if node.value in ("AND", "OR"):
            return Value(f"({truth(left)} {node.value} {truth(right)})", TRUTH)
        if node.value == "||":
            return Value(f"({text(left)} || {text(right)})", TEXT)
        if node.value in ("+", "-", "*", "/", "%"):
            return Value(f"({number(left)} {node.value} {number(right)})", NUMBER)
        return Value(compared(left, node.value, right), TRUTH)

    def is_(self, node: Node, parts: list[Value]) -> Value:
        return Value(f"({parts[0].sql} IS NULL)" if node.value == "MISSING" else is_null(parts[0]), TRUTH)

    def in_(self, _node: Node, parts: list[Value]) -> Value:
        tests = [compared(parts[0], "=", part) for part in parts[1:]]
        return Value(f"({' OR '.join(tests) or 'false'})", TRUTH)

    def between(self, _node: Node, parts: list[Value]) -> Value:
        return Value(f"({compared(parts[0], '>=', parts[1])} AND {compared(parts[0], '<=', parts[2])})", TRUTH)

    def like(self, _node: Node, parts: list[Value]) -> Value:
        escape = f" ESCAPE {text(parts[2])}" if len(parts) > 2 else ""
        return Value(f"({text(parts[0])} LIKE {text(parts[1])}{escape})", TRUTH)

    def cast(self, node: Node, parts: list[Value]) -> Value:
        name, sizes = node.value
        kind, target = CASTS[name]
        if name in ("DECIMAL", "NUMERIC") and sizes:
            width, scale = (*sizes, 0)[:2]
            if not 1 <= width <= 38 or scale > width:
                raise failure("ParseInvalidTypeParam", "The SQL expression contains a parameter value that is not valid.")
            target = f"DECIMAL({width}, {scale})"
        if kind == TEXT:
            return Value(text(parts[0]), TEXT)
        return Value(f"CAST({text(parts[0]) if parts[0].kind == JSON else parts[0].sql} AS {target})", kind)

    def case(self, _node: Node, parts: list[Value]) -> Value:
        branches, other = parts[: len(parts) // 2 * 2], parts[len(parts) // 2 * 2 :]
        results, kind = alike([*branches[1::2], *other])
        tests = [f"WHEN {truth(test)} THEN {result}" for test, result in zip(branches[::2], results, strict=False)]
        last = f" ELSE {results[-1]}" if other else ""
        return Value(f"(CASE {' '.join(tests)}{last} END)", kind)

    def call(self, node: Node, parts: list[Value]) -> Value:
        name, more = node.value if isinstance(node.value, tuple) else (node.value, "")
        return _FUNCTIONS[name](self, more, node, parts)

    # -- functions ---------------------------------------------------------------------------------------------------

    def length(self, _more: str, _node: Node, parts: list[Value]) -> Value:
        return Value(f"length({text(parts[0])})", NUMBER)

    def lower(self, _more: str, _node: Node, parts: list[Value]) -> Value:
        return Value(f"lower({text(parts[0])})", TEXT)

    def upper(self, _more: str, _node: Node, parts: list[Value]) -> Value:
        return Value(f"upper({text(parts[0])})", TEXT)

    def substring(self, _more: str, _node: Node, parts: list[Value]) -> Value:
        whole, start = text(parts[0]), f"CAST({number(parts[1])} AS BIGINT)"
        if len(parts) == 2:
            return Value(f"substring({whole}, greatest({start}, 1))", TEXT)
        count = f"CAST({number(parts[2])} AS BIGINT)"
        return Value(f"substring({whole}, greatest({start}, 1), greatest({start} + {count} - greatest({start}, 1), 0))", TEXT)

    def trim(self, side: str, _node: Node, parts: list[Value]) -> Value:
        name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(side, "trim")
        return Value(f"{name}({', '.join(text(part) for part in parts)})", TEXT)

    def utcnow(self, _more: str, _node: Node, _parts: list[Value]) -> Value:
        return Value(f"TIMESTAMP '{self._now:%Y-%m-%d %H:%M:%S.%f}'", TIME)

    def to_timestamp(self, _more: str, node: Node, parts: list[Value]) -> Value:
        written = node.parts[0]
        if written.kind == "literal" and isinstance(written.value, str):
            return Value(f"CAST({quoted(ion_time(written.value))} AS TIMESTAMP)", TIME)
        return Value(f"CAST({text(parts[0])} AS TIMESTAMP)", TIME)

    def to_string(self, _more: str, node: Node, parts: list[Value]) -> Value:
        pattern = node.parts[1]
        if pattern.kind != "literal" or not isinstance(pattern.value, str):
            raise failure("EvaluatorInvalidTimestampFormatPattern", "The timestamp format pattern must be a string literal.")
        return Value(f"strftime({time(parts[0])}, {quoted(strftime_of(pattern.value))})", TEXT)

    def date_add(self, part: str, _node: Node, parts: list[Value]) -> Value:
        check_part(part)
        return Value(
            f"({time(parts[1])} + to_{part.lower()}s(CAST({number(parts[0])} AS {'BIGINT' if part != 'SECOND' else 'DOUBLE'})))",
            TIME,
        )

    def date_diff(self, part: str, _node: Node, parts: list[Value]) -> Value:
        check_part(part)
        return Value(f"date_sub('{part.lower()}', {time(parts[0])}, {time(parts[1])})", NUMBER)

    def extract(self, part: str, _node: Node, parts: list[Value]) -> Value:
        if part.startswith("TIMEZONE"):
            return Value("0", NUMBER)
        return Value(f"date_part('{part.lower()}', {time(parts[0])})", NUMBER)

    def coalesce(self, _more: str, _node: Node, parts: list[Value]) -> Value:
        results, kind = alike(parts)
        return Value(f"coalesce({', '.join(results)})", kind)

    def nullif(self, _more: str, _node: Node, parts: list[Value]) -> Value:
        return Value(f"(CASE WHEN {compared(parts[0], '=', parts[1])} THEN NULL ELSE {parts[0].sql} END)", parts[0].kind)


_MAKERS: Mapping[str, Callable[[Planner, Node, list[Value]], Value]] = {
    "unary": Planner.unary,
    "binary": Planner.binary,
    "is": Planner.is_,
    "in": Planner.in_,
    "between": Planner.between,
    "like": Planner.like,
    "cast": Planner.cast,
    "case": Planner.case,
    "call": Planner.call,
}
_FUNCTIONS: Mapping[str, Callable[[Planner, str, Node, list[Value]], Value]] = {
    "CHAR_LENGTH": Planner.length,
    "CHARACTER_LENGTH": Planner.length,
    "LOWER": Planner.lower,
    "UPPER": Planner.upper,
    "SUBSTRING": Planner.substring,
    "TRIM": Planner.trim,
    "UTCNOW": Planner.utcnow,
    "TO_TIMESTAMP": Planner.to_timestamp,
    "TO_STRING": Planner.to_string,
    "DATE_ADD": Planner.date_add,
    "DATE_DIFF": Planner.date_diff,
    "EXTRACT": Planner.extract,
    "COALESCE": Planner.coalesce,
    "NULLIF": Planner.nullif,
}


# -- scopes -------------------------------------------------------------------------------------------------------------


def csv_scope(width: int, names: Sequence[str] | None) -> Scope:
    """Records of up to `width` fields, c1, c2, ...; what a record lacks is missing. names: the header's, where it counts."""

    def find(steps: tuple[Step, ...]) -> Value:
        if len(steps) != 1 or not steps[0].name:
            raise failure("ParseInvalidPathComponent", "The SQL expression contains a path component that is not valid.")
        at = position_of(steps[0], names)
        return Value(f"c{at}", TEXT) if 1 <= at <= width else Value("CAST(NULL AS VARCHAR)", TEXT)

    def all_csv(output: Output) -> str:
        fields = [f"CASE WHEN c{at} IS NOT NULL THEN {csv_field(f'c{at}', output)} END" for at in range(1, width + 1)]
        return f"concat_ws({quoted(output.field)}, {', '.join(fields) or 'NULL'})"

    pairs = [
        f"{quoted(json_text(names[at] if names is not None and at < len(names) else f'_{at + 1}') + ':')} || to_json(c{at + 1})"
        for at in range(width)
    ]
    return Scope("block", find, all_csv, f"'{{' || concat_ws(',', {', '.join(pairs) or 'NULL'}) || '}}'")


def position_of(step: Step, names: Sequence[str] | None) -> int:
    """Which field a name means."""
    if names is not None:
        for at, name in enumerate(names, 1):
            if name == step.name or (not step.is_exact and name.lower() == step.name.lower()):
                return at
    if not step.is_exact and (found := _POSITION.match(step.name)) is not None:
        return int(found[1])
    if names is None:
        raise failure(
            "InvalidColumnIndex", "The column index in the SQL expression is not valid. Check the column index and try again."
        )
    raise failure("MissingHeaders", "Some headers in the query are missing from the file. Check the file and try again.")


def json_scope(source: Sequence[Step]) -> Scope:
    """Records of JSON: each what the path behind FROM leads to."""

    def find(steps: tuple[Step, ...]) -> Value:
        if not steps:
            return Value("r", JSON)
        found = f"json_extract(r, {quoted(json_path(steps))})"
        return Value(f"to_json({found})" if any(step.is_every for step in steps) else found, JSON)

    def all_csv(output: Output) -> str:
        field = csv_field("coalesce((x ->> '$'), '')", output)
        return f"array_to_string(list_transform(json_extract(r, '$.*'), lambda x: {field}), {quoted(output.field)})"

    return Scope(f"({json_rows(source)})", find, all_csv, "CAST(r AS VARCHAR)")


def json_rows(source: Sequence[Step]) -> str:
    last = max((at for at, step in enumerate(source) if step.is_every), default=-1)
    before, behind = source[: last + 1], source[last + 1 :]
    rows = "SELECT CAST(j AS JSON) AS e FROM block"
    if before:
        rows = f"SELECT unnest(json_extract(e, {quoted(json_path(before))})) AS e FROM ({rows})"
    value = f"json_extract(e, {quoted(json_path(behind))})" if behind else "e"
    name = json_text(behind[-1].name if behind and behind[-1].name else "_1")
    wrapped = f"CASE WHEN v IS NULL THEN '{{}}' ELSE {quoted('{' + name + ':')} || CAST(v AS VARCHAR) || '}}' END"
    return f"SELECT CASE json_type(v) WHEN 'OBJECT' THEN v ELSE CAST({wrapped} AS JSON) END AS r FROM (SELECT {value} AS v FROM ({rows}))"


def json_path(steps: Sequence[Step]) -> str:
    parts = ["$"]
    for step in steps:
        if step.is_every:
            parts.append("[*]")
        elif step.at is not None:
            parts.append(f"[{step.at}]")
        elif '"' in step.name:
            raise failure("ParseInvalidPathComponent", "The SQL expression contains a path component that is not valid.")
        else:
            parts.append(f'."{step.name}"')
    return "".join(parts)


def parquet_scope(names: Sequence[str]) -> Scope:
    """Records with typed columns."""

    def find(steps: tuple[Step, ...]) -> Value:
        if not steps or not steps[0].name:
            raise failure("ParseInvalidPathComponent", "The SQL expression contains a path component that is not valid.")
        sql = identifier(names[parquet_column(steps[0], names)])
        for step in steps[1:]:
            if step.is_every:
                raise failure("ParseInvalidPathComponent", "The SQL expression contains a path component that is not valid.")
            sql = f"({sql})[{step.at + 1}]" if step.at is not None else f"({sql}).{identifier(step.name)}"
        return Value(sql, NATIVE)

    def all_csv(output: Output) -> str:
        fields = [csv_field(f"coalesce({text(Value(identifier(name), NATIVE))}, '')", output) for name in names]
        return f" || {quoted(output.field)} || ".join(fields)

    pairs = [f"{quoted(json_text(name) + ':')} || {as_json(Value(identifier(name), NATIVE))}" for name in names]
    return Scope("block", find, all_csv, f"'{{' || concat_ws(',', {', '.join(pairs)}) || '}}'")


def parquet_column(step: Step, names: Sequence[str]) -> int:
    for at, name in enumerate(names):
        if name == step.name or (not step.is_exact and name.lower() == step.name.lower()):
            return at
    if not step.is_exact and (found := _POSITION.match(step.name)) is not None and 1 <= int(found[1]) <= len(names):
        return int(found[1]) - 1
    raise failure("MissingHeaders", "Some headers in the query are missing from the file. Check the file and try again.")


def has_path(node: Node) -> bool:
    """Whether a value of a single record stands outside of aggregates."""
    if is_aggregate(node):
        return False
    return node.kind == "path" or any(has_path(part) for part in node.parts)


# -- conversions --------------------------------------------------------------------------------------------------------


def quoted(value: str) -> str:
    if "\0" in value:
        raise failure("LexerInvalidChar", "The SQL expression contains an invalid character.")
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def json_text(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def literal(value: Any) -> Value:
    if value is None:
        return Value("NULL", NOTHING)
    if isinstance(value, bool):
        return Value(str(value).lower(), TRUTH)
    if isinstance(value, (int, float)):
        return Value(repr(value), NUMBER)
    return Value(quoted(value), TEXT)


def text(value: Value) -> str:
    if value.kind == TEXT:
        return value.sql
    if value.kind == JSON:
        return f"({value.sql} ->> '$')"
    if value.kind == TIME:
        return f"strftime({value.sql}, '%Y-%m-%dT%H:%M:%SZ')"
    return f"CAST({value.sql} AS VARCHAR)"


def as_json(value: Value) -> str:
    """As JSON's text; NULL where it is missing."""
    if value.kind == JSON:
        return f"CAST({value.sql} AS VARCHAR)"
    if value.kind == TEXT:
        return f"CAST(to_json({value.sql}) AS VARCHAR)"
    if value.kind == TIME:
        return f"CAST(to_json({text(value)}) AS VARCHAR)"
    return f"coalesce(CAST(to_json({value.sql}) AS VARCHAR), 'null')"


def number(value: Value) -> str:
    """A number, or NULL where there is none."""
    if value.kind == TEXT:
        return f"TRY_CAST({value.sql} AS DOUBLE)"
    if value.kind == JSON:
        return f"TRY_CAST(CAST({value.sql} AS VARCHAR) AS DOUBLE)"
    return value.sql


def truth(value: Value) -> str:
    if value.kind in (TEXT, JSON):
        return f"TRY_CAST({text(value)} AS BOOLEAN)"
    return value.sql


def time(value: Value) -> str:
    return f"TRY_CAST({text(value)} AS TIMESTAMP)" if value.kind in (TEXT, JSON) else value.sql


def is_null(value: Value) -> str:
    if value.kind == JSON:
        return f"({value.sql} IS NULL OR json_type({value.sql}) = 'NULL')"
    return f"({value.sql} IS NULL)"


def compared(left: Value, sign: str, right: Value) -> str:
    kinds = {left.kind, right.kind}
    if NATIVE in kinds:
        return f"({left.sql} {sign} {right.sql})"
    for kind, convert in ((NUMBER, number), (TRUTH, truth), (TIME, time)):
        if kind in kinds:
            return f"({convert(left)} {sign} {convert(right)})"
    as_text = f"({text(left)} {sign} {text(right)})"
    if kinds == {JSON}:
        low, high = number(left), number(right)
        return f"(CASE WHEN {low} IS NOT NULL AND {high} IS NOT NULL THEN {low} {sign} {high} ELSE {as_text} END)"
    return as_text


def alike(values: Sequence[Value]) -> tuple[list[str], str]:
    """Values of one kind: their own, or text."""
    kinds = {value.kind for value in values} - {NOTHING}
    if len(kinds) <= 1:
        return [value.sql for value in values], kinds.pop() if kinds else NOTHING
    return [text(value) for value in values], TEXT


def csv_field(sql: str, output: Output) -> str:
    """A field, in quotation marks where it needs them."""
    inner = f"replace({sql}, {quoted(output.quote)}, {quoted(output.escape + output.quote)})"
    wrapped = f"{quoted(output.quote)} || {inner} || {quoted(output.quote)}"
    if output.is_always:
        return f"({wrapped})"
    telling = dict.fromkeys((output.field, output.quote, output.record, "\n", "\r"))
    tests = " OR ".join(f"contains({sql}, {quoted(mark)})" for mark in telling if mark)
    return f"(CASE WHEN {tests} THEN {wrapped} ELSE {sql} END)"


def ion_time(written: str) -> str:
    """A timestamp with its parts filled up: 2007T is the beginning of that year."""
    found = _ION.match(written.strip())
    if found is None:
        raise failure("CastFailed", "Attempt to convert from one data type to another using CAST failed in the SQL expression.")
    year, month, day, hour, minute, second, zone = found.groups()
    zone = "" if zone in (None, "Z") else zone
    return f"{year}-{month or '01'}-{day or '01'} {hour or '00'}:{minute or '00'}:{second or '00'}{zone}"


def strftime_of(pattern: str) -> str:
    parts = []
    for found in _PATTERN.findall(pattern):
        if found[0] == "'":
            parts.append(found[1:-1].replace("%", "%%") or "'")
        elif found[0] == "X":
            parts.append("Z")
        elif found[0] == "x":
            parts.append("+00:00" if len(found) in (3, 5) else "+0000" if len(found) > 1 else "+00")
        elif found[0] == "S":
            parts.append({1: "%g", 2: "%g", 3: "%g"}.get(len(found), "%f"))
        elif found in _STRFTIME:
            parts.append(_STRFTIME[found])
        elif found.isalpha():
            raise failure(
                "EvaluatorInvalidTimestampFormatPatternToken",
                f"The timestamp format pattern contains a token that is not valid: {found}",
            )
        else:
            parts.append(found.replace("%", "%%"))
    return "".join(parts)


def check_part(part: str) -> None:
    if part.startswith("TIMEZONE"):
        raise failure("ParseExpectedDatePart", "A time zone's parts are not supported in this function.")
