import pytest

from coldray.serving.settings import Limits


@pytest.mark.parametrize("size", [1024, 1025, 3_000_000])
def test_a_body_has_an_end(make_client, size):
    client = make_client(Limits(body_kib=1))
    found = client("POST", "/v1/recommend", token="r", content=b"[" * size)
    assert found.status_code == (422 if size <= 1024 else 413)


def test_a_body_in_many_pieces_is_counted_as_one(make_client):
    async def pieces():
        for _ in range(100):
            yield b"x" * 100

    found = make_client(Limits(body_kib=1))("POST", "/v1/recommend", token="r", content=pieces())
    assert found.status_code == 413
    assert found.headers["content-security-policy"]
