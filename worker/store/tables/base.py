"""The parts of every table: metadata, instants with zones, row ids, closed sets as checks."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, Label, MetaData, Text, literal_column, text

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
INSTANT = DateTime(timezone=True)
# Rows are updated several times: keep room for updates in place, and vacuum early.
HOT = {
    "fillfactor": "70",
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_analyze_scale_factor": "0.02",
}
BYTES = "text_pattern_ops"  # compares bytes: a prefix search does not depend on the collation


def by_prefix(name: str, expression: str, *, where: str | None = None) -> Index:
    """Return an index by which the prefixes of an expression are found."""
    searched: Label[str] = literal_column(expression, Text).label("searched")
    return Index(
        name, searched, postgresql_ops={"searched": BYTES}, postgresql_where=None if where is None else text(where)
    )


def one_of(column: str, values: list[str]) -> str:
    """Return the SQL condition that a column has one of these values."""
    quoted = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({quoted})"


def row_id() -> Column[int]:
    """A generated row id; never part of a public id."""
    return Column("id", BigInteger, Identity(always=True), primary_key=True)
