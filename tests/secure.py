"""Servers that speak TLS, with a certificate of their own; and Sentinels with a password."""

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from delayq import Server
from delayq.scripts import command
from tests.clusters import Node, Watcher
from tests.servers import program

PASSWORD = "open"
_FOLDER = tempfile.TemporaryDirectory(prefix="dq-tls-")
_KEY, CERTIFICATE = Path(_FOLDER.name) / "key.pem", Path(_FOLDER.name) / "cert.pem"


@cache
def secure_program() -> str:
    """Return a server that was built with TLS, and make a certificate; skip the test without."""
    openssl = shutil.which("openssl")
    for found in filter(None, (program(), shutil.which("redis-server"))):
        words = [found, "--port", "0", "--tls-port", "1"]
        said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
        if openssl and "No tls-cert-file" in said.stdout:
            _certify(openssl)
            return found
    pytest.skip("there is no server built with TLS here, or no openssl")


def _certify(openssl: str) -> None:
    of = "-subj", "/CN=delayq", "-addext", "subjectAltName=IP:127.0.0.1"
    may = "-addext", "keyUsage=critical,digitalSignature,keyCertSign"
    made = "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"
    to = "-keyout", str(_KEY), "-out", str(CERTIFICATE)
    words = [openssl, "req", "-x509", *made, *of, *may, *to]
    subprocess.run(words, check=True, capture_output=True)


def _tls(port: int) -> dict[str, object]:
    files = {"cert-file": CERTIFICATE, "key-file": _KEY, "ca-cert-file": CERTIFICATE}
    more = {"port": port, "auth-clients": "no", "replication": "yes"}
    return {"port": 0} | {f"tls-{name}": value for name, value in (files | more).items()}


class SecureNode(Node):
    """A server that speaks TLS alone on its port, and to other servers."""

    def command(self) -> list[str]:
        options = [word for name, at in _tls(self.port).items() for word in (f"--{name}", str(at))]
        clustered = ("--tls-cluster", "yes") if "--cluster-enabled" in self._options else ()
        return [secure_program(), *super().command()[1:], *options, *clustered]

    async def say(self, *words: object) -> Any:
        # By the socket it would tell of other nodes where they listen without TLS: nowhere.
        url = f"rediss://127.0.0.1:{self.port}?ssl_ca_certs={CERTIFICATE}"
        async with Server(url).client("test") as client:
            return await command(client, *words)


class SecureWatcher(Watcher):
    """A Sentinel that speaks TLS alone on its port, and to servers."""

    def command(self) -> list[str]:
        self.lines = tuple(f"{name} {value}" for name, value in _tls(self.port).items())
        return [secure_program(), *super().command()[1:]]


class LockedWatcher(Watcher):
    """A Sentinel with a password."""

    lines = (f"requirepass {PASSWORD}",)

    def __init__(self, primary: int, dead_after_ms: int) -> None:
        super().__init__(primary, dead_after_ms)
        self.url += f"?password={PASSWORD}"
