"""Failures that are no verdict: words and codes that name a time-out, a line fault or a doubled request.

The answer after such a failure may still have been an approval, so it is asked about, never tried anew.
"""

import re

KCP = "kcp"  # also kcp_billing and kcp_quick
ANY = ""

# The texts are from KCP's official table of response codes; EE00–EE02 are line codes of card networks.
UNCLEAR_CODES = frozenset(
    {
        (ANY, "CC72"),  # the card company timed out
        (ANY, "CC98"),  # fault of the card company's system
        (ANY, "04CC98"),  # the same, as Inicis passes it on
        (ANY, "CC99"),  # fault of KCP's system
        # dunning.md counts EE00 (line to the PG not reached) as technical. Nothing documents that it is only
        # given before sending, and Unknown ends in sending the same uid again as well, after asking: so Unknown.
        (ANY, "EE00"),
        (ANY, "EE01"),  # line broken during the call
        (ANY, "EE02"),  # no answer during the call
        # Bare numbers mean other things elsewhere: 3008 is "expiry date missing" at KakaoPay.
        (KCP, "3008"),  # time-out while receiving
        (KCP, "3009"),  # error while receiving
        (KCP, "3010"),  # error on the line
        (KCP, "7512"),  # time-out at KCP's gateway
        (KCP, "7R01"),  # line to the institution
        (KCP, "8041"),  # engine time-out
        (KCP, "8042"),  # connector time-out before data came
        (KCP, "8043"),  # connector time-out before sending on
        (KCP, "8044"),  # connector time-out before the answer came
        (KCP, "8047"),  # error while receiving from the institution
        (KCP, "8996"),  # time-out, "again in 5 minutes"
        (KCP, "8997"),
        # A doubled request: the first one may have been approved.
        (KCP, "7101"),
        (KCP, "8094"),
        (KCP, "8128"),
        (ANY, "CCSC"),
    }
)

# Compared without blanks, dashes and case.
UNCLEAR_WORDS = (
    "timeout",
    "timedout",
    "타임아웃",
    "시간초과",
    "무응답",
    "지연응답",
    "응답지연",
    "응답이없",
    "응답을받을수없",
    "noresponse",
    "통신장애",
    "통신오류",
    "통신에러",
    "통신실패",
    "통신에예외",
    "수신장애",
    "수신오류",
    "수신에예외",
    "수신중에러",
    "회선장애",
    "네트워크",
    "네트웍",
    "network",
    "시스템장애",
    "재조회요망",
    "결제장애",  # Paymentwall: such a failure has turned paid later
    "internalerror",
    "internalservererror",
    "서버오류",
    "서버에러",
)

# A uid that is paid or cancelled cannot be used again; the second is the payment window's wording.
USED_WORDS = ("이미주문이이루어진건", "이미결제가이루어진거래")

_BRACKETED = re.compile(r"\[\s*([A-Za-z0-9_-]{2,40})\s*[\]|]")
_LEADING = re.compile(r"\s*([A-Z0-9]{4,6})(?![A-Za-z0-9])(?!\s*(?:원|KRW|USD))")
_IGNORED = re.compile(r"[\s_\-‐-―]+")


def pg_code(text: str) -> str | None:
    """The PG's own code, as it stands in brackets in its words: `[2116]…` or `[500626|…]`."""
    found = _BRACKETED.search(text)
    return found.group(1) if found else None


def is_unclear(text: str | None, pg_provider: str | None) -> bool:
    """Whether these words leave open what became of the money; codes are read in their PG's context."""
    if not text:
        return False
    codes = set(_BRACKETED.findall(text))
    if leading := _LEADING.match(text):
        codes.add(leading.group(1))
    contexts = {ANY, KCP} if pg_provider is None or pg_provider.startswith(KCP) else {ANY}
    if any((context, code.upper()) in UNCLEAR_CODES for context in contexts for code in codes):
        return True
    return _says(text, UNCLEAR_WORDS)


def is_used(text: str | None) -> bool:
    """Whether these words say that the uid already has a paid or cancelled payment."""
    return bool(text) and _says(text or "", USED_WORDS)


def _says(text: str, words: tuple[str, ...]) -> bool:
    plain = _IGNORED.sub("", text).casefold()
    return any(word in plain for word in words)
