"""Look up the packages of requirements.lock in the database of known vulnerabilities: `make audit`.

It needs the network and no installed environment: pip-audit gets a small one of its own. A mirror of PyPI that knows
no vulnerabilities would pass for a clean answer, so OSV is asked.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from stages import install

TOOL = "pip-audit==2.10.1"
VENV = Path(".venv/audit")


def main() -> None:
    """Print the vulnerabilities, if any, and end with 1; say so in one line if nobody could be asked."""
    steps: list[list[str | Path]] = [
        [sys.executable, "-I", "-m", "venv", VENV],
        install.install(VENV, TOOL),
    ]
    asks: list[str | Path] = [
        VENV / "bin" / "pip-audit",
        "--strict",
        "--vulnerability-service=osv",
        "--no-deps",
        "--disable-pip",
    ]
    asks += ["--progress-spinner=off", "-r", "requirements.lock"]
    for step in [asks] if Path(asks[0]).exists() else [*steps, asks]:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode and not done.stdout:
            why = (done.stderr.strip().splitlines() or ["no word why"])[-1]
            sys.exit(f"make audit: nothing was checked; it needs the network: {why}")
    print(done.stdout + done.stderr, end="")
    sys.exit(done.returncode)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
