"""Tells whether a statement stays with one tenant: what must hold of every one, so that none crosses shards.

A table of tenants counts as tied if the statement says `tenant_id = $1` of it, or that its `tenant_id` is that of a
table that is tied; what is inserted must have `$1` in that column. In the body of a function, its first argument stands
for `$1`. Statements are read by Postgres' own parser. Whatever it does not understand counts as a fault: `IN`, `OR`,
`USING`, names without a table where there are several.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pglast
from pglast import ast
from pglast.enums import A_Expr_Kind, BoolExprType, JoinType, SetOperation

_TENANT_COLUMN = "tenant_id"


@dataclass(frozen=True)
class Schema:
    """What there is in a database, as far as tenants are concerned."""

    tenant_tables: frozenset[str]
    tenant_functions: frozenset[str] = frozenset()
    """Functions whose first argument is the tenant that they stay with."""
    wide_functions: frozenset[str] = frozenset()
    """Functions that look over all tenants."""


def faults(statement: str, schema: Schema, *, argument: str | None = None) -> list[str]:
    """Where the statement may leave its tenant; empty if it stays with it.

    `argument`: the name that `$1` has besides, in the body of a function.
    """
    check = _Check(schema, argument)
    for parsed in pglast.parse_sql(statement):
        check.visit(parsed.stmt, None, frozenset())
        if not _is(parsed.stmt, _STATEMENTS):
            check.found.append(f"a {type(parsed.stmt).__name__} cannot be judged")
    return check.found


def tables(statement: str) -> set[str]:
    """The tables that the statement names."""
    return {
        node.relname
        for parsed in pglast.parse_sql(statement)
        for node in _nodes(parsed.stmt)
        if _is(node, ast.RangeVar)
    }


def functions(statement: str) -> set[str]:
    """The functions that the statement calls."""
    return {
        _name(node) for parsed in pglast.parse_sql(statement) for node in _nodes(parsed.stmt) if _is(node, ast.FuncCall)
    }


def only_reads(statement: str) -> bool:
    """Whether it neither writes nor locks rows."""
    return not any(
        _is(node, (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt, ast.LockingClause))
        for parsed in pglast.parse_sql(statement)
        for node in _nodes(parsed.stmt)
    )


def statements_of_plpgsql(arguments: Sequence[str], body: str) -> list[str]:
    """The statements and expressions of a function's body, each as a statement.

    Raises:
        ValueError: it runs text that is put together while it runs, which cannot be read beforehand.
    """
    # The parser knows no types but the built-in ones; what a body says does not depend on them.
    names = ", ".join(f"{name} text" for name in arguments)
    returned = "SETOF text" if re.search(r"\bRETURN\s+(QUERY|NEXT)\b", body) else "text"
    definition = f"CREATE FUNCTION f({names}) RETURNS {returned} LANGUAGE plpgsql AS $f${body}$f$"
    found: list[str] = []
    _read_plpgsql(pglast.parse_plpgsql(definition), found)
    return found


def _read_plpgsql(part: Any, found: list[str]) -> None:
    if isinstance(part, list):
        for one in part:
            _read_plpgsql(one, found)
    elif isinstance(part, dict):
        for key, value in part.items():
            if "dyn" in key:
                raise ValueError("it runs a statement that is put together while it runs")
            if key == "PLpgSQL_expr":
                query = value["query"]
                # 0: a statement, 2: an expression, 3: an assignment.
                found.append(query if value["parseMode"] == 0 else f"SELECT {query.split(':=')[-1]}")
            _read_plpgsql(value, found)


def _is(node: Any, kinds: type | tuple[type, ...]) -> bool:
    """`isinstance` that leaves the node untyped: every attribute of the parser's types may be None."""
    return isinstance(node, kinds)


_STATEMENTS = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt)


@dataclass
class _Scope:
    """One FROM with its conditions: the tables by the names that they have in it."""

    outer: "_Scope | None"
    tables: dict[str, str] = field(default_factory=dict)
    conditions: list[tuple[Any, frozenset[str] | None]] = field(default_factory=list)
    """Each with the tables whose rows it restricts; None: all."""
    sources: int = 0
    """Everything that has columns, tables or not."""
    tied: set[str] = field(default_factory=set)

    def add(self, item: Any, ctes: frozenset[str]) -> frozenset[str]:
        """Take in an item of FROM; the names of its tables."""
        if _is(item, ast.JoinExpr):
            left, right = self.add(item.larg, ctes), self.add(item.rarg, ctes)
            restricted = {
                JoinType.JOIN_INNER: None,
                JoinType.JOIN_LEFT: right,
                JoinType.JOIN_RIGHT: left,
            }.get(item.jointype, frozenset())
            self.conditions += [(one, restricted) for one in _conjuncts(item.quals)]
            return left | right
        self.sources += 1
        if _is(item, ast.RangeVar) and (item.schemaname or item.relname not in ctes):
            name = item.alias.aliasname if item.alias else item.relname
            self.tables[name] = item.relname
            return frozenset({name})
        return frozenset()

    def is_tied(self, name: str) -> bool:
        """Whether a table of this scope, or of one around it, is tied."""
        if name in self.tables or self.outer is None:
            return name in self.tied
        return self.outer.is_tied(name)

    def owner(self, column: Any) -> str | None:
        """The table whose tenant column this is; None if it is none, or not to be told."""
        if not _is(column, ast.ColumnRef):
            return None
        parts = [part.sval for part in column.fields if _is(part, ast.String)]
        if len(parts) != len(column.fields) or parts[-1] != _TENANT_COLUMN:
            return None
        if len(parts) == 2:
            return str(parts[0])
        return next(iter(self.tables)) if self.sources == 1 and self.tables else None


class _Check:
    def __init__(self, schema: Schema, argument: str | None) -> None:
        self.found: list[str] = []
        self._schema = schema
        self._argument = argument

    def visit(self, node: Any, scope: _Scope | None, ctes: frozenset[str]) -> None:
        """Judge everything in a part of a statement."""
        if isinstance(node, (tuple, list)):
            for one in node:
                self.visit(one, scope, ctes)
            return
        if not _is(node, ast.Node) or _is(node, ast.LockingClause):
            return
        if _is(node, _STATEMENTS):
            self._statement(node, scope, ctes)
            return
        if _is(node, ast.MergeStmt):
            self.found.append("a MERGE cannot be judged")
        if _is(node, ast.FuncCall):
            self._call(node)
        for value in _children(node):
            self.visit(value, scope, ctes)

    def _statement(self, node: Any, outer: _Scope | None, ctes: frozenset[str]) -> None:
        if node.withClause:
            ctes = ctes | {one.ctename for one in node.withClause.ctes}
            for one in node.withClause.ctes:
                self.visit(one.ctequery, outer, ctes)
        if _is(node, ast.SelectStmt) and node.op != SetOperation.SETOP_NONE:
            self._statement(node.larg, outer, ctes)
            self._statement(node.rarg, outer, ctes)
            return
        scope = _Scope(outer)
        if _is(node, ast.InsertStmt):
            scope.add(node.relation, ctes)
            scope.tied |= set(scope.tables)
            self._insert(node)
        else:
            for item in _sources(node):
                scope.add(item, ctes)
            scope.conditions += [(one, None) for one in _conjuncts(node.whereClause)]
            self._tie(scope)
        if _is(node, ast.UpdateStmt):
            self._keeps_tenant(node.targetList)
        for value in _children(node, besides=("withClause", "relation")):
            self.visit(value, scope, ctes)

    def _tie(self, scope: _Scope) -> None:
        grown = True
        while grown:
            grown = False
            for condition, restricted in scope.conditions:
                for one, other in _equal(condition):
                    name = scope.owner(one)
                    if name not in scope.tables or name in scope.tied:
                        continue
                    if restricted is not None and name not in restricted:
                        continue
                    source = scope.owner(other)
                    if self._is_tenant(other) or (source is not None and scope.is_tied(source)):
                        scope.tied.add(name)
                        grown = True
        for name, table in scope.tables.items():
            if table in self._schema.tenant_tables and name not in scope.tied:
                self.found.append(f"{table} ({name}) is not tied to the tenant")

    def _insert(self, node: Any) -> None:
        table = node.relation.relname
        if table not in self._schema.tenant_tables:
            return
        columns = [column.name for column in node.cols or ()]
        if columns and _TENANT_COLUMN not in columns:
            self.found.append(f"{table}: what is inserted has no tenant")
            return
        # Without names of columns: the tenant is the first one of every table.
        place = columns.index(_TENANT_COLUMN) if columns else 0
        if not self._gives_tenant(node.selectStmt, place):
            self.found.append(f"{table}: what is inserted may be another tenant's")
        conflict = node.onConflictClause
        if conflict is None:
            return
        self._keeps_tenant(conflict.targetList)
        elements = conflict.infer.indexElems if conflict.infer else None
        if elements and _TENANT_COLUMN not in [element.name for element in elements]:
            self.found.append(f"{table}: the key of the conflict has no tenant")

    def _gives_tenant(self, select: Any, place: int) -> bool:
        """Whether a source of rows has the tenant in this column."""
        if select is None:
            return False
        if select.op != SetOperation.SETOP_NONE:
            return self._gives_tenant(select.larg, place) and self._gives_tenant(select.rarg, place)
        if select.valuesLists:
            return all(self._is_tenant(row[place]) for row in select.valuesLists)
        before = [target.val for target in select.targetList or ()][: place + 1]
        if len(before) <= place or any(_is_star(one) for one in before):
            return False
        return self._is_tenant(before[place])

    def _keeps_tenant(self, targets: Any) -> None:
        if any(target.name == _TENANT_COLUMN for target in targets or ()):
            self.found.append("a row's tenant is changed")

    def _call(self, node: Any) -> None:
        name = _name(node)
        if name in self._schema.wide_functions:
            self.found.append(f"{name}() looks over all tenants")
        if name in self._schema.tenant_functions and not (node.args and self._is_tenant(node.args[0])):
            self.found.append(f"{name}() is not given the tenant")

    def _is_tenant(self, node: Any) -> bool:
        while _is(node, ast.TypeCast):
            node = node.arg
        if _is(node, ast.ColumnRef) and self._argument is not None:
            return [getattr(part, "sval", None) for part in node.fields] == [self._argument]
        return _is(node, ast.ParamRef) and node.number == 1


def _sources(node: Any) -> Iterator[Any]:
    if _is(node, (ast.UpdateStmt, ast.DeleteStmt)):
        yield node.relation
    yield from (node.usingClause if _is(node, ast.DeleteStmt) else node.fromClause) or ()


def _conjuncts(node: Any) -> Iterator[Any]:
    if _is(node, ast.BoolExpr) and node.boolop == BoolExprType.AND_EXPR:
        for one in node.args:
            yield from _conjuncts(one)
    elif node is not None:
        yield node


def _equal(node: Any) -> tuple[tuple[Any, Any], ...]:
    """Both ways to read an equality; nothing if it is none."""
    if _is(node, ast.A_Expr) and node.kind == A_Expr_Kind.AEXPR_OP and [one.sval for one in node.name] == ["="]:
        return (node.lexpr, node.rexpr), (node.rexpr, node.lexpr)
    return ()


def _is_star(node: Any) -> bool:
    return _is(node, ast.ColumnRef) and _is(node.fields[-1], ast.A_Star)


def _name(call: Any) -> str:
    return str(call.funcname[-1].sval)


def _children(node: Any, besides: Sequence[str] = ()) -> Iterator[Any]:
    return (getattr(node, name) for name in node if name not in besides)


def _nodes(node: Any) -> Iterator[Any]:
    if isinstance(node, (tuple, list)):
        for one in node:
            yield from _nodes(one)
    elif _is(node, ast.Node):
        yield node
        for value in _children(node):
            yield from _nodes(value)
