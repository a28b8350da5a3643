"""Runs PortOne clients that others wrote against a simulator, and prints what each call came to.

Each client is installed, in the version named here, into a folder that is removed at the end. The clients in
JavaScript need npm.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.simulator.running import running_simulator

HERE = Path(__file__).parent
PYTHON = ("iamport-rest-client", "0.9.0")
NODE = {"iamport": "0.3.4", "iamporter": "1.4.2", "iamport-rest-client-nodejs": "0.9.12"}
INSTALL_TIME = 300.0  # seconds
RUN_TIME = 60.0  # seconds


def main() -> int:
    """Run all of them; 1 when a call failed or a client did not run."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        print("npm and node are needed for the clients in JavaScript: install Node.js", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="again-clients-") as name:
        folder = Path(name)
        python = _python_client(folder)
        wanted = [f"{package}@{version}" for package, version in NODE.items()]
        quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
        _run([npm, "install", *quiet, "--prefix", name, *wanted], INSTALL_TIME)
        program = shutil.copy(HERE / "node_clients.js", folder / "node_clients.js")
        failed = _shown(PYTHON, [python, HERE / "python_client.py"])
        for package in NODE.items():
            failed += _shown(package, [node, program, package[0]])
    print(f"{failed} calls failed" if failed else "every call did what its client expects")
    return 1 if failed else 0


def _python_client(folder: Path) -> Path:
    """The Python of an environment that has the client in it."""
    _run([sys.executable, "-m", "venv", folder / "venv"], INSTALL_TIME)
    python = folder / "venv" / "bin" / "python"
    _run([python, "-m", "pip", "install", "--quiet", "--no-input", "==".join(PYTHON)], INSTALL_TIME)
    return python


def _shown(package: tuple[str, str], command: list[str | Path]) -> int:
    """Run one client against a simulator of its own, print its calls; how many failed."""
    with running_simulator() as simulator:
        lines = _run([*command, simulator.url], RUN_TIME).splitlines()
    failed = [line for line in lines if line.startswith("failed")]
    print(f"{' '.join(package)}: {len(lines)} calls, {len(failed)} failed")
    print("".join(f"  {line}\n" for line in lines), end="")
    return len(failed) if lines else 1


def _run(command: list[str | Path], seconds: float) -> str:
    """The output of a command; its own error output is shown, and an exit code other than 0 raises."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=seconds).stdout


try:
    sys.exit(main())
except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
    print(f"a client could not be installed or did not run to its end: {error}", file=sys.stderr)
    sys.exit(1)
