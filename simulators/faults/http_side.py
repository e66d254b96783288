"""One side of the HTTP proxy: a link and h11's parser of what comes and goes over it."""

from __future__ import annotations

import h11

from .links import Link, LinkClosed, wait_readable

Event = h11.Event
_MAX_HEAD = 128 * 1024  # bytes of a head; S3 allows 8 KiB of metadata alone, h11's own limit is 16 KiB


class Side:
    """Events instead of bytes.

    Args:
        link: connected, and secured if it shall be.
        role: ours: h11.SERVER towards the client, h11.CLIENT towards the backend.
    """

    def __init__(self, link: Link, role: type[h11.CLIENT] | type[h11.SERVER]) -> None:
        self.link = link
        self.http = h11.Connection(role, max_incomplete_event_size=_MAX_HEAD)

    def event_now(self) -> Event | None:
        """The next event, None if it is not there yet.

        Raises:
            LinkClosed: the peer ended the connection in the middle of a message, or is no HTTP speaker.
        """
        try:
            while (event := self.http.next_event()) is h11.NEED_DATA:
                data = self.link.receive_now()
                if data is None:
                    return None
                self.http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise LinkClosed(str(error)) from error
        if not isinstance(event, Event):
            raise LinkClosed("a request before the answer to the one before it was read")
        return event

    def event(self) -> Event:
        """The next event."""
        while (event := self.event_now()) is None:
            wait_readable(self.link)
        return event

    def send(self, event: Event) -> None:
        """Send an event."""
        self.link.send(self.http.send(event) or b"")

    def both_done(self) -> bool:
        """Whether request and reply ended and the connection may have another."""
        return self.http.our_state is h11.DONE and self.http.their_state is h11.DONE
