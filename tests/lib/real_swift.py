"""A real OpenStack Swift on loopback: proxy, account, container and object server, one replica, no services.

    with RealSwift(home) as swift:
        swift.auth_url      tempauth, version 1: user test:tester, key swift.key
        swift.s3_url        the same server's S3 face (s3api): access key test:tester, secret swift.key
        swift.kill("object"); swift.start("object")
        swift.trust(keystone)   a second proxy, for users of a Keystone
        swift.throttled()       another one, that takes one upload in a hundred seconds

    client ── proxy (tempauth, slo, s3api) ──┬── object ──── home/node/sda1/objects
                    │                        ├── container ─ home/node/sda1/containers
            │   memcached                    └── account ─── home/node/sda1/accounts
            └ keystone-proxy (authtoken, keystoneauth, slo) ── the same three

Swift looks for /etc/swift/swift.conf when it is imported, so each server is started by a few lines that tell
it another place first (seen with Swift 2.38.3).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from kvm_lab.polling import until
from ports import free_ports
from real_keystone import RealKeystone

_SERVERS = ("account", "container", "object", "proxy")

_SERVE = """
import sys, os
kind, conf = sys.argv[1:3]
import swift.common.utils as utils
utils.SWIFT_CONF_FILE = os.path.join(os.path.dirname(conf), "swift.conf")
utils.validate_configuration()
from swift.common import constraints, storage_policy
constraints.reload_constraints()
storage_policy.reload_storage_policies()
from swift.common.utils import parse_options
from swift.common.wsgi import run_wsgi
sys.argv = ["swift", conf]
path, options = parse_options()
if kind == "object":
    from swift.obj import server
    options["global_conf_callback"] = server.global_conf_callback
sys.exit(run_wsgi(path, f"{kind}-server", **options))
"""

_RINGS = """
import sys
from swift.common.ring import RingBuilder
home, ports = sys.argv[1], sys.argv[2:]
for kind, port in zip(("account", "container", "object"), map(int, ports)):
    builder = RingBuilder(2, 1, 1)
    place = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port}
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "device": "sda1", "weight": 1.0, "meta": "", **place})
    builder.rebalance(seed=1)
    builder.get_ring().save(f"{home}/{kind}.ring.gz")
"""

_CLUSTER = """\
[swift-hash]
swift_hash_path_suffix = bollard
[storage-policy:0]
name = gold
default = yes
"""

_BACKEND = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {home}
devices = {home}/node
mount_check = false
fallocate_reserve = 0
log_level = WARNING
db_preallocation = off
[pipeline:main]
pipeline = healthcheck {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
[filter:healthcheck]
use = egg:swift#healthcheck
"""

# Below 5 MiB real S3 refuses all parts but the last; tests of three parts would carry 15 MiB each.
_PROXY = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {home}
log_level = WARNING
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
# A server that was full is asked again at once: by default in a minute.
error_suppression_interval = 0
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{cache}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
check_bucket_owner = false
min_segment_size = 1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {key} .admin
user_test_reader = {key}
token_life = {token_life}
[filter:slo]
use = egg:swift#slo
min_segment_size = 1
"""

# What Keystone says is cached, else each request asks (0.2 s): a revoked token counts until `forget_tokens`.
_KEYSTONE = """\
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {keystone.url}
auth_url = {keystone.url}
auth_type = password
username = admin
password = {keystone.admin_password}
project_name = admin
user_domain_id = default
project_domain_id = default
delay_auth_decision = true
include_service_catalog = false
cache = swift.cache
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = member
"""

_THROTTLE = """\
[filter:ratelimit]
use = egg:swift#ratelimit
container_ratelimit_0 = 0.01
max_sleep_time_seconds = 1
"""


class RealSwift:
    """The servers; each may be killed and started again.

    Args:
        home: an empty directory, for configuration, logs and everything that is stored.
        token_life: seconds that a token holds.
    """

    key = "correct-horse-battery"

    def __init__(self, home: Path, *, token_life: int = 86400) -> None:
        self.home = home
        *backends, self._proxy, self._cache = free_ports(5)
        self._ports = dict(zip(_SERVERS, (*backends, self._proxy), strict=True))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._configure(token_life)

    @property
    def auth_url(self) -> str:
        """Where tokens are had."""
        return f"http://127.0.0.1:{self._proxy}/auth/v1.0"

    @property
    def s3_url(self) -> str:
        """Where the S3 API is."""
        return f"http://127.0.0.1:{self._proxy}"

    @property
    def objects(self) -> Path:
        """Where the object server keeps its files."""
        return self.home / "node" / "sda1" / "objects"

    def start(self, *names: str) -> None:
        """Start servers, and wait until they answer."""
        for name in names:
            self._launch(name)
        answering = [name for name in names if name != "memcached"]
        until(lambda: all(map(self._healthy, answering)), seconds=60, what=f"Swift's {', '.join(answering)}")

    def _launch(self, name: str) -> None:
        kind = name.rpartition("-")[2]
        command = [sys.executable, "-c", _SERVE, kind, str(self.home / f"{name}.conf")]
        if name == "memcached":
            command = [
                "memcached",
                "-l",
                "127.0.0.1",
                "-p",
                str(self._cache),
                "-U",
                "0",
                "-m",
                "16",
                "-t",
                "1",
            ]
            command += ["-u", _user()]
        with (self.home / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=_environment()
            )

    def trust(self, keystone: RealKeystone) -> None:
        """Start a second proxy, whose users are those of a Keystone, and put it into its catalog."""
        url = self._another("keystone-proxy", "authtoken keystoneauth", _KEYSTONE.format(keystone=keystone))
        keystone.add_swift(f"{url}/v1/AUTH_%(project_id)s")

    def throttled(self) -> str:
        """Start a proxy that answers 498 to all but the first upload into a container; return its URL.

        `forget_tokens` forgets the uploads too.
        """
        return self._another("throttled-proxy", "tempauth ratelimit", _THROTTLE)

    def _another(self, name: str, authentication: str, filters: str) -> str:
        if name not in self._running:
            [port] = free_ports(1)
            self._ports[name] = port
            text = (self.home / "proxy.conf").read_text()
            text = text.replace(f"bind_port = {self._proxy}\n", f"bind_port = {port}\n")
            text = text.replace(" s3api tempauth ", f" {authentication} ")
            (self.home / f"{name}.conf").write_text(text + filters)
            self.start(name)
        return f"http://127.0.0.1:{self._ports[name]}"

    def fill(self, *, full: bool) -> None:
        """Restart the object server with all of its disk reserved, so that it takes nothing, or with none."""
        conf = self.home / "object.conf"
        reserve = "fallocate_reserve = {}\n"
        states = reserve.format(0), reserve.format("100%")
        conf.write_text(conf.read_text().replace(states[not full], states[full]))
        self.kill("object")
        self.start("object")

    def forget_tokens(self) -> None:
        """Empty the cache: tempauth's tokens, what Keystone said of its own, and who was throttled.

        Not by a restart: Swift would leave a cache that was away alone for a minute, and throttle nobody.
        """
        with socket.create_connection(("127.0.0.1", self._cache), timeout=10) as cache:
            cache.sendall(b"flush_all\r\n")
            if cache.recv(64) != b"OK\r\n":
                raise RuntimeError("memcached did not forget")

    def kill(self, name: str) -> None:
        """`kill -9` a server."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def repair(self) -> None:
        """Start what was killed."""
        self.start(*(name for name in _SERVERS if name not in self._running))

    def __enter__(self) -> Self:
        try:
            self.start("memcached", *_SERVERS)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._running):
            self.kill(name)

    def _healthy(self, name: str) -> bool:
        if self._running[name].poll() is not None:
            raise RuntimeError(f"{name} ended: {(self.home / f'{name}.log').read_text()[-2000:]}")
        try:
            url = f"http://127.0.0.1:{self._ports[name]}/healthcheck"
            return bool(urllib.request.urlopen(url, timeout=5).read() == b"OK")
        except OSError:
            return False

    def _configure(self, token_life: int) -> None:
        (self.home / "node" / "sda1").mkdir(parents=True)
        (self.home / "swift.conf").write_text(_CLUSTER)
        for name, port in self._ports.items():
            known = {"port": port, "kind": name, "home": self.home, "user": _user()}
            text = (
                _PROXY.format(cache=self._cache, key=self.key, token_life=token_life, **known)
                if name == "proxy"
                else _BACKEND.format(**known)
            )
            (self.home / f"{name}.conf").write_text(text)
        ports = [str(self._ports[name]) for name in ("account", "container", "object")]
        command = [sys.executable, "-c", _RINGS, str(self.home), *ports]
        subprocess.run(command, check=True, timeout=60, env=_environment())


def _environment() -> dict[str, str]:
    # eventlet says at each import that it is deprecated.
    return {**os.environ, "PYTHONWARNINGS": "ignore"}


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
