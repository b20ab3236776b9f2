import gzip
import os
import socket
import subprocess
import sys
import threading

import boto3
import pyarrow as pa
import pytest

from coldray import storage
from coldray.errors import UserError
from tests.plugins.bucket import BUCKET, KEYS
from tests.plugins.nodes import free_port, until


def test_a_write_is_whole_or_not_at_all(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a" / "file"
    storage.write_bytes(path, b"one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        UserError, match="a/file: No space left on device; free some space, then run the same"
    ):
        storage.write_bytes(path, b"two, which does not fit")
    assert storage.read_bytes(path) == b"one"
    assert os.listdir(path.parent) == ["file"]


def test_tables_and_json_come_back(tmp_path) -> None:
    storage.write_json(tmp_path / "x.json", {"a": [1, "é"]})
    storage.write_table(tmp_path / "x.parquet", pa.table({"a": [1, 2]}))
    assert storage.read_json(tmp_path / "x.json") == {"a": [1, "é"]}
    assert storage.read_table(tmp_path / "x.parquet").to_pydict() == {"a": [1, 2]}


def test_what_is_not_there_or_not_readable_is_told(tmp_path) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "bad.parquet").write_text("not parquet")
    for read, name in ((storage.read_json, "no.json"), (storage.read_json, "bad.json")):
        with pytest.raises(UserError, match=name):
            read(tmp_path / name)
    for name in ("no.parquet", "bad.parquet"):
        with pytest.raises(UserError, match=name):
            storage.read_table(tmp_path / name)
    with pytest.raises(UserError, match="cannot be opened"):
        storage.resolve("nosuchscheme://bucket/x")


def test_a_uri_is_used_like_a_path(tmp_path) -> None:
    uri = storage.join(f"file://{tmp_path}", "deep", "file")
    storage.write_bytes(uri, b"x")
    assert storage.exists(uri)
    assert storage.read_bytes(tmp_path / "deep" / "file") == b"x"
    storage.delete(uri)
    storage.delete(uri)
    assert not storage.exists(uri)


def test_a_damaged_page_is_told_in_one_line_too(tmp_path) -> None:
    path = tmp_path / "x.parquet"
    storage.write_table(path, pa.table({"a": [f"text {i}" for i in range(5000)]}))
    data = bytearray(path.read_bytes())
    data[100:400] = bytes(300)  # the footer is whole
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"x\.parquet: cannot be read as Parquet .* make it anew") as error:
        storage.read_table(path)
    assert "\n" not in str(error.value)


def test_one_at_a_time_and_the_other_hears_why(tmp_path) -> None:
    said: list[str] = []

    def tell(message: str) -> None:
        said.append(message)
        first.set()

    first, order = threading.Event(), []

    def second() -> None:
        with storage.exclusive(tmp_path / "new", "writing", tell):
            order.append("second")

    with storage.exclusive(tmp_path / "new", "writing", lambda message: None):
        other = threading.Thread(target=second)
        other.start()
        assert first.wait(30)
        order.append("first")
    other.join(30)
    assert order == ["first", "second"]
    assert said == [f"{tmp_path / 'new'}: another process is writing it; waiting until that is done"]


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Return the URI of a bucket in an S3-compatible server."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": url}).items():
        monkeypatch.setenv(name, value)
    words = ["-m", "tests.plugins.bucket", "127.0.0.1", str(port), "0", str(tmp_path / "requests")]
    server = subprocess.Popen([sys.executable, *words])
    try:
        until(lambda: _answers(port), what="the store")
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}"
    finally:
        server.terminate()
        server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def test_an_object_store_gives_back_the_bytes_that_it_got(bucket) -> None:
    for name in ("folder/plain.json", "folder/packed.csv.gz"):
        storage.write_bytes(f"{bucket}/{name}", gzip.compress(b"a,b\n"))
        assert gzip.decompress(storage.read_bytes(f"{bucket}/{name}")) == b"a,b\n"
    storage.write_bytes(f"{bucket}/folder/plain.json", b"other")
    assert storage.read_bytes(f"{bucket}/folder/plain.json") == b"other"
