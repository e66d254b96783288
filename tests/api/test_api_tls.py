"""The API over TLS."""

from __future__ import annotations

import ssl
import threading

import httpx
import pytest

from bollard.api.figures import Figures
from bollard.api.server import ApiServer, Tls, listen
from bollard.api.services import Services
from bollard.api.tokens import Tokens
from bollard.core.catalog import Catalog
from bollard.core.jobs import Orders
from bollard.simulators.array.tls import certificates


@pytest.mark.parametrize("clients", [False, True], ids=["server", "mutual"])
def test_a_client_trusts_the_certificate_and_plain_http_is_not_answered(tmp_path, clients):
    """The server proves itself; plain HTTP and, if asked for, a client without certificate are refused."""
    made = certificates(tmp_path / "tls")
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.db")
    orders = Orders(catalog)
    services = Services(
        catalog=catalog, orders=orders, tokens=Tokens(tmp_path / "t.json"), figures=Figures(orders)
    )
    listener = listen("127.0.0.1", 0, plain=False)
    where = f"127.0.0.1:{listener.getsockname()[1]}"
    tls = Tls(certificate=made.chain, key=made.key, clients=made.ca if clients else None)
    server = ApiServer(services, listener, tls=tls)
    thread = threading.Thread(target=server.run)
    thread.start()
    trust = ssl.create_default_context(cafile=str(made.ca))
    try:
        if clients:  # the simulator's certificates are for servers: there is none to come in with
            with pytest.raises(httpx.TransportError):
                httpx.get(f"https://{where}/health", verify=trust, trust_env=False)
        else:
            assert httpx.get(f"https://{where}/health", verify=trust, trust_env=False).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://{where}/health", trust_env=False)
    finally:
        server.stop()
        thread.join(20)
        catalog.close()
