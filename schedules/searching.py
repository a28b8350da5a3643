"""Read what a person types to find a customer, a card, a subscription, a charge or a payment."""

import unicodedata
from dataclasses import dataclass

from schedules.errors import BadRequest, Code
from schedules.texts import cleaned, forms

LONGEST = 500  # characters; a request key has no more
QUOTED = 60  # characters of a text in a message
FEWEST_DIGITS = 4  # of the end of a telephone number
CARD_DIGITS = 4  # at the end of a masked card number
WHOLE_TEL = 9  # digits; a longer number begins with an area, whose leading zero is not written after +82
KOREA = "82"
WITH_COUNTRY = 11  # digits; a number that begins with 82 and is shorter is of no country
_BETWEEN = frozenset(" -./()")  # characters between the digits of a telephone number
_MASKS = frozenset("*xX•")


@dataclass(frozen=True, slots=True)
class Sought:
    """A text to find, in every form in which it may be stored."""

    text: str  # without spaces around it
    forms: tuple[str, ...]  # the text in each normal form, for ids of others, names and e-mail addresses
    own: str  # in lower case, for ids that Again makes
    tel: str | None  # the last digits of a telephone number
    card: str | None  # the last digits of a card number

    @property
    def quoted(self) -> str:
        """The text for a message, shortened."""
        return repr(self.text if len(self.text) <= QUOTED else f"{self.text[: QUOTED - 1]}…")


def read_sought(text: str) -> Sought:
    """Read a text to find.

    Raises BadRequest for an empty or long text, a control character, and a card number.
    """
    stripped = cleaned("query", text).strip()
    if not stripped:
        raise BadRequest(
            Code.INVALID,
            "query",
            "it is empty; give an id, a name, an e-mail address or the last digits of a number",
        )
    if len(stripped) > LONGEST:
        raise BadRequest(
            Code.INVALID,
            "query",
            f"it has {len(stripped)} characters; at most {LONGEST} are compared, so give fewer",
        )
    return Sought(stripped, forms(stripped), stripped.lower(), _tel(stripped), _card(stripped))


def _tel(text: str) -> str | None:
    """The digits by which a stored telephone number ends, whether it is stored with 0 or with +82."""
    plain = unicodedata.normalize("NFKC", text)
    abroad = plain.startswith("+")
    digits = "".join(each for each in plain.removeprefix("+") if not _is_between(each))
    if not abroad and len(digits) >= WITH_COUNTRY and digits.startswith((f"00{KOREA}", KOREA)):
        abroad, digits = True, digits.removeprefix("00")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) < FEWEST_DIGITS:
        return None
    if abroad:
        digits = digits.removeprefix(KOREA)
    if abroad or len(digits) >= WHOLE_TEL:
        digits = digits.lstrip("0")
    return digits if len(digits) >= FEWEST_DIGITS else None


def _is_between(character: str) -> bool:
    return character in _BETWEEN or unicodedata.category(character) in ("Pd", "Zs")


def _card(text: str) -> str | None:
    """The last digits of a card number that is written alone, or masked as it is shown: 5333-12**-****-1234."""
    plain = unicodedata.normalize("NFKC", text)
    last = plain[-CARD_DIGITS:]
    if not (last.isascii() and last.isdecimal()) or len(last) < CARD_DIGITS:
        return None
    rest = plain[:-CARD_DIGITS]
    is_masked = bool(set(rest) & _MASKS) and all(each.isdecimal() or each in _MASKS | _BETWEEN for each in rest)
    return last if not rest or is_masked else None
