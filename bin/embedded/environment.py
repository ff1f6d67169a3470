"""What every process of one data folder shares: its secrets, its addresses, its ports."""

import contextlib
import os
import secrets
import socket
import sys
from pathlib import Path

_READABLE = "23456789abcdefghjkmnpqrstuvwxyz"


def kept_secret(base: Path, name: str, make: str) -> tuple[str, bool]:
    """The secret of that name, made once per data folder and readable by its owner only; True when it was made now.

    `make` is "key" (50 characters for machines) or "password" (three groups of four, for people).
    """
    path = base / name
    with contextlib.suppress(FileNotFoundError):
        if kept := path.read_text().strip():
            return kept, False
    new = secrets.token_urlsafe(38) if make == "key" else "-".join("".join(secrets.choice(_READABLE) for _ in range(4)) for _ in range(3))
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(new + "\n")
    return new, True


def shared(base: Path) -> dict[str, str]:
    """What bin/run and bin/manage hand to Django besides the services. What the user has set counts more."""
    if os.environ.get("VOLTARO_ENV", "dev") == "prod":
        sys.exit("This command is for dev and test. Production runs the processes of docker-compose.yml.")
    key, _ = kept_secret(base, "secret-key", "key")
    folders = {"MEDIA_ROOT": str(base / "files"), "CHARGER_CA_DIR": str(base / "charger-ca")}
    ours = {"VOLTARO_ENV": "dev", "SECRET_KEY": key, **folders}
    return {name: os.environ.get(name) or value for name, value in ours.items()}


def free_port(wanted: int, host: str = "127.0.0.1") -> int:
    """`wanted`, or the next one nobody listens on. Exits with a sentence when there is none."""
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError, OverflowError):
                probe.bind((host, port))
                return port
    sys.exit(f"No port from {wanted} to {wanted + 99} is free on {host}. Name another: --port, or PORT and SANDBOX_PORT.")
