"""The driver host: `python -m bollard.conformance.hosting.server --fd N --log FILE`, or a template's fork.

    listener thread   reads frames; answers for the host itself: cancel, count, threads, bye
    lanes             run the driver; the first lane is the main thread (signal handlers, asyncio)

The host ends with the suite: when the socket closes, there is nobody left to serve.
"""

from __future__ import annotations

import argparse
import atexit
import faulthandler
import gc
import importlib
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ...core.spi import parse_options
from .borrowed import Context
from .crashes import Meter
from .failures import NotReturned, encode_error
from .frames import Channel, Frame, FrameTooLarge
from .lanes import Lane, Progress, Questions
from .streams import Stream
from .wire import Json, NotCarried, decode, encode

_log = logging.getLogger("bollard.host")
_EXIT_WITHOUT_SUITE = 70


class Host:
    """One driver class, and its one instance.

    Args:
        channel: to the suite.
        cls: the class; None when the suite names it in its first request.
    """

    def __init__(self, channel: Channel, cls: Any = None) -> None:
        self._channel = channel
        self._questions = Questions(channel)
        self._meter = Meter()
        self._main = Lane(self._handle)
        self._lanes = {0: self._main}
        self._threads: set[int] = set()
        self._contexts: dict[int, Context] = {}
        self._streams: dict[int, Stream] = {}
        self._cls = cls
        self._driver: Any = None

    def run(self) -> None:
        """Serve until the suite says goodbye."""
        threading.Thread(target=self._listen, name="bollard-listener", daemon=True).start()
        self._main.serve()

    # -- the listener ------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._threads.add(threading.get_native_id())
        while (frame := self._channel.receive()) is not None:
            self._route(frame)
        os._exit(_EXIT_WITHOUT_SUITE)

    def _route(self, frame: Frame) -> None:
        match frame.op:
            case "cancel":
                if context := self._contexts.get(frame.header["id"]):
                    context.cancel.set()
            case "answer":
                self._questions.route(frame)
            case "leave":
                # The main lane stays: its thread is the process.
                if lane := self._lanes.pop(frame.header["lane"] or -1, None):
                    lane.frames.put(None)
            case "bye":
                self._main.frames.put(None)
            case "begin" | "counted" | "threads":
                self._reply(frame, self._control(frame))
            case _:
                self._lane(frame.header["lane"]).frames.put(frame)

    def _lane(self, number: int) -> Lane:
        if number not in self._lanes:
            self._lanes[number] = Lane(self._handle)
            self._threads.add(self._lanes[number].start())
        return self._lanes[number]

    def _control(self, frame: Frame) -> Json:
        match frame.op:
            case "begin":
                self._meter.begin(fatal=frame.header["fatal"], always=frame.header["always"])
                return None
            case "counted":
                return self._meter.counted()
            case _:
                gc.collect()  # an object that only a cycle keeps is no leak
                # A lane that was left may still be on its way out: it is ours until the kernel forgets it.
                self._threads &= {int(task.name) for task in Path("/proc/self/task").iterdir()}
                return [sorted(self._threads), [[t.native_id, t.name] for t in threading.enumerate()]]

    # -- the lanes ---------------------------------------------------------------------------------

    def _handle(self, frame: Frame) -> None:
        """Do what a frame says and reply; runs in its lane."""
        acts: dict[str, Callable[[Frame], None]] = {
            "load": self._load,
            "construct": self._construct,
            "call": self._call,
            "next": self._advance,
            "drop": self._drop,
        }
        try:
            acts[frame.op](frame)
        except BaseException as error:  # noqa: BLE001 - SystemExit, too: whatever a driver raises is told
            self._contexts.pop(frame.header["id"], None)
            _log_failure(frame.op, error)
            self._fail(frame, _encode_raised(error))

    def _fail(self, frame: Frame, error: Json) -> None:
        header = {"op": "failed", "id": frame.header["id"], "error": error}
        try:
            self._channel.send(header)
        except FrameTooLarge:
            text = f"{self._cls.__name__} raised an error that is too large to leave the driver host"
            self._channel.send(header | {"error": {"not_returned": text}})

    def _reply(self, frame: Frame, value: Json) -> None:
        self._channel.send({"op": "done", "id": frame.header["id"], "value": value})

    def _load(self, frame: Frame) -> None:
        self._cls = load_class(frame.header["target"], frame.header["path"])
        self._reply(frame, None)

    def _construct(self, frame: Frame) -> None:
        self._driver = self._cls(parse_options(self._cls.Options, decode(frame.header["options"])))
        self._reply(frame, None)

    def _call(self, frame: Frame) -> None:
        number, method = frame.header["id"], frame.header["method"]
        context = Context(number, self._questions, Progress(self._channel, number))
        self._contexts[number] = context
        arguments, options = decode(frame.header["arguments"], context.borrow())
        _log.debug("-> %s", method)
        begun = time.monotonic()
        try:
            with self._meter.running():
                value = getattr(self._driver, method)(*arguments, **options)
        finally:
            context.progress.flush()
            _log.debug("<- %s after %.3f s", method, time.monotonic() - begun)
        if isinstance(value, Iterator):
            self._streams[number] = Stream(method, value)
            self._channel.send({"op": "stream", "id": number})
            return
        self._return(frame, method, value)
        self._contexts.pop(number, None)

    def _return(self, frame: Frame, method: str, value: object) -> None:
        with self._naming(method, value):
            self._reply(frame, encode(value))

    def _advance(self, frame: Frame) -> None:
        number = frame.header["id"]
        stream, context = self._streams[number], self._contexts[number]
        try:
            with self._meter.running():
                items, blobs = stream.batch(frame.header["most"])
            context.progress.flush()
            with self._naming(stream.method, items[0] if items else b""):
                header = {"op": "items", "id": number, "n": "bytes" if blobs else len(items)}
                self._channel.send({**header, "items": encode(items)}, *blobs)
        except BaseException:
            stream.close()
            self._forget(number)
            raise
        if not (items or blobs):
            self._forget(number)

    def _drop(self, frame: Frame) -> None:
        """Close what a stream comes from: its consumer wants no more."""
        number = frame.header["id"]
        if stream := self._streams.get(number):
            try:
                with self._meter.running():
                    stream.close()
            finally:
                self._forget(number)
        self._reply(frame, None)

    def _forget(self, number: int) -> None:
        self._streams.pop(number, None)
        self._contexts.pop(number, None)

    @contextmanager
    def _naming(self, method: str, value: object) -> Iterator[None]:
        """Say which method gave a value that cannot go over the wire."""
        try:
            yield
        except (NotCarried, FrameTooLarge, ValueError, RecursionError) as error:
            # ValueError: an int of more digits than Python writes.
            why = "it is too deeply nested" if isinstance(error, RecursionError) else str(error)
            what = f"{self._cls.__name__}.{method} gave a {type(value).__name__}"
            raise NotReturned(f"{what} that cannot leave the driver host: {why}") from error


def _encode_raised(error: BaseException) -> Json:
    """Return an error as JSON; one that the suite's own object raised by its number, so that it is known."""
    if (number := getattr(error, "_bollard_ask", None)) is not None:
        return {"raised": number}
    return {"not_returned": str(error)} if isinstance(error, NotReturned) else encode_error(error)


def _log_failure(op: str, error: BaseException) -> None:
    """Log where it was raised and not what it says: this log is searched for secrets that the driver told."""
    places = "".join(traceback.format_tb(error.__traceback__))
    _log.debug("%s raised %s\n%s", op, type(error).__name__, places)


def load_class(target: str, path: Sequence[str]) -> Any:
    """Import the class "module:Class", with this sys.path from now on."""
    sys.path[:] = path
    module, _, name = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def log_with(handler: logging.Handler) -> None:
    """Have a handler log everything, of every logger."""
    handler.setFormatter(logging.Formatter("%(asctime)s %(threadName)s %(name)s %(levelname)s %(message)s"))
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    logging.captureWarnings(capture=True)


def serve(fd: int, log: Path, cls: Any = None) -> NoReturn:
    """Be a driver host until the suite says goodbye.

    Args:
        fd: of the socket to the suite.
        log: where log records go.
        cls: the driver's class, if it is loaded already.
    """
    # A child that the driver forks would hold the socket open, and the suite would miss the host's end.
    os.register_at_fork(after_in_child=lambda: os.close(fd))
    log_with(logging.FileHandler(log, encoding="utf-8"))
    Host(Channel(socket.socket(fileno=fd)), cls).run()
    _leave()


def _leave() -> NoReturn:
    """End the process, even if the driver left threads that would be waited for.

    What is registered to run at exit runs; but Python does not take itself apart, object by object, which
    costs a fork more than its whole start: each page that is touched has to be copied.
    """
    others = [t for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    if not others:
        atexit._run_exitfuncs()  # noqa: SLF001 - nothing public does it, and drivers may count on it
    logging.shutdown()
    os._exit(0)


def main() -> None:
    """Serve one suite."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    given = parser.parse_args()
    prepare(given.fd)
    serve(given.fd, given.log)


def prepare(fd: int) -> None:
    """Make of a spawned process what a driver may be loaded into; `fd` is the suite's, and nobody else's."""
    os.environ.pop("PYTHONPATH", None)  # was for finding this module; the driver's children are not asked
    os.set_inheritable(fd, False)  # noqa: FBT003 - the only signature there is
    faulthandler.enable()


if __name__ == "__main__":
    main()
