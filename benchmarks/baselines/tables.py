"""The tables of a shop's own program, the same for every contender."""

from datetime import datetime

from sqlalchemy import DateTime, Engine, ForeignKey, String, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The shop's tables."""


class Charge(Base):
    """A debt of a customer."""

    __tablename__ = "baseline_charges"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_uid: Mapped[str] = mapped_column(String(64))
    amount: Mapped[int]
    status: Mapped[str] = mapped_column(String(16), default="open")


class Attempt(Base):
    """A call to the gateway."""

    __tablename__ = "baseline_attempts"

    id: Mapped[int] = mapped_column(primary_key=True)
    charge_id: Mapped[int] = mapped_column(ForeignKey(Charge.id), index=True)
    merchant_uid: Mapped[str] = mapped_column(String(64), unique=True)
    state: Mapped[str] = mapped_column(String(16))
    imp_uid: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    settled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


def fill(engine: Engine, charges: int) -> None:
    """Create the tables with so many open charges."""
    drop(engine)
    Base.metadata.create_all(engine)
    rows = [
        {"id": number, "customer_uid": f"customer-{number}", "amount": 9900, "status": "open"}
        for number in range(1, charges + 1)
    ]
    if rows:
        with engine.begin() as db:
            db.execute(insert(Charge), rows)


def paid(engine: Engine) -> int:
    """How many charges are paid."""
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(Charge).where(Charge.status == "paid")) or 0


def drop(engine: Engine) -> None:
    """Remove the tables."""
    Base.metadata.drop_all(engine)
