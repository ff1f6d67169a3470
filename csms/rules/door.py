"""How a charger writes its name into an address, and which sub-protocol is spoken with it. Pure."""

import re
from collections.abc import Sequence

IDENTITY = re.compile(r"[A-Za-z0-9*\-_=+|@.]{1,48}")


def identity(path: str) -> str:
    """The charger's identity: the last part of its (decoded) path that is not empty, trimmed; "" when it is none.

    Chargers double and add slashes, append parameters, and repeat the whole URL where their identity belongs.
    """
    parts = [named for part in path.split("/") if (named := part.partition(";")[0].strip())]
    found = parts[-1] if parts and parts[-1] != "ocpp" else ""
    return found if IDENTITY.fullmatch(found) else ""


def spoken(offered: Sequence[str], preferred: Sequence[str], *, without: bool) -> tuple[str, str | None] | None:
    """(what is spoken, what the handshake answers: None for no header), or None when nothing is common (OCPP-J 1.6 §3.2).

    Our order counts, not the charger's: some offer first what they speak worst. `without`: a charger that names none at
    all is taken at the first of `preferred`.
    """
    named = {one.strip().casefold(): one.strip() for one in reversed(offered) if one.strip()}
    for one in preferred:
        if one.casefold() in named:
            return one, named[one.casefold()]
    if not named and without and preferred:
        return preferred[0], None
    return None
