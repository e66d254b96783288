"""Faults between the driver and its backend: lost, doubled, cut and false answers, each at each request.

count    deed ── e1 ── e2 ── e3 ──> done
i = 2    deed ── e1 ── e2 (struck) ──> error, or success
was the claimed outcome true?  ──  deed again ──> done, exactly once
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from ...core.pool import Pool
from ...core.spi import Busy, Call, Outcome, StorageError, Unauthenticated, Unavailable
from ...simulators.faults.fault import Fault
from ...simulators.faults.http import HttpProxy
from .. import deeds
from ..deeds import Deed, Scene
from ..lab import ContractBroken, Lab, must
from ..model import Level, Tier
from ..registry import check
from .crash import again

# Nobody may be kept waiting for longer after a deadline, whatever the backend does.
GRACE = 2.0
# Seconds; long enough for a request on a slow machine, and it is waited for by each black hole.
SHORT = 1.5
# Requests that one call may send to a backend that refuses everything.
MOST_REQUESTS = 20


def _deeds(lab: Lab) -> list[Deed]:
    native = lab.pool.capabilities().native
    kind = "managed" if lab.pool.managed else "host"
    return [d for d in deeds.DEEDS if kind in d.kinds and all(m.provides in native for m in d.needs)]  # type: ignore[attr-defined] # mix-ins have it


def attempt(act: Callable[[Call], object], call: Call) -> StorageError | None:
    """Return the error of a call, or None; an exception of another kind breaks the contract."""
    try:
        act(call)
    except StorageError as error:
        return error
    except Exception as error:  # whatever a vendor's code raises is a finding
        raise ContractBroken(f"{type(error).__name__} escaped: {error}") from error
    return None


_FOUND = {True: "done it", False: "not done it", None: "half of it"}


def _was_true(lab: Lab, deed: Deed, scene: Scene, error: StorageError | None) -> None:
    """Ask the backend whether the claimed outcome is so.

    Not after Busy: it says that somebody works on the object, who may well have done it meanwhile.
    """
    claimed = Outcome.APPLIED if error is None else error.outcome
    if claimed is Outcome.UNKNOWN or isinstance(error, Busy):
        return
    applied = deed.applied(lab, scene)
    words = "success" if error is None else f"{type(error).__name__} with outcome {claimed}"
    must(
        applied is (claimed is Outcome.APPLIED),
        f"it answered {words}, and the backend has {_FOUND[applied]}",
    )


def _requests(lab: Lab, proxy: HttpProxy, pool: Pool, deed: Deed) -> int:
    scene = deed.prepare(lab)
    proxy.clear()
    deed.act(pool.driver, scene, lab.call())
    count = len(proxy.exchanges)
    must(count, f"{deed.method} sent no request through the proxy, and yet it was done")
    return count


def _each_request(lab: Lab, fault: Callable[[int], Fault], wanted: tuple[Deed, ...] = ()) -> None:
    """Strike each request of each deed once; the outcome must be true, and a repeat must converge."""
    with lab.proxied() as (proxy, pool):
        for deed in wanted or _deeds(lab):
            for number in range(1, _requests(lab, proxy, pool, deed) + 1):
                scene = deed.prepare(lab)
                proxy.plan([fault(number)])
                where = f"{deed.method}, {fault(number).kind} at request {number}"
                try:
                    _strike(lab, proxy, pool, deed, scene)
                except (ContractBroken, StorageError) as error:
                    raise ContractBroken(f"{where}: {_sentence(error)}") from error


def _strike(lab: Lab, proxy: HttpProxy, pool: Pool, deed: Deed, scene: Scene) -> None:
    error = attempt(lambda call: deed.act(pool.driver, scene, call), lab.call())
    if not had_no_body(proxy):
        proxy.finish()
    proxy.clear()
    _was_true(lab, deed, scene, error)
    again(lambda call: deed.act(pool.driver, scene, call), lab)
    deed.judge(lab, scene)


def had_no_body(proxy: HttpProxy) -> bool:
    """Return whether the plan could not be hit: a 204 has nothing that could be cut or garbled."""
    return any(exchange.status == 204 for exchange in proxy.exchanges)


def _sentence(error: Exception) -> str:
    if isinstance(error, StorageError):
        return f"the repeat gives {type(error).__name__} [{error.outcome}]: {error.message}"
    return str(error)


@check(
    "fault.lost_reply",
    rule="any.idempotent",
    tier=Tier.STANDARD,
    field_bug="HPE CON-2642 and vsphere-csi#2507: a create whose reply was lost made a second volume",
)
def check_lost_reply(lab: Lab) -> None:
    """When the reply to any request is lost, the error does not claim "not applied", and a repeat converges.

    The backend has done it and nobody heard. A driver that says "failed" makes the orchestrator try
    elsewhere, and a LUN is leaked; one that creates again makes two.
    """
    _each_request(lab, Fault.lose_reply)


@check("fault.lost_request", rule="any.idempotent", tier=Tier.STANDARD)
def check_lost_request(lab: Lab) -> None:
    """When any request is lost, the error does not claim "applied", and a repeat converges."""
    _each_request(lab, Fault.lose_request)


@check("fault.reset", rule="any.taxonomy", tier=Tier.STANDARD)
def check_reset(lab: Lab) -> None:
    """A connection that is reset instead of answered gives a typed error, and a repeat converges."""
    _each_request(lab, Fault.reset_after)


@check("fault.duplicate_request", rule="any.idempotent", tier=Tier.STANDARD)
def check_duplicate_request(lab: Lab) -> None:
    """A request that reaches the backend twice does its work once.

    Proxies and TCP middle boxes repeat requests; the second answer ("it exists already") is the one that
    the driver sees.
    """
    _each_request(lab, Fault.duplicate)


@check("fault.truncated_reply", rule="any.taxonomy", tier=Tier.STANDARD)
def check_truncated_reply(lab: Lab) -> None:
    """An answer that is cut off gives a typed error with a true outcome; half of a text is no success."""
    _each_request(lab, Fault.truncate)


@check("fault.garbled_reply", rule="any.taxonomy", tier=Tier.STANDARD)
def check_garbled_reply(lab: Lab) -> None:
    """An answer that makes no sense gives a typed error with a true outcome, never a parser's exception."""
    _each_request(lab, Fault.garble)


@check("fault.html_login_page", rule="any.taxonomy", tier=Tier.STANDARD)
def check_html_login_page(lab: Lab) -> None:
    """A page of a captive portal, with status 200, is neither an answer nor a success."""
    _each_request(lab, Fault.html_login_page)


@check("fault.session_expires", rule="any.taxonomy", tier=Tier.STANDARD)
def check_session_expires(lab: Lab) -> None:
    """A session that ends at any request is renewed, or gives a typed error; a repeat converges.

    Tokens live for minutes, a clone for an hour.
    """
    _each_request(lab, lambda number: Fault.status(number, 401))


@check("fault.throttled", rule="any.taxonomy", tier=Tier.STANDARD)
def check_throttled(lab: Lab) -> None:
    """429 and 503 with Retry-After are waited for, or passed on as Busy or Unavailable."""
    with lab.proxied() as (proxy, pool):
        for code in (429, 503):
            scene = deeds.CREATE.prepare(lab)
            proxy.plan([Fault.status(1, code, retry_after=1)])
            error = attempt(lambda call, s=scene: deeds.CREATE.act(pool.driver, s, call), lab.call())  # type: ignore[misc] # bound at once
            proxy.finish()
            proxy.clear()
            must(
                error is None or isinstance(error, Busy | Unavailable),
                f"status {code} became {type(error).__name__}, which nobody repeats",
            )
            _was_true(lab, deeds.CREATE, scene, error)
            again(lambda call, s=scene: deeds.CREATE.act(pool.driver, s, call), lab)  # type: ignore[misc] # idem
            deeds.CREATE.judge(lab, scene)


@check("fault.no_retry_storm", rule="any.deadline", tier=Tier.STANDARD)
def check_no_retry_storm(lab: Lab) -> None:
    """A backend that refuses everything is not flooded: one call sends at most 20 requests in 3 seconds.

    Thousands of volumes on an array that restarts: whoever repeats without waiting keeps it down.
    """
    with lab.proxied() as (proxy, pool):
        scene = deeds.CREATE.prepare(lab)
        proxy.plan([Fault.status(1, 503, every=1)])
        error = attempt(lambda call: deeds.CREATE.act(pool.driver, scene, call), lab.call(3.0))
        sent = len(proxy.exchanges)
        proxy.clear()
        must(error is not None, "it succeeded, although each request was refused")
        must(sent <= MOST_REQUESTS, f"one call sent {sent} requests to a backend that refuses everything")
        lab.notes.measure("requests to a backend that refuses everything", sent, "requests")


def _timed(act: Callable[[Call], object], seconds: float) -> tuple[StorageError | None, float]:
    started = time.monotonic()
    error = attempt(act, Call.within(seconds))
    return error, time.monotonic() - started


def _slow(lab: Lab, fault: Fault) -> Iterator[tuple[str, StorageError | None, float]]:
    """Do each deed against a backend that hardly answers; yields error and seconds."""
    with lab.proxied() as (proxy, pool):
        for deed in _deeds(lab):
            scene = deed.prepare(lab)
            proxy.plan([fault])
            error, seconds = _timed(lambda call, d=deed, s=scene: d.act(pool.driver, s, call), SHORT)  # type: ignore[misc] # bound at once
            proxy.clear()
            yield deed.method, error, seconds


@check("fault.deadline_black_hole", rule="any.deadline", tier=Tier.STANDARD)
def check_deadline_black_hole(lab: Lab) -> None:
    """Against a backend that never answers each call returns an error within its deadline and two seconds.

    One hung array must not hold the threads of an orchestrator that has others to serve.
    """
    for method, error, seconds in _slow(lab, Fault.black_hole(1, every=1)):
        must(error is not None, f"{method} succeeded, although nothing was answered")
        must(seconds <= SHORT + GRACE, f"{method} with {SHORT} s to go returned after {seconds:.1f} s")


@check("fault.deadline_slow_drip", rule="any.deadline", tier=Tier.STANDARD)
def check_deadline_slow_drip(lab: Lab) -> None:
    """Against a backend that sends ten bytes a second each call returns within its deadline and two seconds.

    A timeout that starts anew with each byte never ends; most HTTP libraries count so.
    """
    for method, _, seconds in _slow(lab, Fault.drip(1, bytes_per_second=10, every=1)):
        must(seconds <= SHORT + GRACE, f"{method} with {SHORT} s to go returned after {seconds:.1f} s")


@check("fault.cancel_honoured", rule="any.deadline", level=Level.SHOULD, tier=Tier.STANDARD)
def check_cancel_honoured(lab: Lab) -> None:
    """A call that is cancelled while the backend is silent ends within five seconds."""
    with lab.proxied() as (proxy, pool):
        scene = deeds.CREATE.prepare(lab)
        proxy.plan([Fault.black_hole(1, every=1)])
        call = replace(lab.call(20.0))
        timer = threading.Timer(0.5, call.cancel.set)
        timer.start()
        started = time.monotonic()
        error = attempt(lambda c: deeds.CREATE.act(pool.driver, scene, c), call)
        seconds = time.monotonic() - started
        timer.join()
        proxy.clear()
        must(error is not None, "it succeeded, although nothing was answered")
        must(seconds <= 5.5, f"it returned {seconds:.1f} s after it began, cancelled at 0.5 s")


@check("fault.bad_certificate", rule="pool.open-typed", tier=Tier.STANDARD)
def check_bad_certificate(lab: Lab) -> None:
    """A certificate that is expired, of another host or of nobody known is refused before a secret is sent.

    "verify=False" is how array passwords travel in the clear past whoever asks for them.
    """
    kinds = (Fault.expired_certificate(), Fault.wrong_host_certificate(), Fault.untrusted_certificate())
    for fault in kinds:
        with lab.proxied(tls_only=True) as (proxy, pool):
            scene = deeds.CREATE.prepare(lab)
            proxy.plan([fault])
            error = attempt(lambda call, s=scene: deeds.CREATE.act(pool.driver, s, call), lab.call(20.0))  # type: ignore[misc] # bound at once
            sent = len(proxy.exchanges)
            proxy.clear()
            must(error is not None and not sent, f"{fault.kind}: the driver talks to whoever shows it")
            must(
                isinstance(error, Unavailable | Unauthenticated),
                f"{fault.kind} became {type(error).__name__} instead of Unavailable",
            )
            _was_true(lab, deeds.CREATE, scene, error)


@check("fault.connection_refused", rule="any.taxonomy", tier=Tier.STANDARD)
def check_connection_refused(lab: Lab) -> None:
    """A backend that takes no connection gives Unavailable, and no claim that anything was done."""
    with lab.proxied() as (proxy, pool):
        scene = deeds.CREATE.prepare(lab)
        proxy.plan([Fault.refuse(1, every=1)])
        error = attempt(lambda call: deeds.CREATE.act(pool.driver, scene, call), lab.call(10.0))
        proxy.clear()
        must(
            isinstance(error, Unavailable),
            f"it became {type(error).__name__}" if error else "it succeeded without a backend",
        )
        _was_true(lab, deeds.CREATE, scene, error)
        again(lambda call: deeds.CREATE.act(pool.driver, scene, call), lab)
        deeds.CREATE.judge(lab, scene)
