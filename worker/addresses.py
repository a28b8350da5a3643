"""What an address and a webhook's secret must look like; no error holds them, for they may hold a password."""

import binascii
import os
import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import parse_qsl, urlsplit

MOST_PORT = 65_535
SECRET_PREFIX = "whsec_"  # noqa: S105 # what every secret of the scheme begins with
SECRET_BYTES = range(24, 65)  # by the Standard Webhooks scheme
LIVE_DOMAINS = ("iamport.kr", "portone.io")  # calls to these hosts move real money
# Where unencrypted connections may go: this machine, private networks, and names that no public server answers to.
# A name without a dot is a neighbour's, such as a service of Compose or of the same namespace in Kubernetes.
PRIVATE_ENDINGS = (".localhost", ".local", ".internal")
PRIVATE_NETWORKS = tuple(
    ip_network(network)
    for network in (
        "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "100.64.0.0/10", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
# As a last label; a system reads 2130706433 and 0x7f.1 as addresses.
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")
_OFF = {"ssl_cert_reqs": {"none", "cert_none"}, "ssl_check_hostname": {"false", "no", "0"}}
_PLAIN_SSLMODES = {"disable", "allow"}
ENCODED = "signs such as / and @ in a password are written as %2F and %40"


def check_database(url: str) -> None:
    """Raise ValueError, without the address, which holds a password, if the driver could not read it."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import make_conninfo
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(url)
        _, options = address.get_dialect()().create_connect_args(address)
        make_conninfo(**options)
        right = address.port != 0 and (address.port or 1) <= MOST_PORT and "@" not in (address.database or "")
    except (ArgumentError, ProgrammingError, ValueError):
        right = False
    if not right:
        raise ValueError(f"it is not like postgresql+psycopg://user:password@host:5432/name; {ENCODED}") from None
    mode = str(address.query.get("sslmode") or os.environ.get("PGSSLMODE", "")).lower()
    named = (address.query.get(name) or () for name in ("host", "hostaddr"))
    hosts = [address.host or "", *(host for text in named for host in _each(text))]
    if mode in _PLAIN_SSLMODES and not all(map(_is_near, hosts)):
        raise ValueError(
            f"sslmode={mode} sends the password and all data unencrypted; that is for this machine and private "
            "networks alone. Take sslmode=verify-full with sslrootcert, or at least require"
        )


def _each(text: str | tuple[str, ...]) -> Iterator[str]:
    """The hosts of a query's value, without their ports."""
    for part in (text,) if isinstance(text, str) else text:
        for host in part.split(","):
            yield host if host.count(":") > 1 else host.partition(":")[0]


def _is_near(host: str) -> bool:
    return not host or host.startswith(("/", "@")) or is_private(host)


def check_broker(url: str) -> None:
    """Raise ValueError, without the address, which may hold a password, if it is wrong or not protected.

    Several addresses may stand behind one another, with semicolons between them.
    """
    for one in url.split(";"):
        _check_one_broker(one)


def _check_one_broker(url: str) -> None:
    try:
        address = urlsplit(url)
        right = address.port != 0 and "@" not in address.path
    except ValueError:
        right = False
    else:
        number = address.path.strip("/")
        right = right and (not url.startswith("redis") or not number or number.isdecimal())
    if not right:
        raise ValueError(f"it is not like redis://:password@host:6379/0; {ENCODED}")
    host = address.hostname or ""
    if _is_near(host):
        return
    for name, value in parse_qsl(address.query, keep_blank_values=True):
        if value.lower() in _OFF.get(name.lower(), ()):
            raise ValueError(
                f"{name}={value} lets anybody answer in the broker's place; that is for this machine and private "
                "networks alone. Leave it out, and name the CA's file in ssl_ca_certs if it is your own"
            )
    if _address_of(host) is not None and address.scheme in ("redis", "amqp"):
        raise ValueError(
            f"{address.scheme}:// sends the password and all messages unencrypted, and this is a public address; "
            f"take {address.scheme}s://"
        )


def check_gateway(url: str) -> None:
    """Raise ValueError unless charges, with the account's key and secret, may be sent there.

    Plain http:// is for this machine and private networks alone, whatever the host's spelling.
    """
    try:
        address = urlsplit(url)
        right = bool(address.hostname) and address.port != 0 and not (address.query or address.fragment)
    except ValueError:
        right = False
    clean = url.isascii() and url.isprintable() and not (set(url) & set(' "<>\\^`{|}'))
    if not right or not clean or address.scheme not in ("http", "https"):
        raise ValueError("it must be of the form https://host or http://host:port") from None
    if address.username is not None or address.password is not None:
        raise ValueError("it holds a name or password; they do not belong there")
    host = host_of(url)
    if _address_of(host) is None and not _is_name(host):
        raise ValueError("its host is neither a name nor an address; write an address like 10.0.0.1 or [fd00::1]")
    if address.scheme == "http" and not is_private(host):
        raise ValueError(
            "it is not an https:// address: http:// sends the account's key and secret unencrypted, and is for "
            "this machine and private networks alone"
        )


def host_of(url: str) -> str:
    """The host of an address, as it is compared: in small letters, without a dot at its end."""
    return (urlsplit(url).hostname or "").rstrip(".")


def is_live(url: str) -> bool:
    """Whether an address is of the live gateway, however it is spelled."""
    host = host_of(url)
    return any(host == domain or host.endswith(f".{domain}") for domain in LIVE_DOMAINS)


def check_webhook(url: str) -> None:
    """Raise ValueError, without the address, whose path may be a secret, if events must not be sent there."""
    try:
        address = urlsplit(url)
        right = address.hostname and address.port != 0 and url.isascii() and not (set(url) & set(' "<>#'))
    except ValueError:
        right = None
    if not right or address.scheme not in ("http", "https"):
        raise ValueError("it must be of the form https://host/path") from None
    if address.username or address.password:
        raise ValueError("it holds a name or password; they do not belong there, the signature is the proof")
    if address.scheme == "http" and not is_private(address.hostname or ""):
        raise ValueError("it must be https://; http:// is for this machine and private networks alone")


def check_proxy(url: str, gateway: str) -> None:
    """Raise ValueError, without the address, which may hold a password, if it is no proxy for this gateway."""
    import httpx

    try:
        address = urlsplit(url)
        right = address.hostname and address.port != 0 and url.isascii() and not (set(url) & set(' "<>#?'))
        right = bool(right and httpx.Proxy(url).url.host)  # is stricter than urlsplit
    except (httpx.InvalidURL, ValueError):
        right = None
    if not right or address.scheme not in ("http", "https") or address.path.strip("/"):
        raise ValueError(f"it is not like http://user:password@proxy.example:3128; {ENCODED}") from None
    check_behind_proxy(gateway)


def check_behind_proxy(gateway: str) -> None:
    """Raise ValueError if the HTTP client cannot ask a proxy for this gateway.

    httpcore writes an IPv6 address into CONNECT without its brackets.
    """
    if gateway.lower().startswith("https:") and ":" in host_of(gateway):
        raise ValueError(
            "the gateway has an IPv6 address, which cannot be reached through the proxy of AGAIN_PROXY_URL; "
            "write the gateway's name in its place"
        )


def is_private(host: str) -> bool:
    """Whether a host is this machine, of a private network, or a name that no public server answers to."""
    host = host.lower().rstrip(".")
    address = _address_of(host)
    if address is not None:
        return any(address in network for network in PRIVATE_NETWORKS)
    return _is_name(host) and ("." not in host or host.endswith(PRIVATE_ENDINGS))


def _address_of(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_name(host: str) -> bool:
    """Whether it is a host's name; a number that a system would read as an address is none."""
    return bool(_NAME.fullmatch(host)) and not _NUMBER.fullmatch(host.rpartition(".")[2])


def is_webhook_secret(secret: str) -> bool:
    """Whether it can sign: whsec_ and as many bytes in base 64 as the scheme wants."""
    try:
        key = binascii.a2b_base64(secret.removeprefix(SECRET_PREFIX), strict_mode=True)
    except ValueError:
        return False
    return secret.startswith(SECRET_PREFIX) and len(key) in SECRET_BYTES


def check_networks(text: str) -> None:
    """Raise ValueError unless these are addresses or networks, with commas between them."""
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            ip_network(part, strict=False)
        except ValueError:
            raise ValueError(f"{part!r} is no address or network, such as 52.78.5.241 or 10.0.0.0/8") from None
