"""Decline rules: data that assign a decline class to the codes and texts of the gateway."""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn

from schedules.errors import BadRules

GENERAL = "general"  # the file whose texts apply to every PG, after the PG's own file
UNPLACED = "unplaced"  # rule id of a text that no rule matches
SEEN = 5000  # characters of a text that are compared

_BRACKETED = re.compile(r"\[\s*([A-Za-z0-9_-]{2,40})\s*[\]|]")
_LEADING = re.compile(r"\s*([A-Z0-9]{4,6})(?![A-Za-z0-9])(?!\s*(?:원|KRW|USD))")
_ALONE = re.compile(r"\s*\[?\s*([A-Za-z0-9_-]{1,40})\s*[\]|]?\s*")
# A code contains a digit and is not part of the text. `[TIMEOUT]` has none, so it is text.
_NUMBERED = re.compile(
    r"\[\s*(?=[A-Z0-9]*\d)[A-Z0-9]{1,8}\s*[\]|]|^\s*(?=[A-Z0-9]*\d)[A-Z0-9]{4,6}(?=\s)(?!\s*(?:원|KRW|USD))"
)
_IGNORED = re.compile(r"[\s_\-‐-―]+")
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_FILE_KEYS = {"version", "pg_providers", "counts_when_unnamed", "wrappers", "rule"}
_RULE_KEYS = {"id", "class", "source", "note", "codes", "words", "patterns"}


class DeclineClass(StrEnum):
    """The decline classes; their meanings are in docs/reference/declines.md."""

    NEVER_AGAIN = "never_again"
    CUSTOMER_MUST_ACT = "customer_must_act"
    MONEY_SHORT = "money_short"
    LIMIT = "limit"
    LATER = "later"
    UNKNOWN_WORD = "unknown_word"
    UNKNOWN_OUTCOME = "unknown_outcome"
    SETUP_FAULT = "setup_fault"
    NOT_A_DECLINE = "not_a_decline"


# Texts of these classes do not say whether money moved: the same merchant_uid is looked up and sent again.
INDEFINITE = frozenset({DeclineClass.UNKNOWN_OUTCOME, DeclineClass.NOT_A_DECLINE})


class Source(StrEnum):
    """The source of a rule: an official table or page of the PG, or our own assumption."""

    DOCUMENT = "document"
    GUESS = "guess"


@dataclass(frozen=True, slots=True)
class Placed:
    """The class of a text with the rule and version that assigned it; `unplaced` when no rule matched."""

    decline_class: DeclineClass
    rule: str
    version: int
    definite: bool = True  # False when the text does not say whether money moved: no new uid may follow

    @property
    def is_placed(self) -> bool:
        """Whether a rule matched; a rule may assign `unknown_word` explicitly."""
        return self.rule != UNPLACED

    @property
    def stamp(self) -> str:
        """Rule and version as stored with an attempt: `kcp/no-money@1`."""
        return f"{self.rule}@{self.version}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: a text belongs to its class when it contains one of its codes or texts."""

    id: str  # with its file: general/no-money
    decline_class: DeclineClass
    source: Source
    codes: frozenset[str] = frozenset()
    wording: re.Pattern[str] | None = field(default=None, repr=False)

    def says(self, plain: str) -> bool:
        """Whether a normalized text contains one of the rule's texts."""
        return self.wording is not None and self.wording.search(plain) is not None


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The rules of one PG, in order of precedence."""

    name: str
    version: int
    pg_providers: tuple[str, ...]
    rules: tuple[Rule, ...]
    by_code: Mapping[str, Rule] = field(repr=False)
    wrappers: re.Pattern[str] | None = field(default=None, repr=False)
    counts_when_unnamed: bool = False

    @property
    def unclear(self) -> Iterator[Rule]:
        """The rules for texts that do not say whether money moved."""
        return (rule for rule in self.rules if rule.decline_class is DeclineClass.UNKNOWN_OUTCOME)


@dataclass(frozen=True, slots=True)
class Rulebook:
    """All rules: one file for each PG, and the general one; its version is its newest file's."""

    version: int
    general: RuleFile
    others: tuple[RuleFile, ...]
    _by_provider: Mapping[str, RuleFile] = field(repr=False)

    def of(self, pg_provider: str | None) -> RuleFile | None:
        """The file of a PG as PortOne names it: `kcp`, `kcp_billing`, also `kcp.MID`; None when there is none."""
        name = (pg_provider or "").strip().casefold().partition(".")[0]
        while name:
            if found := self._by_provider.get(name):
                return found
            name = name.rpartition("_")[0]
        return None

    @property
    def rules(self) -> Iterator[Rule]:
        """Every rule, the general ones last."""
        for file in (*self.others, self.general):
            yield from file.rules


def classify(text: str | None, pg_provider: str | None, rulebook: Rulebook) -> Placed:
    """Classify a decline's text: by the PG's codes, then the PG's texts, then the general ones.

    A text that no rule matches is `unknown_word`, never a class that stops a card.
    """
    rule = _ruling(text or "", pg_provider, rulebook)
    if rule is None:
        return Placed(DeclineClass.UNKNOWN_WORD, UNPLACED, rulebook.version)
    definite = rule.decline_class not in INDEFINITE and not any(unclear(text, pg_provider, rulebook))
    return Placed(rule.decline_class, rule.id, rulebook.version, definite)


def _ruling(text: str, pg_provider: str | None, rulebook: Rulebook) -> Rule | None:
    codes = codes_in(text)
    own = rulebook.of(pg_provider)
    if own is not None and (rule := _by_code(own, codes)):
        return rule
    if not _named(pg_provider) and (rule := _unnamed(codes, rulebook)):
        return rule
    if rule := _by_code(rulebook.general, codes):
        return rule
    plain = plain_words(text, rulebook)
    for file in (own, rulebook.general):
        for rule in file.rules if file is not None else ():
            if rule.says(plain):
                return rule
    return None


def _by_code(file: RuleFile, codes: Iterable[str]) -> Rule | None:
    return next((file.by_code[code] for code in codes if code in file.by_code), None)


def _unnamed(codes: Iterable[str], rulebook: Rulebook) -> Rule | None:
    """For an unnamed PG: a code that leaves the outcome open at any PG leaves it open."""
    for file in rulebook.others:
        rule = _by_code(file, codes) if file.counts_when_unnamed else None
        if rule is not None and rule.decline_class is DeclineClass.UNKNOWN_OUTCOME:
            return rule
    return None


def unclear(text: str | None, pg_provider: str | None, rulebook: Rulebook) -> Iterator[Rule]:
    """Return the rules by which this text does not say whether money moved; they take precedence."""
    if not text:
        return
    codes, plain = codes_in(text), plain_words(text, rulebook)
    own = rulebook.of(pg_provider)
    for file in [rulebook.general] if own is None else [own, rulebook.general]:
        for rule in file.unclear:
            if not rule.codes.isdisjoint(codes) or rule.says(plain):
                yield rule
    if not _named(pg_provider) and (unnamed := _unnamed(codes, rulebook)):
        yield unnamed


def _named(pg_provider: str | None) -> bool:
    return bool((pg_provider or "").strip())


def pg_code(text: str) -> str | None:
    """Return the PG's own code, in brackets at the start of its text: `[2116]…` or `[500626|…]`."""
    found = _BRACKETED.search(text)
    return found.group(1) if found else None


def codes_in(text: str) -> tuple[str, ...]:
    """Return possible codes of a text, in order: in brackets, at the start, or the whole text."""
    head = text[:SEEN]
    found = [code.upper() for code in _BRACKETED.findall(head)]
    if leading := _LEADING.match(head):
        found.append(leading.group(1))
    if alone := _ALONE.fullmatch(head):
        found.append(alone.group(1).upper())
    return tuple(dict.fromkeys(found))


def plain_words(text: str, rulebook: Rulebook) -> str:
    """Normalize a text for comparison: without PortOne's prefix, blanks, dashes and case."""
    plain = _squeezed(_NUMBERED.sub("", text[:SEEN]))
    wrappers = rulebook.general.wrappers
    return plain if wrappers is None else wrappers.sub("", plain)


def _squeezed(text: str) -> str:
    return _IGNORED.sub("", unicodedata.normalize("NFKC", text)).casefold()


def read_rules(name: str, text: str) -> RuleFile:
    """Read and check one rules file; an error names the file, the rule and the reason."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRules(f"rules file {name} is not TOML: {error}") from None
    if strange := sorted(set(document) - _FILE_KEYS):
        _refuse(name, None, f"unknown keys {', '.join(strange)}")
    version = document.get("version")
    if type(version) is not int or version < 1:
        _refuse(name, None, f"version {version!r} is not a whole number from 1 on")
    unnamed = document.get("counts_when_unnamed", False)
    if not isinstance(unnamed, bool):
        _refuse(name, None, "counts_when_unnamed is neither true nor false")
    wrappers = _texts(name, None, document, "wrappers")
    entries = document.get("rule", [])
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        _refuse(name, None, "it has no [[rule]]")
    rules = tuple(_read_rule(name, entry) for entry in entries)
    return RuleFile(
        name=name,
        version=version,
        pg_providers=tuple(provider.casefold() for provider in _texts(name, None, document, "pg_providers")),
        rules=rules,
        by_code=_codes_of(name, rules),
        wrappers=_wording(name, None, wrappers, ()),
        counts_when_unnamed=unnamed,
    )


def _read_rule(name: str, entry: Mapping[str, object]) -> Rule:
    short = entry.get("id")
    if not isinstance(short, str) or not _ID.fullmatch(short):
        _refuse(name, None, f"rule id {short!r} is not made of small letters, digits and single dashes")
    if strange := sorted(set(entry) - _RULE_KEYS):
        _refuse(name, short, f"unknown keys {', '.join(strange)}")
    if not isinstance(entry.get("note", ""), str):
        _refuse(name, short, "its note is not a text")
    codes = frozenset(code.upper() for code in _texts(name, short, entry, "codes"))
    words, patterns = _texts(name, short, entry, "words"), _texts(name, short, entry, "patterns")
    if not (codes or words or patterns):
        _refuse(name, short, "it names no codes, words or patterns")
    return Rule(
        id=f"{name}/{short}",
        decline_class=DeclineClass(_choice(name, short, entry, "class", [str(c) for c in DeclineClass])),
        source=Source(_choice(name, short, entry, "source", [str(s) for s in Source])),
        codes=codes,
        wording=_wording(name, short, words, patterns),
    )


def _choice(name: str, rule: str, entry: Mapping[str, object], key: str, known: list[str]) -> str:
    value = entry.get(key)
    if value not in known:
        _refuse(name, rule, f"{key} {value!r} is not known; there are: {', '.join(known)}")
    return str(value)


def _texts(name: str, rule: str | None, document: Mapping[str, object], key: str) -> tuple[str, ...]:
    values = document.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
        _refuse(name, rule, f"{key} is not a list of texts")
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        _refuse(name, rule, f"{key} names {twice!r} twice")
    return tuple(values)


def _wording(
    name: str, rule: str | None, words: tuple[str, ...], patterns: tuple[str, ...]
) -> re.Pattern[str] | None:
    """Return one expression for all texts of a rule; an expression that matches every text is refused."""
    for pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            _refuse(name, rule, f"pattern {pattern!r} cannot be read: {error}")
        if compiled.search(""):
            _refuse(name, rule, f"pattern {pattern!r} matches every text")
        if pattern != pattern.casefold() or re.search(r"\s", pattern):
            _refuse(name, rule, f"pattern {pattern!r} has blanks or capitals, unlike a normalized text")
    plain = [_squeezed(word) for word in words]
    if "" in plain:
        _refuse(name, rule, f"word {words[plain.index('')]!r} is empty after normalization")
    parts = [re.escape(word) for word in plain] + [f"(?:{pattern})" for pattern in patterns]
    return re.compile("|".join(parts)) if parts else None


def _codes_of(name: str, rules: tuple[Rule, ...]) -> dict[str, Rule]:
    found: dict[str, Rule] = {}
    ids: set[str] = set()
    for rule in rules:
        short = rule.id.partition("/")[2]
        if rule.id in ids:
            _refuse(name, short, "its id is used twice")
        ids.add(rule.id)
        for code in sorted(rule.codes):
            if code in found:
                _refuse(name, short, f"code {code} is in rule {found[code].id} already")
            found[code] = rule
    return found


def _refuse(name: str, rule: str | None, why: str) -> NoReturn:
    where = f"rules file {name}" if rule is None else f"rules file {name}, rule {rule!r}"
    raise BadRules(f"{where}: {why}")


def bound(files: Iterable[RuleFile]) -> Rulebook:
    """Combine the files; two files for one PG, or a missing general file, are refused."""
    others: list[RuleFile] = []
    general: RuleFile | None = None
    by_provider: dict[str, RuleFile] = {}
    for file in sorted(files, key=lambda file: file.name):
        if file.name == GENERAL:
            general = file
        else:
            others.append(file)
        for provider in file.pg_providers:
            if provider in by_provider:
                _refuse(file.name, None, f"{provider} has the file {by_provider[provider].name} already")
            by_provider[provider] = file
    if general is None:
        raise BadRules(f"the rules have no file {GENERAL!r}")
    version = max(file.version for file in (*others, general))
    return Rulebook(version, general, tuple(others), by_provider)
