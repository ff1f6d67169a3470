"""What stands beside the code for production says what the code does."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_name_the_settings_read_stands_in_the_example_and_no_other():
    settings = (ROOT / "voltaro" / "settings.py").read_text()
    read = set(re.findall(r"""(?:env\.\w+|_needed)\(\s*"([A-Z_]+)\"""", settings))
    example = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    elsewhere = "".join(
        path.read_text() for path in [ROOT / "docker-compose.yml", *ROOT.glob("bin/*"), *ROOT.glob("bin/embedded/*.py")] if path.is_file()
    )
    assert read - example == set()
    assert {name for name in example - read if name not in elsewhere} == set()


def test_the_defaults_in_the_example_are_the_defaults_of_the_settings():
    settings = (ROOT / "voltaro" / "settings.py").read_text()
    defaults = dict(re.findall(r'env\.int\("([A-Z_]+)", ([\d *_]+)\)', settings))
    example = dict(re.findall(r"^#([A-Z_]+)=(\d+)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert len(defaults) > 10
    assert {name: eval(value) for name, value in defaults.items()} == {name: int(example[name]) for name in defaults}


def test_server_flags_are_the_same_in_the_image_and_in_bin_run():
    image, run = (ROOT / "Dockerfile").read_text(), (ROOT / "bin" / "run").read_text()
    for option, value in [
        ("--websocket_timeout", "-1"), ("--websocket_connect_timeout", "60"), ("--ping-interval", "30"), ("--ping-timeout", "30"),
        ("--application-close-timeout", "5"),
    ]:  # fmt: skip
        for text in (image, run):
            assert f'"{option}", "{value}"' in text, (option, value)


def test_nginx_is_more_patient_with_chargers_than_the_gateway():
    from django.conf import settings

    blocks = re.findall(r"location /ocpp \{(.*?)\}", (ROOT / "deploy" / "nginx.conf").read_text(), re.DOTALL)
    assert len(blocks) == 3  # of the chargers, of everybody, and the one that is only for those who must
    for block in blocks:
        assert int(re.search(r"proxy_read_timeout (\d+)s", block)[1]) > settings.HEARTBEAT_TIMEOUT_S
        assert "proxy_set_header" not in block  # one here would drop all those above it


def test_the_worker_has_the_files_too():
    """Its own volumes take the place of everybody's: they must be among them."""
    compose = (ROOT / "docker-compose.yml").read_text()
    shared = re.search(r"^  volumes: \[(.*)\]$", compose, re.MULTILINE)[1]
    worker = re.search(r"^  worker:\n(.*?)^  \w+:", compose, re.MULTILINE | re.DOTALL)[1]
    assert shared in re.search(r"volumes: \[(.*)\]", worker)[1]


def test_what_the_proxy_says_is_believed_by_name_only():
    assert "TRUSTED_PROXIES:" in (ROOT / "docker-compose.yml").read_text()
    assert '"--proxy-headers"' not in (ROOT / "Dockerfile").read_text()  # daphne's own belief has no names
    from voltaro import proxies

    nginx = (ROOT / "deploy" / "nginx.conf").read_text()
    for header in (proxies.ADDRESS, proxies.SCHEME, *proxies.OF_CERTIFICATES):
        assert re.search(rf"^    proxy_set_header {header.decode()} ", nginx, re.IGNORECASE | re.MULTILINE), header
