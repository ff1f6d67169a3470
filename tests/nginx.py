"""Debian's real nginx in front of a test's server, with deploy/nginx.conf as it is, but for addresses and files.

    with front(folder, server.port, authority_folder) as nginx:
        ChargerClient(nginx.url, "VLT-0001", key, tls=nginx.trusting()).connect()

It reaches the server from 127.0.0.2, which the server trusts (TRUSTED_PROXIES); tests that go past it come from 127.0.0.1,
which is nobody's proxy.
"""

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.certificates import Authority, key_pem
from tests.server import ROOT, die_with_parent

PROXY = "127.0.0.2"
HERE = "127.0.0.1"


@dataclass
class Front:
    plain_port: int
    pages_port: int
    port: int
    folder: Path
    root: Authority

    @property
    def url(self) -> str:
        """The chargers' own door."""
        return f"wss://{HERE}:{self.port}"

    @property
    def pages_url(self) -> str:
        """The door of everybody, which serves chargers of profiles 1 and 2 too."""
        return f"wss://{HERE}:{self.pages_port}"

    def trusting(self, chain: str = "", key: str = "", *, versions: tuple[ssl.TLSVersion, ssl.TLSVersion] | None = None,
                 ciphers: str = "") -> ssl.SSLContext:  # fmt: skip
        """A charger's TLS: it trusts our server's root, and shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.root.pem)
        if versions:
            context.minimum_version, context.maximum_version = versions
        if ciphers:
            context.set_ciphers(ciphers)
        if chain:
            path = self.folder / f"client-{time.monotonic_ns()}.pem"
            path.write_text(key + chain)
            context.load_cert_chain(path)
        return context

    def reload(self) -> None:
        """Read certificates and revocation lists anew, as an operator has nginx do."""
        subprocess.run([*_command(self.folder), "-s", "reload"], check=True, capture_output=True)
        time.sleep(0.5)

    def said(self) -> str:
        return (self.folder / "error.log").read_text(errors="replace")


def needed() -> None:
    """Skip, with a word, where there is no nginx."""
    if shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists():
        pytest.skip("nginx is not installed here: apt-get install nginx")


@contextmanager
def front(folder: Path, server_port: int, authority: Path | None = None, *, changed: dict[str, str] | None = None) -> Iterator[Front]:
    """nginx until the end of the block. `authority`: the public folder of our authority for chargers' certificates. `changed`: lines
    of deploy/nginx.conf, and what stands in their place (shorter times, say)."""
    needed()
    root = Authority("Test server root")
    certificates = folder / "certs"
    certificates.mkdir(parents=True)
    for name, algorithm in (("first", "ec"), ("second", "rsa")):
        leaf, key = root.issue("csms.test", algorithm=algorithm, address=HERE)
        (certificates / f"{name}.pem").write_text(leaf + root.pem)
        (certificates / f"{name}.key").write_text(key_pem(key))
    (certificates / "second.conf").write_text(
        f"ssl_certificate {certificates}/second.pem;\nssl_certificate_key {certificates}/second.key;\n"
    )
    found = Front(*_free_ports(3), folder, root)
    text = _written(found, server_port, authority)
    for line, other in (changed or {}).items():
        assert line in text, line
        text = text.replace(line, other)
    (folder / "nginx.conf").write_text(text)
    process = subprocess.Popen(
        [*_command(folder), "-g", "daemon off;"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
    )
    try:
        deadline = time.monotonic() + 15
        while not _listens(found.port):
            assert process.poll() is None and time.monotonic() < deadline, found.said()
            time.sleep(0.05)
        yield found
    finally:
        process.terminate()
        process.wait(10)


def _written(found: Front, server_port: int, authority: Path | None) -> str:
    """deploy/nginx.conf with this test's addresses and files."""
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    folder, certificates = found.folder, found.folder / "certs"
    text = re.sub(r"^worker_rlimit_nofile .*\n", "user root;\n" if os.getuid() == 0 else "", text, flags=re.MULTILINE)
    text = re.sub(r"^worker_processes .*$", "worker_processes 1;", text, flags=re.MULTILINE)
    text = re.sub(r"worker_connections \d+;", "worker_connections 512;", text)
    text = text.replace("pid /tmp/nginx.pid;", f"pid {folder}/nginx.pid;").replace("/dev/stderr", f"{folder}/error.log")
    text = text.replace("/dev/stdout", f"{folder}/access.log").replace("include mime.types;", "include /etc/nginx/mime.types;")
    text = re.sub(r"upstream (\w+) \{.*\}", rf"upstream \1 {{ server {HERE}:{server_port}; }}", text)
    text = re.sub(r"^ *listen \[::\]:.*\n", "", text, flags=re.MULTILINE)
    for port, ours in ((8443, found.port), (443, found.pages_port), (80, found.plain_port)):
        text = re.sub(rf"listen {port}\b", f"listen {HERE}:{ours}", text)
    text = text.replace("certs/fullchain.pem", f"{certificates}/first.pem").replace("certs/privkey.pem", f"{certificates}/first.key")
    text = text.replace("include certs/*.conf;", f"include {certificates}/*.conf;")
    text = text.replace("include charger-ca/*.conf;", f"include {authority}/*.conf;" if authority else "")
    places = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return text.replace("http {\n", f"http {{\n{places}    proxy_bind {PROXY};\n", 1)


def _command(folder: Path) -> list[str]:
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    return [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server((HERE, 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HERE, port), timeout=1).close()
    except OSError:
        return False
    return True
