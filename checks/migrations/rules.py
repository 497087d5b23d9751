"""What a migration may do while the release before it serves: an allow list over Postgres's own parse.

What is not known to be safe for the release before is refused, with the way that is. Source of what locks or
rewrites: https://www.postgresql.org/docs/15/sql-altertable.html, and squawk's rules, which are asked as well.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pglast import ast, enums, parse_sql
from pglast.parser import ParseError
from pglast.stream import RawStream

BOOKKEEPING = "alembic_version"
SETTINGS = frozenset({"lock_timeout", "statement_timeout", "client_min_messages"})
STORAGE = ("fillfactor", "autovacuum_", "toast.autovacuum_", "parallel_workers")
STEPS = "expand, release, and only then contract"
AT = enums.AlterTableType
CONSTRAINT = enums.ConstrType
UNKNOWN = "not known to be safe for the release before"
NOTHING_GOES = "drop nothing: data only moves forward"
# Why, and what instead.
Complaint = tuple[str, str]
ALTERATIONS: Mapping[enums.AlterTableType, Complaint] = {
    AT.AT_ColumnDefault: (
        "rows that the release before writes would get it too",
        f"a column of its own; {STEPS}",
    ),
    AT.AT_AddConstraint: ("the release before may write what it forbids, and it locks the table", STEPS),
    AT.AT_AlterColumnType: (
        "it rewrites the table under a lock, and the release before reads the old type",
        STEPS,
    ),
    AT.AT_DropColumn: ("the release before still uses it", NOTHING_GOES),
    AT.AT_DropConstraint: ("the release before still uses it", NOTHING_GOES),
    AT.AT_SetNotNull: ("the release before may write NULL", "a default, and a new column"),
    AT.AT_DropNotNull: ("the release before may not expect NULL", "a new column"),
}
# Functions whose value at ALTER TABLE is one for all rows, so that no table is rewritten.
STABLE = frozenset({"now", "transaction_timestamp", "statement_timestamp", "timezone", "current_setting"})
CHANGES_ROWS = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
WITHOUT_RISK = (
    *(ast.TransactionStmt, ast.CommentStmt, ast.CreateEnumStmt, ast.CompositeTypeStmt),
    *(ast.CreateSeqStmt, ast.CreateSchemaStmt),
)


@dataclass(frozen=True)
class Refusal:
    """A statement that the release before might not survive: why, and what to do instead."""

    statement: str
    why: str
    instead: str

    def __str__(self) -> str:
        return f"{self.statement}: {self.why}. Instead: {self.instead}."


@dataclass
class Schema:
    """What the migrations have made: ``old`` is what the release before uses, ``new`` is not in its way."""

    old: set[str] = field(default_factory=set)
    new: set[str] = field(default_factory=set)
    new_columns: set[tuple[str, str]] = field(default_factory=set)

    def make(self, name: str) -> None:
        """Take note of what a migration makes; ``IF NOT EXISTS`` makes nothing new of what is there."""
        if name not in self.old:
            self.new.add(name)

    def settle(self) -> None:
        """From here on the release before uses what there is."""
        self.old |= self.new
        self.new, self.new_columns = set(), set()


def refusals(sql: str, schema: Schema) -> list[Refusal]:
    """Judge the statements of one migration in order; ``schema`` learns what they make."""
    try:
        statements: Sequence[ast.Node] = [raw.stmt for raw in parse_sql(sql)]
    except ParseError as error:
        return [Refusal("the migration", f"Postgres cannot parse it: {error}", "SQL that Postgres 15 reads")]
    found = []
    for at, statement in enumerate(statements):
        for why, instead in _complaints(statement, statements[at + 1 :], schema):
            found.append(Refusal(shown(statement), why, instead))
        _learn(statement, schema)
    return found


def shown(statement: ast.Node, characters: int = 90) -> str:
    """A statement in one short line."""
    words = " ".join(RawStream()(statement).split())
    return words if len(words) <= characters else f"{words[: characters - 1]}…"


def _complaints(statement: ast.Node, later: Sequence[ast.Node], schema: Schema) -> Iterator[Complaint]:
    if any(isinstance(inside, CHANGES_ROWS) for inside in _parts(statement) if inside is not statement):
        yield "it changes rows inside of another statement", "a statement of its own"
    if isinstance(statement, WITHOUT_RISK):
        return
    if isinstance(statement, ast.DropStmt):
        yield from _of_drop(statement, later, schema)
    elif judge := JUDGES.get(type(statement)):
        yield from judge(statement, schema)
    else:
        kind = type(statement).__name__.removesuffix("Stmt")
        yield f"{kind} is {UNKNOWN}", f"a table, column, index or function of its own; {STEPS}"


def _of_setting(statement: ast.VariableSetStmt, _: Schema) -> Iterator[Complaint]:
    if statement.name not in SETTINGS:
        yield f"it sets {statement.name} for whatever comes after", "leave the session as it is"


def _of_function(statement: ast.CreateFunctionStmt, schema: Schema) -> Iterator[Complaint]:
    name = _last(statement.funcname)
    if name in schema.old:
        other = f"a function of another name, such as {name.rstrip('0123456789')}2"
        yield f"the release before calls {name} as it is now", other


def _of_grant(statement: ast.GrantStmt, _: Schema) -> Iterator[Complaint]:
    if not statement.is_grant:
        yield "the release before may need the right", "revoke it with the last release that used it"


def _of_rows(statement: ast.InsertStmt | ast.DeleteStmt, schema: Schema) -> Iterator[Complaint]:
    if not _is_new(statement.relation, schema):
        yield f"it changes rows of {_name(statement.relation)} that are in use", "the service's own API"


def _of_table(statement: ast.AlterTableStmt, schema: Schema) -> Iterator[Complaint]:
    if statement.objtype != enums.ObjectType.OBJECT_TABLE:
        yield "only tables are altered", STEPS
    elif not _is_new(statement.relation, schema):
        for command in statement.cmds:
            yield from _of_alteration(command)


def _of_new_relation(statement: ast.Node, schema: Schema) -> Iterator[Complaint]:
    if isinstance(statement, ast.ViewStmt) and statement.replace:
        yield "the release before may read the view as it is", "a view of another name"
    for element in getattr(statement, "tableElts", None) or ():
        constraints = (
            [element] if isinstance(element, ast.Constraint) else getattr(element, "constraints", None) or ()
        )
        for constraint in constraints:
            if constraint.contype == CONSTRAINT.CONSTR_FOREIGN and not _is_new(constraint.pktable, schema):
                to = _name(constraint.pktable)
                yield f"a foreign key locks {to}, and its rows could no longer be deleted", "no foreign key"
    if getattr(statement, "inhRelations", None):
        yield "reads of the parent see the new table's rows", "a table of its own"


def _of_index(statement: ast.IndexStmt, schema: Schema) -> Iterator[Complaint]:
    if _is_new(statement.relation, schema):
        return
    if not statement.concurrent:
        yield (
            f"writers of {_name(statement.relation)} wait until it is built",
            "CREATE INDEX CONCURRENTLY, outside of a transaction",
        )
    if statement.unique:
        yield "the release before may write what it forbids", f"a plain index; {STEPS}"


def _of_alteration(command: ast.AlterTableCmd) -> Iterator[Complaint]:
    if command.subtype == AT.AT_AddColumn:
        yield from _of_new_column(command.def_)
    elif command.subtype in (AT.AT_SetRelOptions, AT.AT_ResetRelOptions):
        for option in command.def_ or ():
            if not option.defname.startswith(STORAGE):
                yield f"{option.defname} is {UNKNOWN}", "storage parameters only"
    elif command.subtype != AT.AT_SetStatistics:
        name = command.subtype.name.removeprefix("AT_")
        yield ALTERATIONS.get(command.subtype, (f"{name} is {UNKNOWN}", STEPS))


def _of_new_column(column: ast.ColumnDef) -> Iterator[Complaint]:
    kinds = {constraint.contype for constraint in column.constraints or ()}
    named = f"column {column.colname}"
    if column.typeName.names[-1].sval in ("serial", "bigserial", "smallserial"):
        yield f"{named} is filled row by row under a lock", "a column without a default"
    if CONSTRAINT.CONSTR_NOTNULL in kinds and CONSTRAINT.CONSTR_DEFAULT not in kinds:
        yield (
            f"{named} must be given, and the release before does not know it",
            "a DEFAULT, or let it be NULL",
        )
    unsafe = kinds - {CONSTRAINT.CONSTR_NOTNULL, CONSTRAINT.CONSTR_DEFAULT, CONSTRAINT.CONSTR_NULL}
    if unsafe:
        listed = ", ".join(sorted(kind.name.removeprefix("CONSTR_") for kind in unsafe))
        yield f"{named} brings {listed}, which locks, rewrites or forbids", "a plain column"
    for constraint in column.constraints or ():
        if constraint.contype == CONSTRAINT.CONSTR_DEFAULT and not _is_one_for_all(constraint.raw_expr):
            yield (
                f"the default of {named} may be another in each row, so the table is rewritten",
                "a constant",
            )


def _is_one_for_all(expression: ast.Node) -> bool:
    """Say whether a default is known to have one value for all rows."""
    match expression:
        case ast.A_Const() | ast.SQLValueFunction():
            return True
        case ast.TypeCast():
            return _is_one_for_all(expression.arg)
        case ast.FuncCall():
            return _last(expression.funcname) in STABLE and all(map(_is_one_for_all, expression.args or ()))
        case ast.A_ArrayExpr():
            return all(map(_is_one_for_all, expression.elements or ()))
    return False


def _of_drop(statement: ast.DropStmt, later: Sequence[ast.Node], schema: Schema) -> Iterator[Complaint]:
    names = {_last(dropped) if isinstance(dropped, tuple) else str(dropped) for dropped in statement.objects}
    if statement.removeType != enums.ObjectType.OBJECT_INDEX:
        if not names <= schema.new:
            yield "the release before may still use it", NOTHING_GOES
        return
    rebuilt = {next_.idxname for next_ in later if isinstance(next_, ast.IndexStmt)}
    if not names <= schema.new | rebuilt:
        yield "the release before may rest on the index", "leave it, or build it again right after"
    elif not statement.concurrent:
        yield "everybody waits for the lock", "DROP INDEX CONCURRENTLY"


def _of_update(statement: ast.UpdateStmt, schema: Schema) -> Iterator[Complaint]:
    if _is_new(statement.relation, schema):
        return
    table = _name(statement.relation)
    known = sorted(
        target.name for target in statement.targetList if (table, target.name) not in schema.new_columns
    )
    if known:
        yield f"the release before reads {', '.join(known)} of {table}", "fill a new column"
    elif not _is_limited(statement.whereClause):
        yield f"it locks every row of {table} at once", "the batches of the how-to on migrations"


def _is_limited(condition: ast.Node | None) -> bool:
    """Say whether a condition takes its rows from a sub-select with a limit: one batch."""
    if isinstance(condition, ast.SubLink):
        return getattr(condition.subselect, "limitCount", None) is not None
    return isinstance(condition, ast.BoolExpr) and any(map(_is_limited, condition.args))


def _learn(statement: ast.Node, schema: Schema) -> None:
    match statement:
        case ast.CreateStmt():
            schema.make(_name(statement.relation))
        case ast.ViewStmt():
            schema.make(_name(statement.view))
        case ast.IndexStmt() if statement.idxname:
            schema.make(statement.idxname)
        case ast.CreateFunctionStmt():
            schema.make(_last(statement.funcname))
        case ast.AlterTableStmt():
            table = _name(statement.relation)
            added = [c.def_.colname for c in statement.cmds if c.subtype == AT.AT_AddColumn]
            schema.new_columns |= {(table, column) for column in added}


JUDGES: Mapping[type[ast.Node], Callable[..., Iterator[Complaint]]] = {
    ast.VariableSetStmt: _of_setting,
    ast.CreateStmt: _of_new_relation,
    ast.ViewStmt: _of_new_relation,
    ast.IndexStmt: _of_index,
    ast.CreateFunctionStmt: _of_function,
    ast.AlterTableStmt: _of_table,
    ast.InsertStmt: _of_rows,
    ast.DeleteStmt: _of_rows,
    ast.UpdateStmt: _of_update,
    ast.GrantStmt: _of_grant,
}


def _is_new(relation: ast.RangeVar, schema: Schema) -> bool:
    return _name(relation) in schema.new | {BOOKKEEPING}


def _parts(node: object) -> Iterator[ast.Node]:
    """A node and all below it."""
    if isinstance(node, tuple):
        for part in node:
            yield from _parts(part)
    elif isinstance(node, ast.Node):
        yield node
        for name in node:
            yield from _parts(getattr(node, name))


def _name(relation: ast.RangeVar) -> str:
    named = relation.schemaname not in (None, "public")
    return f"{relation.schemaname}.{relation.relname}" if named else str(relation.relname)


def _last(names: Sequence[ast.String]) -> str:
    return str(names[-1].sval)
