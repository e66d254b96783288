"""boto3, tuned: one attempt per request, deadlines, and no hashing that the driver does anyway.

Payload signing and default checksums cost boto3 a factor of four (245 against 960 MiB/s on the machine
where this was measured). Integrity doesn't rest on them: every upload carries a digest of its content in a
header, headers are signed, and the server compares (see `_s3_upload.py`).
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...core.spi import Call, Outcome, StorageError, Unavailable
from ._http import quiet
from ._retry import repeated
from ._s3_errors import broken, from_answer, from_client

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError

    from .s3 import S3Options

# Below this a request could not even be answered by a healthy server.
_SHORTEST_TIMEOUT = 0.25


class S3Client:
    """Requests on one bucket.

    botocore fixes timeouts per client, not per request. So that a call with four seconds left doesn't wait
    sixty, there is a client for each halving of `read_timeout`, made when a deadline comes that near.
    """

    def __init__(self, options: S3Options) -> None:
        quiet("boto3", "botocore", "urllib3")
        self._options = options
        self._lock = threading.Lock()
        self._clients: dict[int, Any] = {}
        self._session: Any = None
        self._closed = False

    def close(self) -> None:
        """Close all connections; repeatable."""
        with self._lock:
            self._closed = True
            clients, self._clients = self._clients, {}
            self._session = None
        for client in clients.values():
            client.close()

    def send(self, operation: str, what: str, call: Call, **params: Any) -> dict[str, Any]:
        """Run one operation of boto3's client on the bucket, with retries.

        A body must be bytes: a retry sends it again.
        """
        return repeated(lambda: self.once(operation, what, call, **params), call, self._options.attempts)

    def repeat(self, act: Callable[[], dict[str, Any]], call: Call) -> dict[str, Any]:
        """Run `act`, which uses `once` with a fresh body, with retries."""
        return repeated(act, call, self._options.attempts)

    def once(self, operation: str, what: str, call: Call, **params: Any) -> dict[str, Any]:
        """Run one operation once."""
        with self.translating(what, call):
            client = self._client_for(call)
            answer: dict[str, Any] = getattr(client, operation)(Bucket=self._options.bucket, **params)
            return answer

    @contextmanager
    def translating(self, what: str, call: Call) -> Iterator[None]:
        """Turn botocore's errors from the block into the taxonomy."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            raise from_answer(error, what) from error
        except BotoCoreError as error:
            raise _own_failure(error) or from_client(error, what, call) from error
        except (HTTPError, OSError) as error:  # while a body is read
            raise broken(error, what, call) from error

    def _client_for(self, call: Call) -> Any:
        longest = self._options.read_timeout
        usable = max(call.remaining(at_most=longest), _SHORTEST_TIMEOUT)
        halvings = math.ceil(math.log2(longest / usable)) if usable < longest else 0
        with self._lock:
            if self._closed:
                raise Unavailable("the store is closed", outcome=Outcome.NOT_APPLIED)
            if halvings not in self._clients:
                self._clients[halvings] = self._new_client(longest / 2**halvings)
            return self._clients[halvings]

    def _new_client(self, timeout: float) -> Any:
        import boto3
        import botocore.session
        from botocore.config import Config

        options = self._options
        if self._session is None:
            base = botocore.session.get_session()
            base.register_component("data_loader", _descriptions())
            self._session = boto3.session.Session(
                botocore_session=base,
                aws_access_key_id=options.access_key.reveal() if options.access_key else None,
                aws_secret_access_key=options.secret_key.reveal() if options.secret_key else None,
                region_name=options.region,
            )
        manner: Any = {"addressing_style": options.addressing_style, "payload_signing_enabled": False}
        config = Config(
            signature_version="s3v4",
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=min(options.connect_timeout, timeout),
            read_timeout=timeout,
            max_pool_connections=64,
            tcp_keepalive=True,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3=manner,
        )
        verify = str(options.ca_file) if options.ca_file and options.verify_tls else options.verify_tls
        return self._session.client("s3", endpoint_url=options.endpoint_url, verify=verify, config=config)


@functools.cache
def _descriptions() -> Any:
    """Return what reads botocore's descriptions of services: 0.1 s of JSON, without state of any session."""
    from botocore.loaders import create_loader

    return create_loader()


def _own_failure(error: BotoCoreError) -> StorageError | None:
    """Return the typed error that a body raised while it was sent; botocore wraps whatever it meets."""
    cause = error.kwargs.get("error")
    return cause if isinstance(cause, StorageError) else None
