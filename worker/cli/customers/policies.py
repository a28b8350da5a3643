"""`again policy`: dunning policies in versions, and a preview of the dates after a decline."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from schedules.calendar.zones import zone as read_zone
from schedules.dunning.card_limits import limit_span
from schedules.dunning.decisions import Said
from schedules.dunning.declines import DeclineClass, classify
from schedules.dunning.policies import BUILT_IN, STANDARD, DunningPolicy, words
from schedules.dunning.policy_files import read_policy_file, written
from schedules.dunning.previews import preview
from schedules.errors import Code as ErrorCode
from schedules.errors import FixedCode
from worker.cli.terminal.options import read_instant
from worker.cli.terminal.output import Actor, OfZone, actor, answer, print_table, say
from worker.cli.terminal.sections import Listed
from worker.cli.terminal.wired import services
from worker.clock import SystemClock
from worker.customers import enrollment
from worker.rules import rulebook
from worker.store.customers import policies
from worker.store.customers.policies import StoredPolicy
from worker.textfiles import read_text

Code = Annotated[str, typer.Argument(help="The policy's code.")]
app = typer.Typer()
group = typer.Typer(cls=Listed, help="Dunning policies: retries and actions after declines.", no_args_is_help=True)
app.add_typer(group, name="policy")


class UnknownPolicy(FixedCode, LookupError, code=ErrorCode.NOT_FOUND):
    """There is no policy with this code."""


@group.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="A policy in TOML; - reads standard input.")], who: Actor = actor()
) -> None:
    """Add a policy as the next version of its code; charges that were opened before keep their version."""
    policy = read_file(file)
    stored, is_new = enrollment.add_policy(services(), policy, who)
    became = "is kept; new debts of its plans get it" if is_new else "says the same already; nothing was changed"
    answer(_facts(stored), f"policy {policy.code} version {stored.policy.version} {became}")


@group.command("list")
def list_policies(
    every: Annotated[bool, typer.Option("--all", help="Every version, not only the newest.")] = False,
) -> None:
    """List the policies."""
    with services().engine.begin() as db:
        listed = policies.listed(db, every_version=every)
    answer([_facts(stored) for stored in listed])
    names = ("code", "version", "ladder", "wait", "grace", "final", "kept at")
    print_table("policies", names, (_columns(stored) for stored in listed))


@group.command("show")
def show(code: Code, version: Annotated[int | None, typer.Option(help="The newest unless given.")] = None) -> None:
    """Show a policy as its file; `standard` and `once` always exist."""
    versions = _stored(code)
    policy = _version(code, version, versions)
    answer({"code": policy.code, "version": policy.version, "policy": policy.to_json()})
    say(f"# version {policy.version}" if versions else "# built in; kept when a plan names it")
    say(written(policy).rstrip("\n"))


@group.command("preview")
def preview_policy(
    zone: OfZone,
    policy: Annotated[str, typer.Argument(help="A policy's code, or a file in TOML.")] = STANDARD.code,
    text: Annotated[str | None, typer.Option(help="The gateway's words, as PortOne gives them.")] = None,
    pg: Annotated[str | None, typer.Option(help="The PG as PortOne names it, such as kcp.")] = None,
    decline_class: Annotated[DeclineClass | None, typer.Option("--class", help="The class, instead.")] = None,
    at: Annotated[str | None, typer.Option(help="When it fails first, ISO 8601; now unless given.")] = None,
) -> None:
    """Show the tries and steps that follow a failure, in the subscriber's zone; a file needs no database."""
    if (text is None) is (decline_class is None):
        raise typer.BadParameter("give --text with --pg, or --class")
    tz = read_zone(zone)
    chosen = _named(policy)
    classified = _classified(text, pg, decline_class)
    dates = preview(chosen, classified, read_instant(at) if at else _now(), zone)
    coming = [
        {"at": thing.at, "local": thing.at.astimezone(tz).isoformat(), "what": thing.what} for thing in dates
    ]
    facts = {"policy": chosen.code, "version": chosen.version, "class": classified.decline_class}
    answer(facts | {"coming": coming})
    rows = (
        (f"{thing.at.astimezone(tz):%a %Y-%m-%d %H:%M}", f"{thing.at:%Y-%m-%d %H:%M:%S}", thing.what)
        for thing in dates
    )
    print_table(f"{classified.decline_class} under {chosen.code}", (zone, "UTC", "what"), rows)


def read_file(file: Path) -> DunningPolicy:
    """The policy in a file or on standard input."""
    return read_policy_file(read_text(file), "standard input" if str(file) == "-" else str(file))


def _now() -> datetime:
    return SystemClock().now()


def _classified(text: str | None, pg: str | None, decline_class: DeclineClass | None) -> Said:
    if decline_class is not None:
        return Said(decline_class)
    found = text or ""
    placed = classify(found, pg, rulebook())
    return Said(placed.decline_class, limit_span(found), definite=placed.definite)


def _named(name: str) -> DunningPolicy:
    if name.endswith(".toml") or name == "-":
        return read_file(Path(name))
    return _version(name, None, _stored(name))


def _stored(code: str) -> Sequence[StoredPolicy]:
    """The stored versions of a policy; none for a built-in policy without a database."""
    return [] if code in BUILT_IN and not _has_settings() else _versions(code)


def _has_settings() -> bool:
    from worker.config import BadSettings, load_settings

    try:
        load_settings()
    except BadSettings:
        return False
    return True


def _versions(code: str) -> Sequence[StoredPolicy]:
    with services().engine.begin() as db:
        found = policies.by_code(db, code)
        if not found and code not in BUILT_IN:
            known = ", ".join(stored.policy.code for stored in policies.listed(db)) or "none yet"
            built_in = ", ".join(BUILT_IN)
            raise UnknownPolicy(f"policy {code!r} is not known; there are: {known}, and built in: {built_in}")
    return found


def _version(code: str, version: int | None, versions: Sequence[StoredPolicy]) -> DunningPolicy:
    if not versions and code in BUILT_IN and version in (None, BUILT_IN[code].version):
        return BUILT_IN[code]
    found = [stored.policy for stored in versions if version in (None, stored.policy.version)]
    if not found:
        numbers = ", ".join(str(stored.policy.version) for stored in versions) or "1"
        raise UnknownPolicy(f"policy {code!r} has no version {version}; there are: {numbers}")
    return found[-1]


def _columns(stored: StoredPolicy) -> tuple[object, ...]:
    policy = stored.policy
    ladder = " ".join(words(offset) for offset in policy.ladder)
    grace = words(policy.grace) if policy.grace is not None else ""
    return policy.code, policy.version, ladder, words(policy.patience), grace, policy.final, stored.created_at


def _facts(stored: StoredPolicy) -> dict[str, Any]:
    policy = stored.policy
    return {"code": policy.code, "version": policy.version, "created_at": stored.created_at,
            "policy": policy.to_json()}  # fmt: skip
