"""Whether this container's process does its work: `http`, `worker` or `beat`. Exit code 0 when it does."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

BEAT_FILES = "/tmp/beat-schedule*"  # noqa: S108 - where docker-compose.yml tells beat to keep it
# Beat writes its schedule every three minutes.
BEAT_SILENT_S = 600


def http() -> bool:
    """Ready: database, Redis and migrations. Asked by the name the site is known by: others are refused."""
    host = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")[0].strip().lstrip(".")
    headers = {"Host": host, "X-Forwarded-Proto": "https"}
    with urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8000/readyz", headers=headers), timeout=8) as answer:
        return answer.status == 200


def worker() -> bool:
    name = f"celery@{socket.gethostname()}"
    command = ["celery", "-A", "voltaro", "inspect", "ping", "--timeout", "8", "-d", name]
    return subprocess.run(command, capture_output=True, timeout=25, check=False).returncode == 0


def beat() -> bool:
    folder, pattern = BEAT_FILES.rsplit("/", 1)
    return any(time.time() - path.stat().st_mtime < BEAT_SILENT_S for path in Path(folder).glob(pattern))


if __name__ == "__main__":
    try:
        sys.exit(0 if {"http": http, "worker": worker, "beat": beat}[sys.argv[1]]() else 1)
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
