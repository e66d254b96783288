"""A real OpenStack Keystone on loopback: identity API v3, fernet tokens, SQLite.

    with RealKeystone(home) as keystone:
        keystone.url                      where to sign in
        keystone.add_swift(endpoint)      the catalog's object store
        keystone.user, keystone.project   of the domain keystone.domain, with the role "member"

Its database is made in a fork of the server: importing Keystone takes as long as the rest (2 of 5 s).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx
from cryptography.fernet import Fernet

from kvm_lab.polling import until
from ports import free_ports

_SERVE = """
import os, sys
home, port, password = sys.argv[1:4]
del sys.argv[1:]  # oslo.config reads the rest
import keystone.server
from keystone.server.flask import core
configuration = [f"{home}/keystone.conf"]

def prepare():
    from keystone.cmd.bootstrap import Bootstrapper
    from keystone.common.sql import upgrades
    keystone.server.configure(config_files=configuration)
    upgrades.offline_sync_database_to_version()
    first = Bootstrapper()
    first.admin_username, first.admin_password = "admin", password
    first.project_name, first.admin_role_name = "admin", "admin"
    first.service_name, first.region_id, first.immutable_roles = "keystone", "RegionOne", False
    first.public_url = first.internal_url = first.admin_url = f"http://127.0.0.1:{port}/v3"
    first.bootstrap()

child = os.fork()
if not child:
    try:
        prepare()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    os._exit(1)
if os.waitpid(child, 0)[1]:
    sys.exit("the database could not be made")
application = core.initialize_application(name="public", config_files=configuration)
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(port), application, threaded=True)
"""

_CONFIGURATION = """\
[database]
connection = sqlite:///{home}/keystone.db
[token]
provider = fernet
[fernet_tokens]
key_repository = {home}/keys
[fernet_receipts]
key_repository = {home}/keys
[credential]
key_repository = {home}/keys
[cache]
enabled = false
[identity]
password_hash_rounds = 4
"""


class RealKeystone:
    """The server, with one domain, project and user of the tests' own.

    Args:
        home: an empty directory.
    """

    domain, project, user = "cloud", "nightly", "archiver"
    password = "correct-horse-keystone"
    admin_password = "correct-horse-admin"

    def __init__(self, home: Path) -> None:
        self.home = home
        [self._port] = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        (home / "keystone.conf").write_text(_CONFIGURATION.format(home=home))
        (home / "keys").mkdir(mode=0o700)
        for name in ("0", "1"):  # the next one, and the one in use
            (home / "keys" / name).write_bytes(Fernet.generate_key())

    @property
    def url(self) -> str:
        """Where tokens are had."""
        return f"http://127.0.0.1:{self._port}/v3"

    def __enter__(self) -> Self:
        command = [sys.executable, "-W", "ignore", "-c", _SERVE]
        with (self.home / "keystone.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, str(self.home), str(self._port), self.admin_password],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        try:
            until(self._answers, seconds=120, what="Keystone")
            self._add_user()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def add_swift(self, endpoint: str) -> None:
        """Put an object store into the catalog; `%(project_id)s` in its URL is filled in."""
        service = self._ask("POST", "services", service={"type": "object-store", "name": "swift"})["service"]
        about = {
            "service_id": service["id"],
            "interface": "public",
            "url": endpoint,
            "region_id": "RegionOne",
        }
        self._ask("POST", "endpoints", endpoint=about)

    def revoke(self, token: str) -> None:
        """Make a token invalid before its time."""
        headers = {"X-Auth-Token": self._admin_token(), "X-Subject-Token": token}
        httpx.delete(f"{self.url}/auth/tokens", headers=headers, timeout=60).raise_for_status()

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"Keystone ended: {(self.home / 'keystone.log').read_text()[-2000:]}")
        try:
            return httpx.get(self.url, timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    def _add_user(self) -> None:
        domain = self._ask("POST", "domains", domain={"name": self.domain})["domain"]["id"]
        project = self._ask("POST", "projects", project={"name": self.project, "domain_id": domain})
        about = {"name": self.user, "password": self.password, "domain_id": domain}
        user = self._ask("POST", "users", user=about)["user"]["id"]
        [role] = self._ask("GET", "roles?name=member")["roles"]
        self._ask("PUT", f"projects/{project['project']['id']}/users/{user}/roles/{role['id']}")

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        headers = {"X-Auth-Token": self._admin_token()}
        answer = httpx.request(method, f"{self.url}/{path}", headers=headers, json=body or None, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def _admin_token(self) -> str:
        return str(self._sign_in("admin", self.admin_password, "admin", {"id": "default"})[0])

    def sign_in(self) -> tuple[str, str]:
        """Return storage URL and token of the user."""
        token, found = self._sign_in(self.user, self.password, self.project, {"name": self.domain})
        [swift] = [service for service in found["catalog"] if service["type"] == "object-store"]
        return swift["endpoints"][0]["url"], token

    def _sign_in(self, name: str, password: str, project: str, domain: dict[str, str]) -> tuple[str, Any]:
        user = {"name": name, "domain": domain, "password": password}
        asked = {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": project, "domain": domain}},
        }
        answer = httpx.post(f"{self.url}/auth/tokens", json={"auth": asked}, timeout=60)
        answer.raise_for_status()
        return answer.headers["X-Subject-Token"], answer.json()["token"]
