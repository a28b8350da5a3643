"""The shared token: sealed in its row, refreshed by one process at a time."""

from sqlalchemy import text

from worker.services import Services
from worker.store.tokens import SealedTokens

TOKEN = "a9ace025c90c0da2161075da6ddd3492a2fca776"


def test_what_one_process_writes_another_reads(services: Services) -> None:
    one, other = (SealedTokens(services.engine, "main", "secret") for _ in range(2))
    assert one.read() is None
    assert one.begin_refresh(10)
    one.write(TOKEN, 1800)
    read = other.read()
    assert read is not None
    assert read[0] == TOKEN
    assert 1790 < read[1] <= 1800


def test_one_process_at_a_time_may_refresh(services: Services) -> None:
    one, other = (SealedTokens(services.engine, "main", "secret") for _ in range(2))
    assert one.begin_refresh(10)
    assert not other.begin_refresh(10)
    one.end_refresh()
    assert other.begin_refresh(10)


def test_a_token_that_was_refused_is_forgotten_unless_it_was_replaced(services: Services) -> None:
    tokens = SealedTokens(services.engine, "main", "secret")
    tokens.begin_refresh(10)
    tokens.write(TOKEN, 1800)
    tokens.drop("another")
    assert tokens.read() is not None
    tokens.drop(TOKEN)
    assert tokens.read() is None


def test_an_expired_token_is_none(services: Services) -> None:
    tokens = SealedTokens(services.engine, "main", "secret")
    tokens.begin_refresh(10)
    tokens.write(TOKEN, -1)
    assert tokens.read() is None


def test_the_row_shows_no_token_and_another_secret_cannot_open_it(services: Services) -> None:
    tokens = SealedTokens(services.engine, "main", "secret")
    tokens.begin_refresh(10)
    tokens.write(TOKEN, 1800)
    with services.engine.begin() as db:
        sealed = bytes(db.execute(text("SELECT sealed FROM gateway_tokens")).scalar_one())
    assert TOKEN.encode() not in sealed
    assert SealedTokens(services.engine, "main", "another").read() is None
    assert "secret" not in repr(tokens)
