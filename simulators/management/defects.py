"""What goes wrong between a management server and an agent; counted ones strike so many requests."""

from __future__ import annotations

from dataclasses import dataclass

from ..defects import DefectSet


@dataclass
class ManagementDefects(DefectSet):
    """The switches.

    Attributes:
        cut: the connection is closed right behind a request: its answer is lost.
        half_frame: half of a request, then the connection is closed.
        twice: a request is delivered two times.
        late: a request is held back, and delivered behind the next one.
        odd_flags: bits that have no name are set.
        stray_response: a response that nobody asked for comes before a request.
        bad_version: a request has a version of the protocol that nobody speaks; then the same, right.
        bomb: a body that unpacks to 1 GiB and says 100 bytes comes before a request.
        flood: a length of 4 GiB is announced instead of a request.
        no_ping_answers: pings are not answered.
        refuses: agents are refused when they introduce themselves.
    """

    cut: int = 0
    half_frame: int = 0
    twice: int = 0
    late: int = 0
    odd_flags: int = 0
    stray_response: int = 0
    bad_version: int = 0
    bomb: int = 0
    flood: int = 0
    no_ping_answers: bool = False
    refuses: bool = False
