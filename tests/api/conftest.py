"""The real server on a real socket, with a catalog, a worker, and an executor that does what it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from bollard.api.figures import Figures
from bollard.api.server import ApiServer, listen
from bollard.api.services import Services
from bollard.api.tokens import Scope, Tokens
from bollard.core.catalog import Catalog
from bollard.core.jobs import Claims, Handler, Orders, RetryPolicy, Worker
from bollard.core.jobs.commands import KIND, CommandHandler
from bollard.core.spi import NotFound
from bollard.transfer_objects.commands import (
    Answer,
    CreateObjectAnswer,
    CreateObjectCommand,
    DeleteCommand,
    FreezeThawVMCommand,
)

SOON = 20.0


class Told:
    """Creates what it is told to; deleting finds nothing; freezing takes until it is cancelled."""

    def __init__(self) -> None:
        self.calls: list = []

    def run(self, command, call):
        """Carry a command out."""
        self.calls.append((command, call))
        call.progress(1, 2)
        match command:
            case CreateObjectCommand():
                return CreateObjectAnswer(data=command.data)
            case DeleteCommand():
                raise NotFound("there is no such volume")
            case FreezeThawVMCommand():
                call.cancel.wait(SOON)
                call.check()
        return Answer(details="done")


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    url: str
    catalog: Catalog
    tokens: Tokens
    orders: Orders
    executor: Told
    secrets: dict

    def client(self, scope: Scope | None = Scope.ADMIN) -> httpx.Client:
        """A client with the token of a scope; close it."""
        headers = {"Authorization": f"Bearer {self.secrets[scope]}"} if scope else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=SOON, trust_env=False)


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Running]:
    """One server per module."""
    home = tmp_path_factory.mktemp("api")
    catalog = Catalog(f"sqlite:///{home}/catalog.db")
    tokens = Tokens(home / "tokens.json")
    secrets = {scope: tokens.create(scope.value, scope)[1].reveal() for scope in Scope}
    orders, executor = Orders(catalog), Told()
    services = Services(
        catalog=catalog,
        orders=orders,
        tokens=tokens,
        figures=Figures(orders),
        poll=0.02,
    )
    claims = Claims(catalog, retry=RetryPolicy(first=0.001))
    upkeep: dict[str, Handler] = {"sweep": lambda _run: {}, "sync": lambda _run: {}}
    worker = Worker(claims, {KIND: CommandHandler(executor), **upkeep}, slots=2, poll=0.1, beat=0.05)
    listener = listen("127.0.0.1", 0, plain=True)
    server = ApiServer(services, listener, worker=worker)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=server.run)
    thread.start()
    yield Running(url, catalog, tokens, orders, executor, secrets)
    server.stop()
    thread.join(SOON)
    assert not thread.is_alive()
    catalog.close()


@pytest.fixture
def client(running) -> Iterator[httpx.Client]:
    """A client that may do everything."""
    with running.client() as opened:
        yield opened
