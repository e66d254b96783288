"""What the simulated Swift can be told to do wrong."""

from __future__ import annotations

from dataclasses import dataclass

from ..defects import DefectSet


@dataclass
class SwiftDefects(DefectSet):
    """Switches of the Swift simulator.

    Attributes:
        unavailable: so many requests are answered with 503.
        latency: every request waits so many seconds first.
        listing_lag: puts and deletes reach listings so many seconds late (container server down).
        corrupt_first_read: so many GETs deliver one flipped bit with 200; the object is then quarantined:
            404 from there on, while listings still show it.
        drop_connection_midway: so many object PUTs and GETs are reset after half of their bytes.
        short_body: so many GETs deliver half of the bytes and call that the whole (200, consistent length).
        put_ignores_if_none_match: a conditional create overwrites.
        checks_if_none_match_early: a conditional create looks when the request begins, and never again, as
            the object server of Swift 2.38 does: of eight racing ones all eight win.
        etag_not_checked: a wrong ETag of an upload or of an SLO's segment is accepted.
        token_expires_now: all tokens given so far become invalid; switches itself off.
        lost_reply: so many object PUTs are committed and then reset instead of answered.
    """

    unavailable: int = 0
    latency: float = 0.0
    listing_lag: float = 0.0
    corrupt_first_read: int = 0
    drop_connection_midway: int = 0
    short_body: int = 0
    put_ignores_if_none_match: bool = False
    checks_if_none_match_early: bool = False
    etag_not_checked: bool = False
    token_expires_now: bool = False
    lost_reply: int = 0
