"""The directions of imports, held by reading the source: who may know of whom (docs/map.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = ("accounts", "csms", "billing", "franchise")
# Of the top: what every app may use. The rest of voltaro stands above the apps.
GROUND = {"voltaro.jobs", "voltaro.clock", "voltaro.settings"}
# Consoles are drawn with the project's own admin site, which knows no app.
CONSOLE = {"voltaro.adminsite"}
PURE = [
    "csms/rules",
    "billing/rules",
    "franchise/rules",
    *(f"csms/{name}.py" for name in ("ocpp16", "frames", "repair", "timestamps", "events")),
]
WORLD = {
    "django",
    "channels",
    "celery",
    "httpx",
    "redis",
    "psycopg",
    "asyncio",
    "socket",
    "urllib",
    "http",
    "requests",
    "time",
    "random",
    "secrets",
}
# These stand in for the world outside the product: they have its HTTP and its clock.
STAND_INS = (ROOT / "csms/simulator", ROOT / "billing/sandbox")


def sources(*places: str) -> Iterator[Path]:
    for place in places:
        path = ROOT / place
        yield from [path] if path.suffix == ".py" else sorted(one for one in path.rglob("*.py") if "migrations" not in one.parts)


def imported(path: Path) -> set[str]:
    """Every module a file imports, also inside functions; `from a import b` is both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def told(path: Path, names: set[str]) -> list[str]:
    return [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(names)]


@pytest.mark.parametrize("app", APPS)
def test_imports_point_one_way(app):
    above = set(APPS[APPS.index(app) + 1 :])
    wrong = []
    for path in sources(app):
        allowed = GROUND | CONSOLE if "admin" in path.relative_to(ROOT / app).as_posix() else GROUND
        for name in imported(path):
            first = name.partition(".")[0]
            is_ground = any(name == one or name.startswith(one + ".") for one in allowed)
            if first in above or (first == "voltaro" and name != "voltaro" and not is_ground):
                wrong += told(path, {name})
    assert not wrong, "\n".join(wrong)


def test_the_ground_knows_no_app():
    wrong = [line for path in sources("voltaro/jobs.py", "voltaro/clock.py", "voltaro/settings.py")
             for line in told(path, {name for name in imported(path) if name.partition(".")[0] in APPS})]  # fmt: skip
    assert not wrong, wrong


@pytest.mark.parametrize("place", PURE)
def test_what_is_pure_knows_no_world(place):
    allowed = {"csms": {"rules", "events", "frames", "timestamps"}, "billing": {"rules"}, "franchise": {"rules"}}
    found = list(sources(place))
    assert found, place
    wrong = []
    for path in found:
        for name in imported(path):
            first, _, rest = name.partition(".")
            above = first in allowed and rest and rest.partition(".")[0] not in allowed[first]
            if first in WORLD or first in ("voltaro", "accounts") or above:
                wrong += told(path, {name})
        wrong += [f"{path.relative_to(ROOT)} asks the time" for _ in asks_the_time(path)]
    assert not wrong, "\n".join(wrong)


def product() -> Iterator[Path]:
    return (path for path in sources(*APPS) if not any(one in path.parents for one in STAND_INS))


def test_two_modules_speak_http():
    speakers = [path.relative_to(ROOT).as_posix() for path in product() if {"httpx", "urllib.request", "http.client"} & imported(path)]
    assert speakers == ["csms/authorizer.py", "billing/razorpay.py"]


def asks_the_time(path: Path) -> Iterator[ast.Call]:
    """Calls such as datetime.now(), timezone.now(), date.today(); timezone.localtime() without a time to show."""
    always = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("timezone", "now"), ("time", "time")}
    bare = {("timezone", "localdate"), ("timezone", "localtime")}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if (name, node.func.attr) in always or ((name, node.func.attr) in bare and not node.args):
                yield node


def test_one_module_asks_the_time():
    wrong = [f"{path.relative_to(ROOT)}:{node.lineno}" for path in product() for node in asks_the_time(path)]
    assert not wrong, wrong


@pytest.mark.parametrize("text", ["from datetime import datetime\ndatetime.now()", "import datetime as d\nd.datetime.now(d.UTC)",
                                  "from django.utils import timezone\ntimezone.now()", "timezone.localdate()"])  # fmt: skip
def test_the_look_for_clocks_finds_them(text, tmp_path):
    (tmp_path / "one.py").write_text(text)
    assert list(asks_the_time(tmp_path / "one.py"))


def test_the_sandbox_stands_alone():
    ours = {
        name for path in sources("billing/sandbox") for name in imported(path) if name.partition(".")[0] in (*APPS, "voltaro", "django")
    }
    assert {name for name in ours if not name.startswith("billing.sandbox")} <= {"billing"}
