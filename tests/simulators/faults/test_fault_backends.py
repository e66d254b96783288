"""Real clients and drivers through the fault proxy: the array over TLS, S3, Swift."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from swiftclient import Connection
from urllib3.exceptions import ProtocolError

from array_rig import spec
from bollard.core.spi import Busy, Outcome, StorageError, parse_options
from bollard.drivers.primary.array import ArrayDriver
from bollard.simulators.array import ArraySimulator
from bollard.simulators.faults import MUTATING, Fault, FaultKind, FaultProxy
from bollard.simulators.faults.http import HttpProxy
from bollard.simulators.s3 import S3Simulator
from bollard.simulators.swift import SwiftSimulator
from primary_rig import WEB, call


@pytest.fixture
def array(tmp_path) -> Iterator[HttpProxy]:
    """A proxy in front of an array with TLS on both sides."""
    with (
        ArraySimulator(tmp_path / "array", pools={"pool-a": 1 << 26}, password="pw", job_seconds=0) as array,
        FaultProxy.http(upstream=array.url, upstream_ca=array.ca, state=tmp_path / "proxy") as proxy,
    ):
        yield proxy


@contextmanager
def driver_at(proxy: HttpProxy, timeout: float = 5) -> Iterator[ArrayDriver]:
    """An open driver behind the proxy."""
    options = {
        "url": proxy.url,
        "ca": str(proxy.ca),
        "username": "admin",
        "password": "pw",
        "pool": "pool-a",
        "timeout": timeout,
    }
    driver = ArrayDriver(parse_options(ArrayDriver.Options, options))
    try:
        driver.open(call())
        yield driver
    finally:
        driver.close()


CREATE = {"method": MUTATING, "path": "/volumes"}


@pytest.mark.parametrize(
    ("fault", "error", "outcome"),
    [
        (Fault.lose_reply(**CREATE), "Unavailable", Outcome.UNKNOWN),
        (Fault.lose_request(**CREATE), "Unavailable", Outcome.UNKNOWN),
        (Fault.reset_after(**CREATE), "Unavailable", Outcome.UNKNOWN),
        (Fault.truncate(**CREATE), "Unavailable", Outcome.UNKNOWN),
        (Fault.garble(**CREATE), "Internal", Outcome.UNKNOWN),
        (Fault.html_login_page(**CREATE), "Internal", Outcome.UNKNOWN),
        (Fault.wrong_content_type(**CREATE), "Internal", Outcome.UNKNOWN),
        (Fault.status(code=503, **CREATE), "Unavailable", Outcome.UNKNOWN),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_the_array_driver_survives(array, fault, error, outcome):
    """The driver says what it cannot know, and its second try makes exactly one volume."""
    with driver_at(array) as driver:
        array.plan([fault])
        with pytest.raises(StorageError) as caught:
            driver.create_volume(spec(WEB), call())
        array.finish()
        assert (type(caught.value).__name__, caught.value.outcome) == (error, outcome)
        driver.create_volume(spec(WEB), call())
        assert [volume.id for volume in driver.list_volumes(call()).items] == [WEB]


def test_a_duplicated_create(array):
    """The driver sees the array's answer to the second one: its own volume; there is one all the same."""
    with driver_at(array) as driver:
        array.plan([Fault.duplicate(**CREATE)])
        with pytest.raises(Busy):
            driver.create_volume(spec(WEB), call())
        array.finish()
        driver.create_volume(spec(WEB), call())
        assert [volume.id for volume in driver.list_volumes(call()).items] == [WEB]


@pytest.mark.parametrize(
    "fault",
    [Fault.expired_certificate(), Fault.wrong_host_certificate(), Fault.untrusted_certificate()],
    ids=str,
)
def test_bad_certificates(array, fault):
    """A driver that verifies sends nothing; one that does not is caught by the exchanges it had."""
    array.plan([fault])
    with pytest.raises(StorageError), driver_at(array):
        pytest.fail("the driver accepted the certificate")
    array.finish()
    assert array.exchanges == []
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    assert httpx.get(f"{array.url}/api/v1/system", verify=careless).status_code == 401
    assert [one.fault for one in array.exchanges] == [fault.kind]
    array.clear()
    with driver_at(array) as driver:
        assert driver.list_volumes(call()).items == []


def test_an_unverified_backend_is_refused(array, tmp_path):
    """The proxy verifies the backend as the client would have: no authority, no connection."""
    with FaultProxy.http(upstream=array.url, state=tmp_path / "second") as second:
        trust = ssl.create_default_context(cafile=second.ca)
        with pytest.raises(httpx.TransportError):  # RST; Python's ssl tells it as an end
            httpx.get(second.url, verify=trust)
        assert second.exchanges == []


@pytest.fixture
def s3(tmp_path) -> Iterator[HttpProxy]:
    """A proxy in front of moto with the bucket "box"."""
    with (
        S3Simulator(tmp_path / "s3", buckets=["box"]) as simulator,
        FaultProxy.http(upstream=simulator.url, state=tmp_path / "proxy") as proxy,
    ):
        yield proxy


@contextmanager
def boto(proxy: HttpProxy, attempts: int) -> Iterator:
    """A client that tries so often."""
    client = boto3.client(
        "s3",
        endpoint_url=proxy.url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": attempts}),
    )
    yield client
    client.close()


def test_s3_without_faults(s3):
    """Puts with 100-continue, multipart-sized bodies and listings pass."""
    data = bytes(range(256)) * 20_000
    with boto(s3, 1) as client:
        client.put_object(Bucket="box", Key="a b/ü", Body=data)
        assert client.get_object(Bucket="box", Key="a b/ü")["Body"].read() == data
        assert client.list_objects_v2(Bucket="box")["KeyCount"] == 1
    assert [one.status for one in s3.exchanges] == [200, 200, 200]


def test_s3_lost_reply_of_a_conditional_put(s3):
    """The object is there although the client was told nothing: the ambiguous commit."""
    s3.plan([Fault.lose_reply(method="PUT")])
    with boto(s3, 1) as client:
        with pytest.raises(ConnectionClosedError):
            client.put_object(Bucket="box", Key="once", Body=b"x", IfNoneMatch="*")
        s3.finish()
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(Bucket="box", Key="once", Body=b"x", IfNoneMatch="*")


def test_s3_slow_down(s3):
    """boto3 retries a 503 and succeeds."""
    s3.plan([Fault.status(code=503, method="PUT")])
    with boto(s3, 2) as client:
        client.put_object(Bucket="box", Key="o", Body=b"x")
    assert [one.status for one in s3.exchanges] == [503, 200]
    assert s3.exchanges[0].fault is FaultKind.STATUS


def test_swift_stays_on_the_proxy(tmp_path):
    """The storage URL of a sign-in leads through the proxy, chunked uploads pass, a truncated GET is seen."""
    with (
        SwiftSimulator(tmp_path / "swift", users={"test:tester": "key"}) as simulator,
        FaultProxy.http(upstream=simulator.url, state=tmp_path / "proxy") as proxy,
    ):
        client = Connection(f"{proxy.url}/auth/v1.0", "test:tester", "key", retries=0)
        client.put_container("box")
        client.put_object("box", "o", iter([b"a" * 1000, b"b" * 1000]))
        assert client.url.startswith(proxy.url)
        proxy.plan([Fault.truncate(method="GET", path="/box/o$")])
        _, body = client.get_object("box", "o", resp_chunk_size=100)
        with pytest.raises(ProtocolError, match="1000 bytes read, 1000 more"):
            list(body)
        proxy.finish()
        assert proxy.exchanges[-1].fault is FaultKind.TRUNCATE
        client.close()
