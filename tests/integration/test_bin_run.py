"""bin/run for real: its own data folder, its own ports, and nothing left behind. Also the supervisor's rules."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bin"))
from embedded import environment, supervisor  # noqa: E402

pytestmark = pytest.mark.e2e


class Run:
    """One bin/run with everything it prints."""

    def __init__(self, data: Path, *options: str, **env: str) -> None:
        self.data = data
        given = {name: value for name, value in os.environ.items() if name not in TAKEN_AWAY}
        with open(data / "printed", "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "bin" / "run"), *options],
                env={**given, "VOLTARO_DATA": str(data), "PORT": "18700", "SANDBOX_PORT": "18900", **env},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    @property
    def printed(self) -> str:
        return (self.data / "printed").read_text()

    def wait_for(self, pattern: str, seconds: float = 90) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.printed, re.DOTALL)):
            assert self.process.poll() is None, f"bin/run ended: {self.printed}"
            assert time.monotonic() < deadline, f"no {pattern!r} in: {self.printed}"
            time.sleep(0.1)
        return found

    def facts(self) -> dict:
        return json.loads((self.data / "run" / "facts.json").read_text())

    def ends(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)


# The test's own servers, and what a developer may have exported: bin/run shall use what it brings.
TAKEN_AWAY = {"DATABASE_URL", "REDIS_URL", "VOLTARO_ENV", "VOLTARO_EMBEDDED", "RAZORPAY_BASE_URL", "PUBLIC_BASE_URL", "SECRET_KEY"}


@pytest.fixture
def data():
    """A short path (unix sockets) that PostgreSQL's user can reach."""
    folder = Path(os.environ["VOLTARO_TEST_DIR"]) / f"r{time.monotonic_ns() % 10**6}"
    folder.mkdir(mode=0o711)
    yield folder
    for pid in left_of(folder):
        os.kill(pid, signal.SIGKILL)


def left_of(data: Path) -> dict[int, str]:
    """The processes that belong to this data folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            ours = str(data).encode() in command or f"VOLTARO_DATA={data}".encode() in (entry / "environ").read_bytes()
        except OSError:
            continue
        if ours and command:  # a zombie has no command line
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def nobody_left(data: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while left_of(data) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_of(data) == {}
    return True


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status, answer.read().decode()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_command_starts_everything_watches_over_it_and_stops_it(data):
    with socket.socket() as taken:  # somebody sits on the port we would like
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = Run(data, "--riders", "0", PORT=str(port))
        run.wait_for("Voltaro is ready")
    facts = run.facts()
    instead = int(run.wait_for(rf"port {port} is taken: the site takes (\d+)")[1])
    assert port < instead < port + 100
    assert facts["url"] == f"http://127.0.0.1:{instead}"
    assert get(f"{facts['url']}/readyz") == (200, '{"status": "ok", "database": "ok", "migrations": "ok", "redis": "ok"}')
    page = run.wait_for(r"Rider page +(\S+)")[1]
    assert get(page)[0] == 200
    assert run.wait_for(r"Password of every demo sign-in: (\S+)")[1]
    for name in ("demo-password", "secret-key", "fleet.json", "facts.json"):
        assert (data / "run" / name).stat().st_mode & 0o077 == 0, name

    second = subprocess.run(
        [sys.executable, str(ROOT / "bin" / "run")],
        env={**os.environ, "VOLTARO_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert f"already runs from this checkout at {facts['url']}/" in second.stderr

    worker = next(pid for pid, command in left_of(data).items() if " worker " in command)
    os.kill(worker, signal.SIGKILL)
    run.wait_for(r"worker ended \(killed by SIGKILL\).*starting worker again in 1 s \(1 of 3\)")
    postgres = next(pid for pid, command in left_of(data).items() if "postgres -D" in command)
    os.kill(postgres, signal.SIGKILL)
    run.wait_for("PostgreSQL ended; starting it again")
    deadline = time.monotonic() + 30
    while not any("postgres -D" in command for command in left_of(data).values()):
        assert time.monotonic() < deadline
        time.sleep(0.2)

    began = time.monotonic()
    assert run.ends(signal.SIGINT) == 0
    assert time.monotonic() - began < 15
    assert "stopped. The data is kept" in run.printed
    assert nobody_left(data, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel to end the children")
def test_the_data_is_kept_and_killing_it_leaves_no_process(data):
    run = Run(data, "--no-demo")
    run.wait_for("Voltaro is ready")
    manage = [sys.executable, str(ROOT / "bin" / "manage")]
    env = {name: value for name, value in os.environ.items() if name not in TAKEN_AWAY} | {"VOLTARO_DATA": str(data)}
    added = subprocess.run([*manage, "add_charger", "KEPT-1"], env=env, capture_output=True, text=True, check=True)
    key = json.loads(added.stdout)["key"]
    run.process.kill()
    run.process.wait()
    assert nobody_left(data, 15)

    again = Run(data, "--no-demo")
    again.wait_for("Voltaro is ready.*Voltaro is ready")
    secret = (data / "run" / "secret-key").read_text()
    asked = subprocess.run(
        [*manage, "shell", "-v0", "-c", f"""
from csms import credentials, stations
print(credentials.matches("KEPT-1", stations.find("KEPT-1").keys[0], b"{key}"))
"""], env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert asked.stdout.strip() == "True"  # the pepper of its key was kept too
    assert again.ends(signal.SIGTERM) == 0
    assert (data / "run" / "secret-key").read_text() == secret
    assert nobody_left(data, 1)


def test_reset_asks_before_it_deletes(data):
    (data / "run").mkdir()
    (data / "run" / "demo-password").write_text("old")
    env = {**os.environ, "VOLTARO_DATA": str(data)}
    command = [sys.executable, str(ROOT / "bin" / "run"), "--reset"]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "--reset needs --yes" in done.stderr) == (1, True)
    assert (data / "run" / "demo-password").read_text() == "old"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [(["--port", "70000"], "is not a port"), (["--host", "0.0.0.0"], "--host needs --no-demo"), (["--sing"], "unrecognized")],
)
def test_nonsense_is_refused_with_a_sentence(options, complaint):
    done = subprocess.run([sys.executable, str(ROOT / "bin" / "run"), *options], capture_output=True, text=True, timeout=60)
    assert (done.returncode, complaint in done.stderr) == (2, True)


# -- the supervisor -------------------------------------------------------------------------------------------------
class Quiet:
    """Services that never die."""

    def dead(self) -> dict:
        return {}


def test_a_child_that_keeps_dying_is_started_three_times_and_then_all_is_given_up(tmp_path, monkeypatch):
    said: list[str] = []
    watch = supervisor.Supervisor(Quiet(), said.append)
    command = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
    watch.start(supervisor.Child("sick", command, dict(os.environ), tmp_path / "sick.log"))
    jump = [0.0]
    real = time.monotonic
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: real() + jump[0])
    with pytest.raises(supervisor.Fatal, match="sick ended 4 times"):
        while True:
            watch.check()
            jump[0] += 0.2  # the waits between the starts pass quickly
            time.sleep(0.02)
    assert sum("starting sick again" in line for line in said) == 3
    assert "exit code 3" in said[0] and "the reason" in said[0]
    watch.stop()


def test_a_child_that_does_not_listen_is_killed(tmp_path):
    watch = supervisor.Supervisor(Quiet(), print)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    child = supervisor.Child("deaf", [sys.executable, "-c", deaf], dict(os.environ), tmp_path / "deaf.log", stop_s=0.5)
    watch.start(child)
    while "deaf" not in child.tail():
        time.sleep(0.02)
    watch.stop()
    assert child.ended() == -signal.SIGKILL


def test_a_secret_is_made_once_and_is_nobody_elses(tmp_path):
    password, new = environment.kept_secret(tmp_path, "p", "password")
    assert new and re.fullmatch(r"[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4}", password)
    assert environment.kept_secret(tmp_path, "p", "password") == (password, False)
    assert (tmp_path / "p").stat().st_mode & 0o777 == 0o600
    key, _ = environment.kept_secret(tmp_path, "k", "key")
    assert len(key) >= 50
