"""Talking to the array, whichever of its controllers answers.

    client.talk(call) ──> Conversation: get, post, patch, delete, pages      one per SPI call
                            └─> ArrayClient: which controller                one per driver
                                  ├─> Controller: url                        session, deadlines, errors
                                  └─> Controller: standby_url

A controller that cannot be reached has not seen the request, and a read may be sent twice: these go to the
other one within the same call. A change whose answer is lost has an unknown outcome and is the caller's to
repeat; the repeat goes to the other controller, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from ....core.spi import Call, DeadlineExceeded, Internal, Outcome, StorageError, Unavailable
from ....transfer_objects.secret import Secret
from .answers import Answer, Json, content_of, member
from .controller import Controller
from .options import ArrayOptions

_PAGE = 1000


class ArrayClient:
    """The array's REST interface under our account.

    Raises:
        InvalidArgument: a url or the CA file cannot be used.
    """

    def __init__(self, options: ArrayOptions) -> None:
        self._password = options.password
        self._controllers = [Controller(options.url, options, "url")]
        if options.standby_url is not None:
            self._controllers.append(Controller(options.standby_url, options, "standby_url"))
        self._current = self._controllers[0]

    def talk(self, call: Call) -> Conversation:
        """Begin one operation."""
        return Conversation(self, call)

    def close(self) -> None:
        """Log out where the array listens, and close all connections."""
        for controller in self._controllers:
            controller.close()

    def request(
        self,
        method: str,
        path: str,
        call: Call,
        *,
        query: Mapping[str, Any] | None = None,
        body: Json | None = None,
        secrets: Iterable[Secret] = (),
    ) -> Json:
        """Send a request within our session and return the answer's content."""
        answer = self._answer(method, path, call, query=query, body=body)
        return content_of(
            answer, f"{method} {path}", writes=method != "GET", secrets=(self._password, *secrets)
        )

    def _answer(self, method: str, path: str, call: Call, **rest: Any) -> Answer:
        for _ in self._controllers[1:]:
            try:
                return self._ask(method, path, call, **rest)
            except Unavailable as error:
                if error.outcome is not Outcome.NOT_APPLIED:
                    raise
        return self._ask(method, path, call, **rest)

    def _ask(self, method: str, path: str, call: Call, **rest: Any) -> Answer:
        asked = self._current
        try:
            return asked.answer(method, path, call, **rest)
        except (Unavailable, DeadlineExceeded):
            # Also when time ran out: a controller that hangs would be asked again by each short call.
            if not call.cancel.is_set():
                self._leave(asked)
            raise

    def _leave(self, asked: Controller) -> None:
        """Ask the other one from now on, unless another call has come to that already."""
        if self._current is asked:
            at = self._controllers.index(asked) + 1
            self._current = self._controllers[at % len(self._controllers)]


class Conversation:
    """The requests of one SPI call; knows whether something was changed already.

    An error after a change says "unknown" even if the last request was refused: half of the operation
    was applied, and the repeat goes on from there.
    """

    def __init__(self, client: ArrayClient, call: Call) -> None:
        self.call = call
        self._client = client
        self._changed = False

    def get(self, path: str, **query: Any) -> Json:
        """Read."""
        return self._request("GET", path, query={k: v for k, v in query.items() if v is not None})

    def post(self, path: str, body: Json, secrets: Iterable[Secret] = ()) -> Json:
        """Make."""
        return self._request("POST", path, body=body, secrets=secrets)

    def patch(self, path: str, body: Json, secrets: Iterable[Secret] = ()) -> Json:
        """Change."""
        return self._request("PATCH", path, body=body, secrets=secrets)

    def delete(self, path: str) -> None:
        """Remove."""
        self._request("DELETE", path)

    def items(self, path: str, **query: Any) -> Iterator[Json]:
        """Yield the items of a list, page by page."""
        cursor: str | None = None
        while True:
            found, cursor = self.page(path, limit=_PAGE, cursor=cursor, **query)
            yield from found
            if cursor is None:
                return

    def page(self, path: str, **query: Any) -> tuple[list[Json], str | None]:
        """Return one page of a list, and the cursor of the next one."""
        content = self.get(path, **query)
        found = member(content, "items", list)
        return found, member(content, "next", str) if content.get("next") is not None else None

    def wait(self, seconds: float) -> None:
        """Wait; raises when the call ends meanwhile."""
        self.call.cancel.wait(self.call.remaining(seconds, outcome=self.outcome()))
        self.call.check(self.outcome())

    def outcome(self) -> Outcome:
        """Say what is known so far."""
        return Outcome.UNKNOWN if self._changed else Outcome.NOT_APPLIED

    def _request(self, method: str, path: str, **rest: Any) -> Json:
        try:
            content = self._client.request(method, path, self.call, **rest)
        except StorageError as error:
            if self._changed and error.outcome is Outcome.NOT_APPLIED:
                error.outcome = Outcome.UNKNOWN
            raise
        self._changed = self._changed or method != "GET"
        return content


def path_of(*parts: str) -> str:
    """Return a path of the parts; what the array calls its objects is never trusted to be a path."""
    if any(part in ("", ".", "..") for part in parts):
        raise Internal("the array has an object without a usable id", outcome=Outcome.NOT_APPLIED)
    return "".join(f"/{quote(part, safe='')}" for part in parts)
