"""Broken rules, each saying what was wrong, with which value, and what to do."""


class ToldInWords(Exception):
    """An error that a person can meet: its words say what was wrong, with which value, and what to do."""


class RuleBroken(ToldInWords, ValueError):
    """What was asked for is against a rule; nothing has been done."""


class BadMoney(RuleBroken):
    """An amount that is not a whole, positive number of minor units, or a currency that we do not know."""


class BadCadence(RuleBroken):
    """A rule of dates that cannot be followed."""


class BadZone(RuleBroken):
    """A time zone that the IANA database does not have."""


class BadPlan(RuleBroken):
    """A plan whose parts do not fit together or that the gateway would not take."""


class BadUid(RuleBroken):
    """A merchant_uid, charge key or subscription key that is not ours or was mistyped."""


class BadPolicy(RuleBroken):
    """A dunning policy that cannot be followed."""


class BadRequest(RuleBroken):
    """A field of a request that cannot be; it is named."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(f"{field}: {words}")
        self.field = field
        self.words = words


class BadRules(RuleBroken):
    """A file of decline rules that cannot be followed."""


# What rules raise over a row that none of them allows: it is set aside, and the others go on.
BROKEN = (RuleBroken, ValueError, LookupError, ArithmeticError)
