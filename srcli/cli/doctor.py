"""`srcli doctor`: what this machine offers, and whether enlarging works on it."""

from __future__ import annotations

from json import dumps
from pathlib import Path

from srcli.cli import options
from srcli.cli.command import option, single
from srcli.errors import CheckError


def doctor(
    json: options.Json = False,
    report: bool = option("Without the names of your folders, for a report of a bug."),
    device: options.Device = "auto",
) -> None:
    """Say whether this machine is ready, and what to do if not.

    It shows versions, devices, codecs and folders, and enlarges a small picture. Exit code 7 if something does not work as it should.
    """
    from srcli.evaluate.diagnosis import examine

    found = examine(device)
    if report:
        found.facts.pop("folders")
    if json:
        print(_private(dumps(found.to_dict(), indent=2), report))
    else:
        lines = []
        for heading, facts in found.facts.items():
            lines.append(heading)
            lines += [f"  {name:18} {value}" for name, value in facts.items()]
        lines.append("checks")
        lines += [f"  {c.name:18} {'ok' if c.ok else 'FAILED'}: {c.detail}" for c in found.checks]
        if found.ok:
            lines += ["", "All is well: srcli is ready to use."]
        print(_private("\n".join(lines), report))
    if not found.ok:
        wrong = ", ".join(check.name for check in found.checks if not check.ok)
        what = next(check.detail for check in found.checks if not check.ok)
        hint = f"First mend this: {what.rstrip('.')}. Or report it with: srcli doctor --report"
        raise CheckError(f"not as it should be: {wrong}.", hint=hint)


def _private(text: str, report: bool) -> str:
    """The text, for a report without the home folder's name."""
    home = str(Path.home())
    return text.replace(home, "~") if report and len(home) > 1 else text


app = single(doctor)
