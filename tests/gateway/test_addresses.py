"""Where the account's key and secret, the broker's and the database's passwords may go, however it is spelled."""

import ssl

import pytest
from celery import Celery
from kombu import Connection

from schedules.errors import UserError
from worker.accounts import read_accounts
from worker.addresses import check_broker, check_database, check_gateway, host_of, is_live, is_private
from worker.app import celery_settings
from worker.config import Settings, load_settings
from worker.gateway.portone_v1.settings import PortOneSettings
from worker.gateway.timeouts import BadGatewaySettings

NEEDED = {
    "AGAIN_ENVIRONMENT": "test", "AGAIN_DATABASE_URL": "postgresql://a@localhost/b",
    "AGAIN_BROKER_URL": "redis://localhost:6379/0", "AGAIN_PORTONE_KEY": "k", "AGAIN_PORTONE_SECRET": "s",
}  # fmt: skip
LIVE = [
    "http://api.iamport.kr", "http://API.IAMPORT.KR", "http://Api.Iamport.Kr.", "http://api.iamport.kr:80",
    "http://api.iamport.kr:8443/x", "http://static-api.iamport.kr", "http://api.portone.io", "HTTP://api.iamport.kr",
]  # fmt: skip
PUBLIC = [
    "http://gateway.example", "http://52.78.5.241", "http://[2606:4700::1111]", "http://[::ffff:52.78.5.241]",
    "http://876479985", "http://0x344e05f1", "http://52.78.1521", "http://0x34.0x4e.0x5.0xf1", "http://0064.0116.5.1",
    "http://10.0.0.1.nip.io", "http://localhost.evil.example", "http://127.0.0.1.example",
]  # fmt: skip
ODD = [
    "http://me@127.0.0.1", "http://:@127.0.0.1", "http://127.0.0.1\\@api.iamport.kr", "http://127.0.0.1 .example",
    "http://api.iamport.kr@127.0.0.1", "http://api\uff0eiamport\uff0ekr", "http://\uff41pi.iamport.kr",
    "http://%61pi.iamport.kr", "http://127.0.0.1?x", "http://127.0.0.1#x", "ftp://127.0.0.1", "//127.0.0.1",
    "http://", "http://127.0.0.1\t", "http://[::1", "http://-a.internal", "http://a..internal",
]  # fmt: skip
NEAR = [
    "http://127.0.0.1:8765", "http://localhost:8765", "http://LOCALHOST", "http://[::1]:1", "http://10.1.2.3",
    "http://172.20.0.5:80", "http://192.168.1.4", "http://[fd00::5]", "http://simulator:8765",
    "http://portone_simulator:8765", "http://gateway.shop.svc.cluster.local", "http://x.internal", "http://a.localhost.",
]  # fmt: skip
TLS = ["https://api.iamport.kr", "https://API.iamport.KR", "https://gateway.example:8443", "https://52.78.5.241"]


@pytest.mark.parametrize("url", [*LIVE, *PUBLIC, *ODD])
def test_no_key_or_secret_goes_to_such_an_address(url: str) -> None:
    """Guard: plain HTTP is for this machine and private networks, and the host is compared, not the text."""
    with pytest.raises(ValueError, match="it"):
        check_gateway(url)
    with pytest.raises(UserError, match="AGAIN_PORTONE_URL"):
        load_settings(NEEDED | {"AGAIN_PORTONE_URL": url})
    with pytest.raises(BadGatewaySettings):
        PortOneSettings(url, "k", "s")


@pytest.mark.parametrize("url", [*NEAR, *TLS])
def test_these_are_used(url: str) -> None:
    check_gateway(url)
    assert load_settings(NEEDED | {"AGAIN_PORTONE_URL": url}).portone_url == url
    assert PortOneSettings(url, "k", "s").base_url == url


@pytest.mark.parametrize("url", [*LIVE, "https://api.iamport.kr", "https://API.IAMPORT.KR.:443/"])
def test_the_live_gateway_is_known_in_any_spelling(url: str) -> None:
    """Guard: a moved clock and a short read time-out are refused for the live gateway, however it is spelled."""
    assert is_live(url)
    https = "https://" + url.partition("://")[2]
    with pytest.raises(UserError, match=r"AGAIN_READ_TIMEOUT 5\.0 is below 60"):
        load_settings(NEEDED | {"AGAIN_PORTONE_URL": https, "AGAIN_READ_TIMEOUT": "5"})


@pytest.mark.parametrize("url", ["https://api.iamport.kr.example", "https://notiamport.kr", *NEAR])
def test_another_host_is_not_the_live_gateway(url: str) -> None:
    assert not is_live(url)


def test_a_spelling_of_the_host_is_the_same_environment() -> None:
    assert host_of("https://API.iamport.kr.:443") == host_of("https://api.iamport.kr")


@pytest.mark.parametrize("url", ["http://API.IAMPORT.KR", "http://gateway.example"])
def test_a_further_account_is_held_to_the_same(url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("accounts") / "accounts.toml"
    file.write_text(f"[accounts.second]\nportone_url = '{url}'\nkey = 'k'\nsecret = 's'\n")
    file.chmod(0o600)
    with pytest.raises(UserError, match="portone_url: it is not an https:// address"):
        read_accounts(file, "main")


@pytest.mark.parametrize("host", ["", "2130706433", "127.1", "10.0.0.1.", "8.8.8.8", "::ffff:8.8.8.8", "a b"])
def test_a_host_that_is_no_private_address_or_name_is_not_private(host: str) -> None:
    assert is_private(host) is (host == "10.0.0.1.")


@pytest.mark.parametrize(
    "url",
    [
        "rediss://:hush@broker.example/0?ssl_cert_reqs=none",
        "rediss://:hush@broker.example/0?ssl_cert_reqs=CERT_NONE",
        "rediss://:hush@BROKER.example./0?SSL_CERT_REQS=None",
        "rediss://:hush@broker.example/0?ssl_cert_reqs=required&ssl_check_hostname=False",
        "redis://:hush@52.78.5.241/0",
        "amqp://me:hush@52.78.5.241//",
        "amqp://me:hush@127.0.0.1//;amqp://me:hush@52.78.5.241//",
    ],
)
def test_a_broker_that_anybody_could_stand_in_for_is_refused(url: str) -> None:
    """Guard: whoever stands between worker and broker cannot read or write its messages."""
    with pytest.raises(ValueError, match=r"private networks alone|public address") as refused:
        check_broker(url)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0", "redis://valkey:6379/0", "rediss://10.0.0.4/0?ssl_cert_reqs=none",
        "rediss://broker.example/0", "rediss://broker.example/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem",
        "amqps://me:hush@broker.example//", "amqp://me:hush@rabbit.internal//", "redis://cache.example/0",
    ],
)  # fmt: skip
def test_a_broker_over_tls_or_nearby_is_used(url: str) -> None:
    check_broker(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hush@db.example/x?sslmode=disable",
        "postgresql+psycopg://me:hush@db.example/x?sslmode=allow",
        "postgresql+psycopg://me:hush@52.78.5.241/x?sslmode=disable",
        "postgresql+psycopg://me:hush@/x?host=db.example&sslmode=disable",
        "postgresql+psycopg://me:hush@/x?host=127.0.0.1:1&host=db.example:2&sslmode=disable",
    ],
)
def test_a_database_whose_encryption_is_switched_off_is_refused(url: str) -> None:
    """Guard: the password and the customers' data do not travel unencrypted because of a setting."""
    with pytest.raises(ValueError, match="sends the password and all data unencrypted") as refused:
        check_database(url)
    assert "hush" not in str(refused.value)


def test_the_driver_s_own_variable_does_not_switch_it_off_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "disable")
    check_database("postgresql+psycopg://me@127.0.0.1/x")
    check_database("postgresql+psycopg://me@db.example/x?sslmode=verify-full")
    with pytest.raises(ValueError, match="sslmode=disable"):
        check_database("postgresql+psycopg://me@db.example/x")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me@/x?host=/run/postgresql&sslmode=disable",
        "postgresql+psycopg://me@db/x?sslmode=disable",
        "postgresql+psycopg://me@10.2.3.4/x?sslmode=disable",
        "postgresql+psycopg://me@db.example/x",
        "postgresql+psycopg://me@db.example/x?sslmode=verify-full&sslrootcert=system",
    ],
)
def test_a_database_over_tls_or_nearby_is_used(url: str) -> None:
    check_database(url)


def app_of(broker: str) -> Celery:
    """A Celery application with this broker."""
    settings: Settings = load_settings(NEEDED | {"AGAIN_BROKER_URL": broker})
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_settings(settings))
    return app


def test_redis_over_tls_is_checked_without_a_word_about_it() -> None:
    """Guard: kombu would check no certificate."""
    app = app_of("rediss://broker.example:6380/0")
    with app.connection_for_write() as connection:
        assert isinstance(connection, Connection)
        assert connection.ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert vars(app.backend)["connparams"]["ssl_cert_reqs"] == ssl.CERT_REQUIRED


def test_rabbitmq_over_tls_must_have_a_certificate_for_its_name() -> None:
    """Guard: py-amqp would take any name."""
    with app_of("amqps://me@broker.example//").connection_for_write() as connection:
        assert connection.ssl == {"server_hostname": "broker.example"}
