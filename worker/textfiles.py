"""Read text files: UTF-8, UTF-16 with a byte order mark, or CP949, the default of Korean Excel."""

import codecs
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

from schedules.errors import Code, FixedCode
from schedules.texts import escaped

log = logging.getLogger("again.textfiles")
BLOCK = 1 << 20  # bytes read at once
IN_MEMORY = 1 << 24  # bytes of standard input that stay in memory; the rest goes to a temporary file
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class UnreadableText(FixedCode, code=Code.INVALID):
    """A file that cannot be opened, or whose bytes are not text in a known encoding."""


@contextmanager
def open_text(file: Path, encoding: str | None = None) -> Iterator[IO[str]]:
    """Open a file, or standard input for -, as text in its own or the given encoding; it can be read once.

    The whole of it is decoded before the first line is returned, so that no reader stops half way.
    """
    where = "standard input" if str(file) == "-" else str(file)
    try:
        stream = _standard_input() if str(file) == "-" else file.open("rb")
    except (OSError, ValueError) as error:  # a ValueError for a path with a NUL
        why = error.strerror if isinstance(error, OSError) else error
        raise UnreadableText(f"{escaped(where)} cannot be read: {why}") from None
    with stream:
        try:
            chosen = _given(where, stream, encoding) if encoding else _detected(where, stream)
        except OSError as error:
            raise UnreadableText(f"{where} cannot be read: {error.strerror}") from None
        stream.seek(0)
        yield TextIOWrapper(stream, encoding=chosen, newline="")


def read_text(file: Path, encoding: str | None = None) -> str:
    """The whole text of a file, or of standard input for -."""
    with open_text(file, encoding) as stream:
        return stream.read()


def _standard_input() -> IO[bytes]:
    spooled = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 # the caller closes it
    while block := sys.stdin.buffer.read(BLOCK):
        spooled.write(block)
    spooled.seek(0)
    return spooled


def _detected(where: str, stream: IO[bytes]) -> str:
    begin = stream.read(3)
    for mark, encoding in _MARKS:
        if begin.startswith(mark):
            return _given(where, stream, encoding)
    wrong = _first_fault(stream, "utf-8")
    if wrong is None:
        return "utf-8"
    if _first_fault(stream, "cp949") is None:
        log.warning("%s is not UTF-8; it is read as CP949", where)
        return "cp949"
    raise UnreadableText(
        f"{where} is neither UTF-8 nor CP949: {wrong}; save it as UTF-8, or give --encoding where there is one"
    )


def _given(where: str, stream: IO[bytes], encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError:
        raise UnreadableText(f"encoding {encoding!r} is not known; take utf-8, cp949 or utf-16") from None
    wrong = _first_fault(stream, encoding)
    if wrong is not None:
        raise UnreadableText(f"{where} is not {encoding}: {wrong}")
    return encoding


def _first_fault(stream: IO[bytes], encoding: str) -> str | None:
    """Where the bytes stop being text in this encoding; None when all of them are."""
    stream.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    try:
        while block := stream.read(BLOCK):
            line += decoder.decode(block).count("\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        return f"{error.reason} in line {line}, byte 0x{error.object[error.start]:02x}"
    return None
