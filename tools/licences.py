"""Write docs/licences.md: the licence of every package that users install, in one table.

python -m tools.licences     exit code 1: a licence is unknown, or copyleft beyond its own files
"""

from __future__ import annotations

import re
import sys
from importlib import metadata

from legos.files import write_text
from tools.dependencies import ROOT, RUNTIME, closure, pins, version

FILE = ROOT / "docs" / "licences.md"
_NAMES = {  # of trove classifiers and free texts, by SPDX
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT Licence": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0 License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
}
_COPYLEFT = re.compile(r"GPL|GNU|EUPL|CDDL|SSPL|OSL|CC-BY-(SA|NC)|proprietary", re.IGNORECASE)
HEAD = """\
# Licences
legos is under the MIT licence. The table lists every package of an installation with all extras, \
with the licence that its metadata declare; `make licences` writes it. {weak} are under MPL-2.0, \
which covers changes to their own files only. No package is under a licence that extends to \
programs that use it, such as GPL, AGPL or LGPL. Compiled wheels may contain further libraries; \
their licence files are in the wheels.

| package | version | licence | needed by |
|---|---|---|---|
"""


def licence(name: str) -> str:
    """Return the licence of an installed package as its metadata declare it; empty: they do not.

    Args:
        name: of the package.
    """
    found = metadata.metadata(name)
    if "License-Expression" in found:
        return found["License-Expression"]
    classes = [
        each.rpartition(" :: ")[2]
        for each in found.get_all("Classifier") or ()
        if each.startswith("License ::") and not each.endswith("OSI Approved")
    ]
    text = found["License"].strip() if "License" in found else ""
    stated = classes or ([text] if text and "\n" not in text and text != "UNKNOWN" else [])
    return ", ".join(_NAMES.get(each, each) for each in stated)


def objections(licences: dict[str, str]) -> list[str]:
    """Return a line for every package whose licence is unknown or copyleft beyond its own files."""
    return [
        f"{name}: {found or 'no licence in its metadata'}"
        for name, found in licences.items()
        if not found or _COPYLEFT.search(found)
    ]


def page(needed: dict[str, set[str]], licences: dict[str, str]) -> str:
    """Return the text of the page.

    Args:
        needed: by package those that need it, see :func:`tools.dependencies.closure`.
        licences: by package its licence.
    """
    weak = [name for name, found in licences.items() if "MPL" in found]
    pinned = {name for file in RUNTIME for name in pins(file)}
    rows = []
    for name, users in needed.items():
        all_users = ["legos"] * (name in pinned) + sorted(users)
        rows.append(f"| {name} | {version(name)} | {licences[name]} | {', '.join(all_users)} |")
    return HEAD.format(weak=", ".join(weak)) + "\n".join(rows) + "\n"


def main() -> int:
    """Write the page; returns the exit code."""
    needed = closure(RUNTIME)
    licences = {name: licence(name) for name in needed}
    for line in (wrong := objections(licences)):
        print(line, file=sys.stderr)
    if not wrong:
        write_text(FILE, page(needed, licences))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
