"""`make reference`: write the reference pages of settings, events, tasks and commands from the code.

It stands outside of `worker/`, so that production does not install it, and outside of `tests/`, since it writes
files of the repository. A test compares the committed pages with what it writes.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from enum import Enum, EnumType
from inspect import Parameter, cleandoc
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from schedules.errors import as_markdown
from schedules.outbox.event_fields import EVENT_FIELDS
from schedules.outbox.event_kinds import KINDS
from schedules.outbox.events import Event
from worker.cli import command_line
from worker.cli.terminal.examples import EXAMPLES, commands_of
from worker.cli.terminal.json_fields import JSON_FIELDS
from worker.cli.terminal.sections import SECTIONS
from worker.config import Settings
from worker.setting_names import PREFIX
from worker.task_api.answers import fields_of
from worker.task_api.request_fields import ANSWERS, REQUEST_FIELDS
from worker.task_api.verbs import VERBS

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
NOTE = "<!-- `make reference` writes this page from the code; do not edit it. -->"
# The first setting of each section.
SETTING_SECTIONS: Mapping[str, str] = {
    "environment": "Installation and gateway",
    "webhook_url": "Webhooks",
    "connect_timeout": "Time-outs",
    "rate": "Rates, limits and the circuit breaker",
    "queue_bound": "Processes",
    "zone": "Output and clock",
}
TYPES: Mapping[str, str] = {"str": "text", "int": "integer", "bool": "boolean", "datetime": "instant"}
DYNAMIC_DEFAULT = re.compile(r"; default: [^\]]*")  # of an option that a variable sets: differs by machine


def pages() -> dict[str, str]:
    """Every generated page by its file's name."""
    return {"settings.md": settings(), "events.md": events(), "tasks.md": tasks(), "commands.md": commands()}


def settings() -> str:
    """The settings, each with its default, its bounds and its description."""
    parts = [
        "Environment variables that Again reads. [Configuration](../how-to/configuration.md) explains how they "
        "are checked, and the files that they name."
    ]
    rows: list[Sequence[str]] = []
    for name, field in Settings.model_fields.items():
        if name in SETTING_SECTIONS:
            if rows:
                parts.append(table(("variable", "default", "values", "description"), rows))
            parts.append(f"## {SETTING_SECTIONS[name]}")
            rows = []
        rows.append((f"`{PREFIX}{name.upper()}`", default_of(field), values_of(field), described(field)))
    parts.append(table(("variable", "default", "values", "description"), rows))
    return page("Settings", parts)


def default_of(field: FieldInfo) -> str:
    """The default as it is written in the environment."""
    if field.is_required():
        return "required"
    if field.default is None:
        return "not set"
    default = field.default
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def values_of(field: FieldInfo) -> str:
    """The values that a setting takes: its choices, or its type with its bounds."""
    hint = not_null(field.annotation)
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    type_ = {"float": "number", "SecretStr": "secret text", "Path": "path"}.get(hint.__name__, type_word(hint))
    signs = {"gt": "above", "ge": "from", "lt": "below", "le": "to"}
    limits = [
        f"{sign} {getattr(each, name):,}"
        for each in field.metadata
        for name, sign in signs.items()
        if hasattr(each, name)
    ]
    return " ".join([type_, *limits])


def described(field: FieldInfo) -> str:
    """The description with its examples."""
    examples = "".join(f" Example: `{example}`." for example in field.examples or ())
    return f"{field.description}{examples}"


def events() -> str:
    """The kinds of events with their fields, and what each field means."""
    types: dict[str, set[str]] = {}
    kinds = []
    for kind, event in KINDS.items():
        hints = get_type_hints(event)
        own = [field.name for field in fields(event)]
        for name in own:
            types.setdefault(name, set()).add(type_word(not_null(hints[name])))
        marked = ", ".join(f"`{name}{'?' if is_nullable(hints[name]) else ''}`" for name in own)
        kinds.append((f"`{kind}`", summary(event), marked))
    explained = [(f"`{name}`", only(types[name]), text) for name, text in sorted_fields(EVENT_FIELDS, types)]
    return page(
        "Events",
        [
            "[Events](../how-to/events.md) says how they are sent, verified and repeated. "
            "`again events schema KIND --json` prints the JSON Schema of a kind.",
            "## Kinds",
            "A field with a question mark may be null.",
            table(("kind", "written when", "fields"), kinds),
            "## Fields",
            "An instant is in UTC and ends with Z, a date is `YYYY-MM-DD`. Amounts are in minor units of the "
            "currency: 9900 for 9,900 KRW, 1234 for 12.34 USD.",
            table(("field", "type", "meaning"), explained),
        ],
    )


def tasks() -> str:
    """The tasks with their fields and answers, what each field means, and the codes of refusals."""
    types: dict[str, set[str]] = {}
    parts = [
        "[Tasks](../how-to/tasks.md) says how a task is sent, answered and sent again. Send each to the queue "
        "`requests`, with its fields as keyword arguments.",
        "## Tasks",
        "A field with a question mark may be left out.",
    ]
    for task in VERBS:
        hints = get_type_hints(task)
        own = fields_of(task)
        for field in own:
            own_name = f"{task.__name__}.{field.name}"
            name = own_name if own_name in REQUEST_FIELDS else field.name
            types.setdefault(name, set()).add(type_word(not_null(hints.get(field.name, str))))
        parts += [
            f"### `again.{task.__name__}`",
            documentation(task),
            "- Fields: " + ", ".join(f"`{field.name}{mark(field)}`" for field in own) + "\n"
            "- Answer: " + in_code(ANSWERS[task.__name__]),
        ]
    explained = [(f"`{name}`", only(types[name]), text) for name, text in sorted_fields(REQUEST_FIELDS, types)]
    parts += [
        "## Fields",
        "A date is `YYYY-MM-DD`, a time `HH:MM`.",
        table(("field", "type", "meaning"), explained),
        "## Codes",
        "The `code` of an answer whose `ok` is false, and of an error that a command prints with `--json`.",
        as_markdown().strip(),
    ]
    return page("Tasks", parts)


def mark(field: Parameter) -> str:
    """A question mark for a field that may be left out."""
    return "" if field.default is Parameter.empty else "?"


def commands() -> str:
    """The commands in their sections, each with its arguments, options, example and the fields of its JSON."""
    parts = [
        "[The command line](../how-to/command-line.md) says how output, JSON and completion work. Every command "
        "takes `--json`, except those that run until they are stopped.",
    ]
    found = dict(commands_of(command_line()))
    placed = {name for names in SECTIONS.values() for name in names}
    if missing := {path for path in found if path.partition(" ")[0] not in placed}:
        raise LookupError(f"commands in no section of worker.cli.terminal.sections: {', '.join(sorted(missing))}")
    for title, names in SECTIONS.items():
        parts.append(f"## {title}")
        for path in (path for name in names for path in found if path.partition(" ")[0] == name):
            parts += command(path, found[path])
    return page("Commands", parts)


def command(path: str, described: Any) -> Iterator[str]:
    """One command's part of the page."""
    context = described.make_context(f"again {path}", [], resilient_parsing=True)
    usage = [piece for piece in described.collect_usage_pieces(context) if not piece.startswith("COMMAND")]
    yield f"### `again {path}`"
    yield cleandoc(described.help)
    yield f"```sh\nagain {' '.join([path, *usage])}\n{EXAMPLES[path]}\n```"
    rows = [
        (f"`{name}`", (DYNAMIC_DEFAULT.sub("", help_) if parameter.envvar else help_).replace("  [", " ["))
        for parameter in described.params
        if parameter.name != "as_json" and not parameter.hidden
        for name, help_ in [parameter.get_help_record(context)]
    ]
    if rows:
        yield table(("argument or option", "meaning"), rows)
    if path in JSON_FIELDS:
        of_list = JSON_FIELDS[path].startswith("list of ")
        before, names = ("list of ", JSON_FIELDS[path][8:]) if of_list else ("", JSON_FIELDS[path])
        yield f"JSON: {before}{in_code(names)}"


def in_code(names: str) -> str:
    """Names with commas, each as code."""
    return ", ".join(f"`{name}`" for name in names.split(", "))


def page(title: str, parts: Iterable[str]) -> str:
    """A page of these parts under a heading."""
    return "\n\n".join([f"# {title}", NOTE, *parts]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in (" | ".join(head), *lines)).replace(
        "\n", f"\n{'|---' * len(head)}|\n", 1
    )


def summary(event: type[Event]) -> str:
    """The first paragraph of a docstring as one line."""
    return " ".join(cleandoc(event.__doc__ or "").partition("\n\n")[0].split()).rstrip(".")


def documentation(function: Callable[..., Any]) -> str:
    """A docstring as a paragraph or several."""
    return cleandoc(function.__doc__ or "")


def sorted_fields(texts: Mapping[str, str], used: Iterable[str]) -> list[tuple[str, str]]:
    """The explained fields by name; LookupError when they are not those in use."""
    if odd := set(texts) ^ set(used):
        raise LookupError(f"fields without a text, or texts without a field: {', '.join(sorted(odd))}")
    return sorted(texts.items())


def only(words: Iterable[str]) -> str:
    """The types of a field, which is one as a rule."""
    return " or ".join(sorted(words))


def not_null(hint: Any) -> Any:
    """A type hint without None and annotations."""
    if get_origin(hint) is Annotated:
        return not_null(get_args(hint)[0])
    if isinstance(hint, UnionType) or type(None) in get_args(hint):
        (hint,) = (each for each in get_args(hint) if each is not type(None))
        return not_null(hint)
    return hint


def is_nullable(hint: Any) -> bool:
    """Whether a type hint permits None."""
    return type(None) in get_args(hint)


def type_word(hint: Any) -> str:
    """A type's name for a reader; the values of an enum."""
    if isinstance(hint, EnumType):
        members: list[Enum] = list(hint)
        return " or ".join(f"`{member.value}`" for member in members)
    return TYPES.get(hint.__name__, hint.__name__)


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
