"""One attempt of a job, in the hands of its handler."""

from __future__ import annotations

from ..spi.call import Call
from .claims import Beat, Claim
from .table import Job


class Run:
    """What a handler is given.

    Attributes:
        claim: the right to do the job.
        call: for the drivers: the job's request id, its progress, and its cancellation. It has no deadline.
        renewed: monotonic seconds at which the lease was renewed last.
        lost: another worker has the job, or may have; nothing that this one says counts.
    """

    def __init__(self, claim: Claim, renewed: float) -> None:
        self.claim = claim
        self.call = Call(request_id=claim.job.request_id, progress=self._progress)
        self.renewed = renewed
        self.lost = False
        self._done, self._total = 0, 0
        self._text = ""

    @property
    def job(self) -> Job:
        """The job as it was when it was claimed."""
        return self.claim.job

    def tell(self, text: str) -> None:
        """Say in a few words what it is doing."""
        self._text = text.replace("\0", "")

    def beat(self) -> Beat:
        """Return how far it is."""
        return Beat(done=self._done, total=self._total, text=self._text)

    def lose(self) -> None:
        """Stop: the job is somebody else's."""
        self.lost = True
        self.call.cancel.set()

    def _progress(self, done: int, total: int) -> None:
        self._done, self._total = done, total
