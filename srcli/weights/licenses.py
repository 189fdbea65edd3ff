"""Licences that weights and code are commonly published under."""

from __future__ import annotations

import re

from srcli.errors import ModelError

UNSTATED = "unstated"
# SPDX identifiers under which weights and code are commonly published; True: commercial use is allowed.
LICENSES = {
    "0BSD": True,
    "AGPL-3.0-only": True,
    "AGPL-3.0-or-later": True,
    "Apache-2.0": True,
    "BSD-2-Clause": True,
    "BSD-3-Clause": True,
    "BSL-1.0": True,
    "CC-BY-4.0": True,
    "CC-BY-NC-4.0": False,
    "CC-BY-NC-SA-4.0": False,
    "CC-BY-NC-ND-4.0": False,
    "CC-BY-SA-4.0": True,
    "CC0-1.0": True,
    "GPL-2.0-only": True,
    "GPL-2.0-or-later": True,
    "GPL-3.0-only": True,
    "GPL-3.0-or-later": True,
    "ISC": True,
    "LGPL-2.1-only": True,
    "LGPL-2.1-or-later": True,
    "LGPL-3.0-only": True,
    "LGPL-3.0-or-later": True,
    "MIT": True,
    "MIT-0": True,
    "MPL-2.0": True,
    "PolyForm-Noncommercial-1.0.0": False,
    "Unlicense": True,
    "Zlib": True,
}
OWN_TERMS = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")


def check_license(license_id: str | None) -> str:
    """The licence, if it is one that can be written down.

    Raises:
        ModelError: none was given, or it is no SPDX identifier of a usual licence.
    """
    known = {name.lower(): name for name in (*LICENSES, UNSTATED)}
    if license_id is None:
        raise ModelError(
            "the licence of these weights is not known.",
            hint="Say it: --license MIT (any SPDX identifier), LicenseRef-NAME for other terms, or 'unstated'.",
        )
    if license_id.lower() in known:
        return known[license_id.lower()]
    if OWN_TERMS.fullmatch(license_id):
        return license_id
    raise ModelError(
        f"'{license_id}' is not a licence that I know.",
        hint="Use its SPDX identifier (MIT, Apache-2.0, CC-BY-NC-4.0, ..), or LicenseRef-NAME for other terms.",
    )


def allows_commercial_use(license_id: str) -> bool:
    """Whether a licence is known to allow commercial use; False where nothing is known."""
    return LICENSES.get(license_id, False)
