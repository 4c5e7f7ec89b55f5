"""``make audit``: known flaws of the locked packages, or one line where nobody could be asked.

pip-audit itself says "no known vulnerabilities found" of packages that its database did not know,
which is what it sees behind a mirror of PyPI.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
UNREACHED = 3


def verdict(answer: str) -> tuple[int, str]:
    """Return exit code and text for pip-audit's JSON; anything else is taken for no answer."""
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        packages = []
    asked = [one for one in packages if "skip_reason" not in one]
    flawed = [one for one in asked if one["vulns"]]
    if not asked:
        return UNREACHED, "audit: the database of flaws was not reached; nothing was looked up"
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, fixed in "
        f"{', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in flawed
        for flaw in one["vulns"]
    ]
    unknown = len(packages) - len(asked)
    rest = f"; {unknown} could not be looked up" if unknown else ""
    lines.append(f"audit: {len(asked)} packages, {len(flawed)} with known flaws{rest}")
    return 1 if flawed else 0, "\n".join(lines)


def main() -> None:
    """Ask for every package of the lock, and exit with 0, 1 (flaws) or 3 (nobody answered)."""
    done = subprocess.run(
        [Path(sys.executable).with_name("pip-audit"), "--disable-pip", "--require-hashes",
         "--requirement", LOCK, "--format", "json", "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    code, text = verdict(done.stdout)
    sys.stdout.write(f"{text}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
