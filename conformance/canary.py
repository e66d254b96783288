"""Looking for secrets where none may be: plain, base64 at any alignment, hex, quoted for URL, JSON or XML.

    Canary ──┬── found_in      a text, a report, a log line
             ├── in_tree       files of a directory, by stream
             ├── in_error      messages, reprs, notes, causes
             ├── in_frames     local variables of a traceback
             └── watching      command lines and environments of processes, while checks run

Every finding is a sentence that names the place and the form, and never the secret.
"""

from __future__ import annotations

import html
import os
import re
import threading
import traceback
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..core.redact import Redactor, encoded_forms
from ..transfer_objects.secret import Secret

# A shorter one ("test") is part of too many words; the redactor of core still takes it out.
MIN_LENGTH = 6
# qemu-img lives for some ten milliseconds, and its parent waits for it.
POLL_SECONDS = 0.02
MAX_FILE_BYTES = 256 * 2**20
MAX_FILES = 20_000
_CHUNK = 2**20
_MAX_REPR = 100_000


class Canary:
    """Knows some secrets in all their forms.

    Args:
        secrets: those shorter than `MIN_LENGTH` are not looked for.
    """

    def __init__(self, secrets: Iterable[Secret]) -> None:
        known = [s for s in secrets if len(s.reveal()) >= MIN_LENGTH]
        self._redact = Redactor(known)
        self._forms = {form.encode(errors="surrogatepass"): name for s in known for form, name in _forms(s)}
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._longest = len(longest_first[0]) if longest_first else 0
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first))) if longest_first else None

    def found_in(self, data: str | bytes) -> list[str]:
        """Return the forms ("plain", "base64", …) in which secrets show up, each once, sorted."""
        raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
        if self._pattern is None:
            return []
        return sorted({self._forms[m[0]] for m in self._pattern.finditer(raw)})

    def told(self, data: str | bytes, place: str) -> list[str]:
        """Return a sentence for each form that is in `data`, which was found at `place`."""
        return [f"{self._redact(place)} shows a secret ({form})" for form in self.found_in(data)]

    def in_tree(self, root: Path, *, max_files: int = MAX_FILES) -> list[str]:
        """Look into every regular file below `root`, and at the names; links are not followed.

        Of a file the first `MAX_FILE_BYTES` are read. What vanishes or may not be read is passed over.
        """
        said: list[str] = []
        for number, path in enumerate(_files(root)):
            if number >= max_files:
                break
            said += self.told(str(path.relative_to(root)), f"the name of the file {path}")
            said += [f"the file {self._redact(str(path))} holds a secret ({f})" for f in self._in_file(path)]
        return said

    def _in_file(self, path: Path) -> list[str]:
        forms: set[str] = set()
        tail, done = b"", 0
        try:
            with path.open("rb") as file:
                while done < MAX_FILE_BYTES and (data := file.read(_CHUNK)):
                    forms.update(self.found_in(tail + data))
                    tail, done = (tail + data)[-self._longest :], done + len(data)
        except OSError:
            return sorted(forms)
        return sorted(forms)

    def in_error(self, error: BaseException, place: str = "") -> list[str]:
        """Look at what a log of this error would show: message, detail, repr, notes; its causes, too."""
        said = []
        for one in _chain(error):
            where = f"{place or 'an error'}: {type(one).__name__}"
            texts = {
                "its message": str(one),
                "its repr": _shown(one),
                "its detail": str(getattr(one, "detail", "")),
                "a note of it": "\n".join(getattr(one, "__notes__", ())),
            }
            for part, text in texts.items():
                said += self.told(text, f"{where}, {part},")
        return said

    def in_frames(self, error: BaseException) -> list[str]:
        """Look at the local variables of each frame of its traceback, as a crash reporter would send them."""
        said = []
        for one in _chain(error):
            for frame, line in traceback.walk_tb(one.__traceback__):
                where = f"{Path(frame.f_code.co_filename).name}:{line}, {frame.f_code.co_name}"
                for name, value in frame.f_locals.items():
                    said += self.told(_shown(value), f"the local variable {name!r} of {where},")
        return said

    @contextmanager
    def watching(self, *roots: int, seconds: float = POLL_SECONDS) -> Iterator[Watch]:
        """Watch the descendants of these processes (by default: of this one) until the block ends.

        What a descendant has inherited from the environment of this process is not told: whoever starts
        the suite may well pass a secret to it in a variable.
        """
        watch = Watch(self, roots or (os.getpid(),))
        stop = threading.Event()
        thread = threading.Thread(
            target=_poll, args=(watch.look, stop, seconds), name="secret-canary", daemon=True
        )
        thread.start()
        try:
            yield watch
        finally:
            stop.set()
            thread.join()
            watch.look()


class Watch:
    """What was seen in command lines and environments so far.

    Attributes:
        looked_at: processes that were seen alive.
    """

    def __init__(self, canary: Canary, roots: tuple[int, ...]) -> None:
        self._canary = canary
        self._roots = roots
        self._said: dict[str, None] = {}
        self._inherited = dict(os.environ)
        self.looked_at: set[int] = set()

    @property
    def said(self) -> list[str]:
        """Sentences, each once, in the order in which they were found."""
        return list(self._said)

    def look(self) -> None:
        """Look once at this process's environment, and at all descendants."""
        self._environment(dict(os.environ), "the suite's own process")
        for pid in _descendants(self._roots):
            self.looked_at.add(pid)
            command = _proc(pid, "cmdline")
            program = os.fsdecode(command.partition(b"\0")[0]).rpartition("/")[2] or "?"
            self._say(self._canary.told(command, f"the command line of a {program!r} process"))
            entries = (os.fsdecode(e).partition("=") for e in _proc(pid, "environ").split(b"\0") if e)
            self._environment({name: value for name, _, value in entries}, f"a {program!r} process")

    def _environment(self, environment: Mapping[str, str], whose: str) -> None:
        for name, value in environment.items():
            if self._inherited.get(name) != value:
                self._say(self._canary.told(value, f"the environment variable {name} of {whose}"))

    def _say(self, sentences: list[str]) -> None:
        self._said.update(dict.fromkeys(sentences))


def _poll(look: Callable[[], None], stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        look()


def _forms(secret: Secret) -> Iterator[tuple[str, str]]:
    """Yield each form of a secret with its name; of equal forms the plainer name wins."""
    plain = secret.reveal()
    raw = plain.encode(errors="surrogatepass")
    named = dict.fromkeys(encoded_forms(secret), "base64")
    urls = {urllib.parse.quote(plain, safe=safe) for safe in ("", "/")} | {urllib.parse.quote_plus(plain)}
    named |= dict.fromkeys(urls | {re.sub("%..", lambda m: m[0].lower(), url) for url in urls}, "URL-quoted")
    named |= dict.fromkeys((html.escape(plain), html.escape(plain, quote=False)), "XML-escaped")
    escaped = {form for form in named if "\\" in form and form != plain}
    named |= dict.fromkeys(escaped, "JSON-escaped")
    named |= dict.fromkeys((raw.hex(), raw.hex().upper()), "hex")
    yield from (named | {plain: "plain"}).items()


def _files(root: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(directory, name)
            # A FIFO would block the reader for ever.
            if path.is_file() and not path.is_symlink():
                yield path


def _chain(error: BaseException) -> Iterator[BaseException]:
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        todo += [one.__context__, one.__cause__]
        yield one


def _shown(value: object) -> str:
    try:
        return repr(value)[:_MAX_REPR]
    except Exception:  # noqa: BLE001 - a foreign object's repr may raise anything; then it shows nothing
        return ""


def _descendants(roots: Iterable[int]) -> list[int]:
    """Return the processes below `roots`; of the suite's driver host, its helpers, their helpers."""
    found: list[int] = []
    todo = list(roots)
    while todo:
        for children in _children(todo.pop()):
            try:
                pids = [int(pid) for pid in children.read_text().split()]
            except OSError:  # the thread or its process has just ended
                continue
            found += pids
            todo += pids
    return found


def _children(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:  # it ended between two looks of `glob`: the suite's qemu-img lives for 10 ms
        return []


def _proc(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended, or belongs to another user by now
        return b""
