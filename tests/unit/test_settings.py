"""The settings refuse to start half-configured, and say what is missing."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

SETTINGS = Path(__file__).resolve().parents[2] / "voltaro" / "settings.py"
PROD = {
    "VOLTARO_ENV": "prod",
    "SECRET_KEY": "k" * 50,
    "ALLOWED_HOSTS": "charge.example.in",
    "PUBLIC_BASE_URL": "https://charge.example.in",
    "DATABASE_URL": "postgresql://voltaro:secret@db/voltaro",
    "REDIS_URL": "redis://redis:6379/0",
    "RAZORPAY_KEY_ID": "rzp_live_0000000000",
    "RAZORPAY_KEY_SECRET": "s" * 24,
    "RAZORPAY_WEBHOOK_SECRET": "w" * 24,
    "INSTANCE_PREFIX": "prod",
}
DEV = {"DATABASE_URL": PROD["DATABASE_URL"], "REDIS_URL": PROD["REDIS_URL"]}


@pytest.fixture
def load(monkeypatch):
    """The settings as a fresh process with this environment would read them."""

    def load(environment: dict[str, str | None]) -> dict[str, Any]:
        with monkeypatch.context() as own:
            own.setattr("os.environ", {name: value for name, value in environment.items() if value is not None})
            own.setattr("environ.Env.ENVIRON", {name: value for name, value in environment.items() if value is not None})
            return runpy.run_path(str(SETTINGS))

    return load


def test_production_starts_when_everything_is_its_own(load):
    found = load(PROD)
    assert (found["PROD"], found["DEBUG"]) == (True, False)
    assert found["RAZORPAY_BASE_URL"] == "https://api.razorpay.com"
    assert found["SESSION_COOKIE_SECURE"] and found["CSRF_COOKIE_SECURE"] and found["SECURE_SSL_REDIRECT"]
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://charge.example.in"]
    assert found["CLOCK_FILE"] == "" and found["AXES_ENABLED"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", None),
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "dev-only-" + "0" * 50),
        ("DEBUG", "1"),
        ("ALLOWED_HOSTS", None),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "charge.example.in,*"),
        ("PUBLIC_BASE_URL", None),
        ("PUBLIC_BASE_URL", "http://127.0.0.1:8000"),
        ("RAZORPAY_KEY_ID", None),
        ("RAZORPAY_KEY_ID", "rzp_test_sandbox00000000"),
        ("RAZORPAY_KEY_SECRET", None),
        ("RAZORPAY_KEY_SECRET", "sandbox-key-secret"),
        ("RAZORPAY_WEBHOOK_SECRET", None),
        ("RAZORPAY_WEBHOOK_SECRET", "sandbox-webhook-secret"),
        ("RAZORPAY_WEBHOOK_SECRET", "w" * 24 + ",sandbox-webhook-secret"),
        ("RAZORPAY_BASE_URL", "http://127.0.0.1:8100"),
        ("INSTANCE_PREFIX", None),
    ],
)
def test_production_refuses_each_value_of_development_by_name(load, name, value):
    with pytest.raises(ImproperlyConfigured) as refused:
        load({**PROD, name: value})
    lines = str(refused.value).splitlines()
    assert lines[0] == "VOLTARO_ENV=prod refuses to start:"
    assert len(lines) == 2 and lines[1].startswith(f"  - {name} "), lines


def test_production_refuses_the_embedded_services(load):
    with pytest.raises(ImproperlyConfigured, match="embedded PostgreSQL and Valkey"):
        load({**PROD, "VOLTARO_EMBEDDED": "1"})


def test_everything_that_is_wrong_is_said_at_once_and_no_secret_is(load):
    with pytest.raises(ImproperlyConfigured) as refused:
        load({"VOLTARO_ENV": "prod", **DEV, "SECRET_KEY": "tell-nobody"})
    said = str(refused.value)
    assert said.count("\n  - ") == 7
    assert "tell-nobody" not in said


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
@pytest.mark.parametrize("environment", [DEV, PROD], ids=["dev", "prod"])
def test_without_a_server_the_message_says_what_to_do(load, environment, name):
    for missing in (None, ""):
        with pytest.raises(ImproperlyConfigured) as refused:
            load({**environment, name: missing})
        assert str(refused.value) == f"{name} is not set: set it to your own server, or use bin/run, bin/test or bin/manage, " + (
            "which bring their own."
        )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"VOLTARO_ENV": "production"}, "VOLTARO_ENV is 'production'; it must be dev, test or prod."),
        ({"DATABASE_URL": "sqlite:///db.sqlite3"}, "DATABASE_URL must be postgresql://"),
        ({"REFUND_SPEED": "instant"}, "REFUND_SPEED must be optimum or normal."),
        ({"DISCONNECT_TIMEOUT_S": "three minutes"}, "DISCONNECT_TIMEOUT_S is 'three minutes'; it must be a whole number."),
        ({"DEBUG": "maybe"}, "DEBUG is 'maybe'; it must be 1 or 0."),
        ({"DIRECT_TRANSFERS_ENABLED": "ja"}, "DIRECT_TRANSFERS_ENABLED is 'ja'"),
    ],
)
def test_a_value_that_is_wrong_is_named(load, fields, said):
    with pytest.raises(ImproperlyConfigured, match=said):
        load({**DEV, **fields})


def test_development_needs_nothing_but_the_servers(load):
    found = load(DEV)
    assert (found["VOLTARO_ENV"], found["PROD"]) == ("dev", False)
    assert found["RAZORPAY_BASE_URL"] == "http://127.0.0.1:8100" and found["RAZORPAY_KEY_ID"].startswith("rzp_test_")


def test_the_clock_moves_and_tables_are_emptied_under_test_only(load):
    file = {"VOLTARO_CLOCK_FILE": "/tmp/clock"}
    assert load({**DEV, "VOLTARO_ENV": "test", **file})["CLOCK_FILE"] == "/tmp/clock"
    for environment in (DEV, PROD):
        found = load({**environment, **file})
        assert found["CLOCK_FILE"] == ""
        assert "allow_truncate" not in str(found["DATABASES"])


@pytest.mark.parametrize(
    ("redis", "broker"),
    [
        ("redis://host:6379/1", "redis://host:6379/1"),
        ("rediss://user:pw@host/0", "rediss://user:pw@host/0"),
        ("unix:///var/tmp/vk.sock?db=0", "redis+socket:///var/tmp/vk.sock?virtual_host=0"),
    ],
)
def test_one_address_serves_cache_channels_and_broker(load, redis, broker):
    found = load({**DEV, "REDIS_URL": redis})
    assert found["CELERY_BROKER_URL"] == broker
    assert found["CACHES"]["default"]["LOCATION"] == redis
    assert found["CHANNEL_LAYERS"]["default"]["CONFIG"]["hosts"][0]["address"] == redis


def test_the_constants_of_a_session_are_settings_with_the_designs_values(load):
    found = load(DEV)
    expected = {
        "DISCONNECT_TIMEOUT_S": 180,
        "MAX_RESUME_GAP_S": 900,
        "SOCKET_GRACE_S": 300,
        "MAX_DISCONNECTS_WITHOUT_PROGRESS": 3,
        "HEARTBEAT_TIMEOUT_S": 120,
        "WEBHOOK_STALE_S": 300,
        "START_TIMEOUT_S": 300,
        "FRAME_RETENTION_DAYS": 180,
        "HEARTBEAT_RETENTION_DAYS": 14,
        "READING_RETENTION_DAYS": 1095,
        "MAX_TRANSFER_RETRIES": 3,
    }
    assert {name: found[name] for name in expected} == expected
    assert load({**DEV, "START_TIMEOUT_S": "120"})["START_TIMEOUT_S"] == 120


def test_every_name_read_stands_in_the_example(load):
    example = (SETTINGS.parents[1] / ".env.example").read_text()
    source = SETTINGS.read_text()
    names = set(re.findall(r'env\.(?:str|bool|int|list)\(\s*"([A-Z_]+)"', source)) | {"DATABASE_URL", "REDIS_URL"}
    # Set by our own programs, never by a person.
    assert {name for name in names if name not in example} <= {"VOLTARO_EMBEDDED", "VOLTARO_CLOCK_FILE"}
