"""Faults between a store driver and its store: what a lost or cut answer must not do to an object."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...core.spi import Body, Call, Conflict, NotFound, Outcome, StorageError, Unauthenticated, Unavailable
from ...core.store import Store
from ...simulators.faults.fault import Fault
from ...simulators.faults.http import HttpProxy
from ..lab import ContractBroken, must, not_applicable
from ..model import Tier
from ..registry import check
from ..store_lab import StoreLab
from .faults import GRACE, SHORT, attempt, had_no_body

STORES = ("image-store",)
SIZE = 100 * 1024
# Clients of S3 and Swift repeat by themselves; what counts is that they stop.
MOST_REQUESTS = 40


def _requests(proxy: HttpProxy, act: Callable[[], object]) -> int:
    proxy.clear()
    act()
    must(proxy.exchanges, "nothing went through the proxy, and yet it was done")
    return len(proxy.exchanges)


def _held(lab: StoreLab, key: str) -> bytes | None:
    """Return what the store holds, asked without the proxy."""
    try:
        return lab.read(key)
    except NotFound:
        return None


def _each_put(lab: StoreLab, fault: Callable[[int], Fault]) -> None:
    """Strike each request of a put; the object is whole or absent, the outcome true, the repeat converges."""
    data = lab.data(SIZE)
    with lab.proxied() as (proxy, store):
        count = _requests(proxy, lambda: store.driver.put(lab.key(), Body.of(data), lab.call()))
        for number in range(1, count + 1):
            where = f"put, {fault(number).kind} at request {number}"
            try:
                _strike_put(lab, proxy, store, data, fault(number))
            except (ContractBroken, StorageError) as error:
                raise ContractBroken(f"{where}: {error}") from error


def _strike_put(lab: StoreLab, proxy: HttpProxy, store: Store, data: bytes, fault: Fault) -> None:
    key = lab.key()
    proxy.plan([fault])
    error = attempt(lambda call: store.driver.put(key, Body.of(data), call), lab.call(30.0))
    if not had_no_body(proxy):
        proxy.finish()
    proxy.clear()
    held = _held(lab, key)
    must(held in (None, data), f"the key holds {len(held or b'')} of {len(data)} bytes")
    if error is None:
        must(held == data, "put succeeded, and the object is not there")
    else:
        must(
            error.outcome is Outcome.UNKNOWN or (held is None) is (error.outcome is Outcome.NOT_APPLIED),
            f"{type(error).__name__} claims {error.outcome}: the object is {'there' if held else 'gone'}",
        )
    store.put(key, Body.of(data), lab.call())
    must(_held(lab, key) == data, "after the repeat the object has other bytes")


@check("fault.store_lost_reply", rule="any.idempotent", kinds=STORES, tier=Tier.STANDARD)
def check_lost_reply(lab: StoreLab) -> None:
    """When the reply to any request of a put is lost, the object is whole or absent; a repeat converges."""
    _each_put(lab, Fault.lose_reply)


@check("fault.store_lost_request", rule="any.idempotent", kinds=STORES, tier=Tier.STANDARD)
def check_lost_request(lab: StoreLab) -> None:
    """When any request of a put is lost, the object is whole or absent, and a repeat converges."""
    _each_put(lab, Fault.lose_request)


@check("fault.store_html_login_page", rule="any.taxonomy", kinds=STORES, tier=Tier.STANDARD)
def check_html_login_page(lab: StoreLab) -> None:
    """A page of a captive portal, with status 200, is no proof that an object was stored."""
    _each_put(lab, Fault.html_login_page)


@check("fault.store_session_expires", rule="any.taxonomy", kinds=STORES, tier=Tier.STANDARD)
def check_session_expires(lab: StoreLab) -> None:
    """A token that ends at any request of a put is renewed, or gives a typed error; a repeat converges."""
    _each_put(lab, lambda number: Fault.status(number, 401))


@check("fault.store_truncated_get", rule="store.get-exact", kinds=STORES, tier=Tier.STANDARD)
def check_truncated_get(lab: StoreLab) -> None:
    """An object whose transfer is cut gives all of its bytes in the end, or an error; never fewer bytes.

    A stream that just ends is the easiest way to restore half of a volume with success.
    """
    key, data = lab.key(), lab.data(SIZE)
    lab.store.put(key, Body.of(data), lab.call())
    with lab.proxied() as (proxy, store):
        count = _requests(proxy, lambda: b"".join(store.driver.get(key, lab.call())))
        for number in range(1, count + 1):
            proxy.plan([Fault.truncate(number)])
            try:
                got = b"".join(store.driver.get(key, lab.call(30.0)))
            except StorageError:
                continue
            must(got == data, f"request {number} was cut: {len(got)} of {len(data)} bytes, and no error")


@check("fault.store_throttled", rule="any.taxonomy", kinds=STORES, tier=Tier.STANDARD)
def check_throttled(lab: StoreLab) -> None:
    """429 and 503 are waited for or passed on as an error that can be repeated."""
    data = lab.data(SIZE)
    with lab.proxied() as (proxy, store):
        for code in (429, 503):
            key = lab.key()
            proxy.plan([Fault.status(1, code, retry_after=1)])
            error = attempt(lambda call, k=key: store.driver.put(k, Body.of(data), call), lab.call(30.0))  # type: ignore[misc] # bound at once
            proxy.finish()
            proxy.clear()
            must(
                error is None or error.retryable,
                f"status {code} became {type(error).__name__}, which nobody repeats",
            )
            store.put(key, Body.of(data), lab.call())
            must(_held(lab, key) == data, "after the repeat the object has other bytes")


@check("fault.store_no_retry_storm", rule="any.deadline", kinds=STORES, tier=Tier.STANDARD)
def check_no_retry_storm(lab: StoreLab) -> None:
    """A store that refuses everything is not flooded: one put sends at most 40 requests in 5 seconds."""
    with lab.proxied() as (proxy, store):
        proxy.plan([Fault.status(1, 503, every=1)])
        error = attempt(lambda call: store.driver.put(lab.key(), Body.of(b"x"), call), lab.call(5.0))
        sent = len(proxy.exchanges)
        proxy.clear()
        must(error is not None, "it succeeded, although each request was refused")
        must(sent <= MOST_REQUESTS, f"one put sent {sent} requests to a store that refuses everything")
        lab.notes.measure("requests to a store that refuses everything", sent, "requests")


def _operations(store: Store, key: str) -> dict[str, Callable[[Call], object]]:
    return {
        "put": lambda call: store.driver.put(key, Body.of(b"x" * SIZE), call),
        "get": lambda call: b"".join(store.driver.get(key, call)),
        "head": lambda call: store.driver.head(key, call),
        "list": lambda call: store.driver.list("", call),
        "delete": lambda call: store.driver.delete(key, call),
    }


@check("fault.store_deadline", rule="any.deadline", kinds=STORES, tier=Tier.STANDARD)
def check_deadline(lab: StoreLab) -> None:
    """Against a store that never answers each call returns an error within its deadline and two seconds."""
    with lab.proxied() as (proxy, store):
        for name, act in _operations(store, lab.key()).items():
            proxy.plan([Fault.black_hole(1, every=1)])
            started = time.monotonic()
            error = attempt(act, Call.within(SHORT))
            seconds = time.monotonic() - started
            proxy.clear()
            must(error is not None, f"{name} succeeded, although nothing was answered")
            must(seconds <= SHORT + GRACE, f"{name} with {SHORT} s to go returned after {seconds:.1f} s")


@check("fault.store_bad_certificate", rule="store.open-typed", kinds=STORES, tier=Tier.STANDARD)
def check_bad_certificate(lab: StoreLab) -> None:
    """A certificate that is expired, of another host or of nobody known is refused; no secret is sent."""
    for fault in (Fault.expired_certificate(), Fault.wrong_host_certificate(), Fault.untrusted_certificate()):
        with lab.proxied(tls_only=True) as (proxy, store):
            proxy.plan([fault])
            error = attempt(lambda call, s=store: s.driver.head(lab.key(), call), lab.call(20.0))  # type: ignore[misc] # bound at once
            must(
                error is not None and not proxy.exchanges,
                f"{fault.kind}: the driver talks to whoever shows it",
            )
            must(
                isinstance(error, Unavailable | Unauthenticated),
                f"{fault.kind} became {type(error).__name__}",
            )


@check("fault.store_if_absent_lost_reply", rule="store.if-absent", kinds=STORES, tier=Tier.STANDARD)
def check_if_absent_lost_reply(lab: StoreLab) -> None:
    """A create-if-absent whose reply was lost is not told as Conflict with "not applied": it may be our own.

    The archive's commit is such a put. A driver that repeats it by itself meets its own object, and must
    not report the snapshot as somebody else's.
    """
    if not lab.store.traits().conditional_put:
        not_applicable("the store has no conditional put")
    data = lab.data(1000)
    with lab.proxied() as (proxy, store):

        def put(key: str, call: Call) -> None:
            store.driver.put(key, Body.of(data), call, if_absent=True)

        count = _requests(proxy, lambda: put(lab.key(), lab.call()))
        for number in range(1, count + 1):
            key = lab.key()
            proxy.plan([Fault.lose_reply(number)])
            error = attempt(lambda call, k=key: put(k, call), lab.call(30.0))  # type: ignore[misc] # bound at once
            proxy.finish()
            proxy.clear()
            held = _held(lab, key)
            must(
                not (isinstance(error, Conflict) and error.outcome is Outcome.NOT_APPLIED and held == data),
                f"the reply to request {number} was lost: Conflict says not applied, and our object is there",
            )
