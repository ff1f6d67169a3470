"""Makes the project's own virtual environment. Standard library only: nothing else is there yet."""

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"


def enter(script: str, *, dev: bool = False) -> None:
    """Make sure the environment is there and this process runs inside it; re-executes `script` when it does not.

    Installs requirements.txt (and requirements-dev.txt with `dev`) when they, or Python, have changed since last time.
    Exits with a sentence that says what to do when that fails.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - somebody may start it with an older one
        sys.exit(f"Voltaro needs Python 3.11 or newer; this is {sys.version.split()[0]}. Start it with a newer one: python3.12 {script}")
    wanted = ["requirements.txt", "requirements-dev.txt"] if dev else ["requirements.txt"]
    stamp = VENV / ("stamp-dev" if dev else "stamp")
    state = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in wanted) + sys.version.encode()).hexdigest()

    def ready() -> bool:
        return stamp.exists() and stamp.read_text() == state and PYTHON.exists()

    if not ready():
        with open(ROOT / "requirements.txt") as lock:  # one at a time: bin/run and bin/test may begin together
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ready():
                try:
                    _install(wanted)
                except KeyboardInterrupt:
                    sys.exit("\n[setup] interrupted; start it again to go on.")
                stamp.write_text(state)
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(PYTHON, [str(PYTHON), script, *sys.argv[1:]])


def _install(wanted: list[str]) -> None:
    began = time.monotonic()
    print(f"[setup] making {VENV} and installing {' and '.join(wanted)} (about half a minute) ...", flush=True)
    if not PYTHON.exists() or not (VENV / "bin" / "pip").exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if made.returncode != 0:  # Debian without python3-venv has no ensurepip: make it bare, use the system's pip on it
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)], check=True)
    if (VENV / "bin" / "pip").exists():
        pip = [str(PYTHON), "-m", "pip"]
    elif subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        pip = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    else:
        sys.exit("pip is missing: install it (Debian: apt-get install python3-pip), then start this again.")
    for name in wanted:
        done = subprocess.run(
            [*pip, "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes", "-r", str(ROOT / name)]
        )
        if done.returncode != 0:
            sys.exit(f"[setup] installing {name} failed (above). Is the package index reachable? Then start this again.")
    print(f"[setup] installed in {time.monotonic() - began:.0f} s", flush=True)
