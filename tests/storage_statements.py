"""Every SQL statement of the service, read from its storage modules, and by which way each reaches the database."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from decisiongraph_service import storage
from decisiongraph_service.storage import projection_state

_STATEMENT = re.compile(r"\s*\(?\s*(SELECT|INSERT|UPDATE|DELETE|WITH|MERGE|TRUNCATE|COPY)\b")
_SENDERS = {
    *("fetch", "fetchrow", "fetchval", "fetch_row", "fetch_value", "iterate", "execute", "executemany", "prepare"),
    *("fetch_installation_rows", "fetch_installation_value"),
}
_TENANT_TRANSACTION = "TenantTransaction"


def modules() -> list[ModuleType]:
    """The storage modules."""
    return [importlib.import_module(f"{storage.__name__}.{one.name}") for one in pkgutil.iter_modules(storage.__path__)]


def name(module: ModuleType) -> str:
    """A module's name within storage."""
    return module.__name__.rpartition(".")[2]


def constants(module: ModuleType) -> dict[str, list[str]]:
    """The statements of a module by the names of the constants that hold them."""
    found = {}
    for constant, value in vars(module).items():
        texts = [value] if isinstance(value, str) else value if isinstance(value, tuple) else []
        statements = [text for text in texts if isinstance(text, str) and _STATEMENT.match(text)]
        # What documents the module begins like anything else.
        if statements and constant != "__doc__":
            found[constant] = statements
    return found


def removals() -> list[str]:
    """The statements that projection_state makes, one for each table of a projection."""
    return [projection_state._remove(table) for tables in projection_state._TABLES.values() for table in tables]


def written_in_functions(module: ModuleType) -> dict[str, list[str]]:
    """Statements that are no constants, by the functions that they are written in."""
    found: dict[str, list[str]] = {}
    for function in _functions(module):
        own = {id(part) for part in ast.walk(function) if isinstance(part, ast.Expr)}
        documentation = {
            id(part.value) for part in ast.walk(function) if id(part) in own and isinstance(part, ast.Expr)
        }
        for part in ast.walk(function):
            if isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and isinstance(part.value, str)):
                text = ast.unparse(part) if isinstance(part, ast.JoinedStr) else str(part.value)
                if id(part) not in documentation and _STATEMENT.match(text.lstrip("frb\"'\\n ")):
                    found.setdefault(function.name, []).append(text)
    return found


def sent_outside_of_tenants(module: ModuleType) -> set[str]:
    """The constants whose statements are sent by anything else than a transaction of a tenant."""
    known = constants(module)
    found = set()
    for function in _functions(module):
        of_tenants = {
            argument.arg
            for argument in (*function.args.args, *function.args.kwonlyargs)
            if argument.annotation is not None and ast.unparse(argument.annotation) == _TENANT_TRANSACTION
        }
        for call in _sendings(function):
            if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in of_tenants:
                continue
            found |= {part.id for part in ast.walk(call) if isinstance(part, ast.Name) and part.id in known}
    return found


def _sendings(function: ast.AST) -> Iterator[ast.Call]:
    for part in ast.walk(function):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in _SENDERS:
            yield part


def _functions(module: ModuleType) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    if module.__file__ is None:
        raise LookupError(f"{module.__name__} has no file")
    for part in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield part
