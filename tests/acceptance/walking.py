"""Runs many commands one after the other in this process, each as `again` would, and tells what each printed.

Standard input is a JSON document: the commands, each with its standard input, and the encoding of their output.
"""

import io
import json
import sys
from typing import Any

from worker.cli import main


def carry_out(words: list[str], typed: str, encoding: str) -> dict[str, Any]:
    """Carry out one command; answers its exit status and what it printed, read as that encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2)]
    before = sys.argv, sys.stdin, sys.stdout, sys.stderr
    sys.argv, sys.stdin, sys.stdout, sys.stderr = ["again", *words], io.StringIO(typed), streams[0], streams[1]
    try:
        main()
        status: Any = 0
    except SystemExit as ended:
        status = ended.code or 0
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr = before
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)
    return {"words": words, "status": status, "out": out, "err": err}


def walk() -> None:
    """Carry out what standard input names."""
    asked = json.load(sys.stdin)
    done = [carry_out(words, typed, asked["encoding"]) for words, typed in asked["commands"]]
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    walk()
