"""Mask names, e-mail addresses and telephone numbers where many people are listed, and cards everywhere."""

STAR = "*"
HIDDEN = STAR * 3  # for a part whose length is hidden too
TAIL = 4  # last digits of a telephone number that are shown
HEAD = 3  # first digits that are shown of one that is long enough
LONG = 10  # digits; a shorter number would show most of itself


def masked_name(name: str | None) -> str | None:
    """A name with the first and the last character of each word: 김*준, A*n K*m."""
    if name is None:
        return None
    return " ".join(map(_masked_word, name.split()))


def masked_email(email: str | None) -> str | None:
    """An e-mail address with the first character and the domain: a***@example.com."""
    if email is None:
        return None
    local, at, domain = email.rpartition("@")
    if not at:
        return f"{email[:1]}{HIDDEN}"
    return f"{local[:1] if len(local) > 1 else ''}{HIDDEN}@{domain}"


def masked_tel(tel: str | None) -> str | None:
    """A telephone number with its first three and last four digits: 010-****-1234. A short one shows fewer."""
    if tel is None:
        return None
    count = sum(each.isdigit() for each in tel)
    head, tail = (HEAD if count >= LONG else 0), min(TAIL, count // 2)
    shown, place = "", 0
    for each in tel:
        if each.isdigit():
            place += 1
            shown += each if place <= head or place > count - tail else STAR
        else:
            shown += STAR if each.isalnum() else each
    return shown


def named_card(name: str | None, number: str | None) -> str | None:
    """A card by its issuer and its last four digits: Shinhan *1234. None when neither is known."""
    last = (number or "")[-TAIL:]
    shown = f"{STAR}{last}" if len(last) == TAIL and last.isdecimal() else None
    return " ".join(part for part in (name, shown) if part) or None


def _masked_word(word: str) -> str:
    first = word[0] if len(word) > 1 else STAR
    last = word[-1] if len(word) > 2 else STAR if len(word) == 2 else ""
    return first + STAR * (len(word) - 2) + last
