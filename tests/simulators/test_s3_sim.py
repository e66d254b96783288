"""The simulated S3 behind its command line, as boto3 sees it."""

from collections.abc import Iterator

import boto3
import pytest
from botocore.exceptions import ClientError

from bollard.simulators.process import SimulatorProcess
from bollard.simulators.s3 import S3Simulator


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SimulatorProcess]:
    """A child process with the bucket "archive"."""
    state = tmp_path_factory.mktemp("s3")
    with SimulatorProcess.start("s3", "--state", str(state), "--bucket", "archive") as process:
        yield process


def client_of(url: str):
    """A boto3 client with made-up credentials."""
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )


@pytest.fixture
def s3(server):
    """A client of the child process."""
    client = client_of(server.url)
    yield client
    client.close()


def code_of(call) -> str:
    """The error code that the call was refused with."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"]


def test_bucket_is_there_and_ranges_work(server, s3):
    """The bucket asked for exists; a range delivers exactly its bytes."""
    assert server.ready["buckets"] == ["archive"]
    s3.put_object(Bucket="archive", Key="range", Body=b"0123456789")
    reply = s3.get_object(Bucket="archive", Key="range", Range="bytes=2-4")
    assert reply["Body"].read() == b"234"
    assert code_of(lambda: s3.get_object(Bucket="archive", Key="range", Range="bytes=10-")) == "InvalidRange"


def test_conditional_create(s3):
    """If-None-Match: * creates once."""
    s3.put_object(Bucket="archive", Key="once", Body=b"first", IfNoneMatch="*")
    again = lambda: s3.put_object(Bucket="archive", Key="once", Body=b"second", IfNoneMatch="*")  # noqa: E731 - one use
    assert code_of(again) == "PreconditionFailed"
    assert s3.get_object(Bucket="archive", Key="once")["Body"].read() == b"first"


def test_multipart_appears_when_complete_and_abort_leaves_nothing(s3):
    """Parts are invisible until completion; an aborted upload is gone."""
    target = {"Bucket": "archive", "Key": "multi"}
    upload = s3.create_multipart_upload(**target)["UploadId"]
    bodies = [b"a" * (5 * 1024 * 1024), b"b" * 10]
    parts = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(**target, UploadId=upload, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in enumerate(bodies, 1)
    ]
    assert code_of(lambda: s3.head_object(**target)) == "404"
    s3.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(**target)["Body"].read() == b"".join(bodies)

    other = {"Bucket": "archive", "Key": "aborted"}
    upload = s3.create_multipart_upload(**other)["UploadId"]
    s3.upload_part(**other, UploadId=upload, PartNumber=1, Body=b"x")
    s3.abort_multipart_upload(**other, UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="archive")
    assert code_of(lambda: s3.head_object(**other)) == "404"


def test_in_process_starts_empty_each_time(tmp_path):
    """The context manager serves in threads; a stop forgets everything."""
    for _ in range(2):
        with S3Simulator(tmp_path, buckets=["archive"]) as simulator:
            client = client_of(simulator.url)
            assert client.list_objects_v2(Bucket="archive")["KeyCount"] == 0
            client.put_object(Bucket="archive", Key="o", Body=b"data")
            client.close()
