"""What an address and a webhook's secret must look like; no error holds them, for they may hold a password."""

import binascii
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

MOST_PORT = 65_535
SECRET_PREFIX = "whsec_"  # noqa: S105 # what every secret of the scheme begins with
SECRET_BYTES = range(24, 65)  # by the Standard Webhooks scheme
# Where http:// may go: names that no public server answers to. One without a dot is a neighbour's.
PRIVATE_ENDINGS = (".localhost", ".local", ".internal")
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


def check_broker(url: str) -> None:
    """Raise ValueError, without the address, which may hold a password, if its port or number is none."""
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
    if address.scheme == "http" and not _is_private(address.hostname or ""):
        raise ValueError("it must be https://; http:// is for this machine and private networks alone")


def _is_private(host: str) -> bool:
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(PRIVATE_ENDINGS)


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
