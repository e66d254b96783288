"""The secret canary: over a whole run, no secret shows anywhere that it may not.

    while checks run    command lines and environments of the driver's process and its children
    after each check    every error that the driver raised, with its causes and notes
    at the end          logs, output and temporary files of each driver host

Looked for are the secrets of the driver's options, and a mark that every CHAP secret of the run begins with:
thousands of secrets would take minutes to look for, their common beginning takes none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.plugins import load_driver
from ..core.redact import secrets_of
from ..core.spi import parse_options
from ..transfer_objects.secret import Secret
from .canary import Canary, Watch
from .lab import CHAP_MARK
from .leaks import CANARY, run_outcome
from .model import Outcome
from .recording import Recorder
from .settings import SuiteSettings

# Seconds. A process that lives for less may be missed; five looks a second more cost a tenth of a core.
_POLL = 0.1
# A run with crash checks has hundreds of hosts; the last ones are those of the last findings.
_KEPT_HOSTS = 50
_KEPT_BYTES = 2**20


class Secrecy:
    """The canary of one run.

    Args:
        settings: the run's, for the secrets among the driver's options.
        recorder: whose errors and hosts are looked at.
    """

    def __init__(self, settings: SuiteSettings, recorder: Recorder) -> None:
        options = parse_options(load_driver(settings.driver).Options, settings.options)
        self._canary = Canary([*secrets_of(options), Secret(CHAP_MARK)])
        self._recorder = recorder
        self._said: dict[str, None] = {}
        self._watch: Watch | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the driver's processes until the block ends."""
        with self._canary.watching(seconds=_POLL) as self._watch:
            yield

    def after_check(self, check: str) -> None:
        """Look at what the driver raised during a check."""
        for method, error in self._recorder.log.errors():
            self._say(self._canary.in_error(error, f"{check}: {method}"))

    def end(self) -> Outcome:
        """Return the outcome; what the hosts wrote is looked at now, so all of them have to be closed."""
        for check, host in self._recorder.hosts:
            root = host.files.log.parent
            self._say([f"{check or 'opening the driver'}: {one}" for one in self._canary.in_tree(root)])
        if self._watch is not None:
            self._say(self._watch.said)
        return run_outcome(CANARY, list(self._said))

    def keep_logs(self, directory: Path) -> None:
        """Copy what the newest hosts wrote, without secrets, to where reports find it."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        redact = self._recorder.log.redactor()
        for number, (check, host) in enumerate(self._recorder.hosts[-_KEPT_HOSTS:]):
            for path in (host.files.log, host.files.output):
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - _KEPT_BYTES))
                    text = file.read().decode(errors="replace")
                if text:
                    name = f"{self._recorder.ledger.contents.run}-{number:03}-{check or 'pool'}-{path.name}"
                    (directory / name).write_text(redact(text), encoding="utf-8")

    def _say(self, sentences: list[str]) -> None:
        self._said.update(dict.fromkeys(sentences))
