import asyncio
import json

import pytest

from coldray.serving.problems import TYPE, ProblemError
from coldray.serving.settings import Limits

ROUTES = [
    ("POST", "/v1/recommend", {"json": {"history": ["a"]}}),
    ("GET", "/v1/items?query=a", {}),
    ("GET", "/v1/items/a", {}),
    ("GET", "/v1/graph/a", {}),
    ("GET", "/v1/status", {}),
]
WRITING = [
    ("POST", "/v1/items", {"json": {"items": [{"item_id": "x", "title": "X"}]}}),
    ("DELETE", "/v1/items/x", {}),
]


@pytest.mark.parametrize(("method", "path", "options"), [*ROUTES, *WRITING])
def test_every_route_needs_a_token_and_answers_one(client, method, path, options):
    refused = client(method, path, **options)
    assert refused.status_code == 401
    assert refused.headers["content-type"] == TYPE
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert client(method, path, token="wrong", **options).status_code == 401
    assert client(method, path, token="w", **options).status_code == 200


@pytest.mark.parametrize(("method", "path", "options"), WRITING)
def test_a_token_that_may_read_may_not_write(client, stand_in, method, path, options):
    refused = client(method, path, token="r", **options)
    assert refused.status_code == 403
    assert "reader" in refused.json()["detail"]
    assert stand_in.asked == []


def test_a_host_header_or_a_doubled_slash_opens_nothing(client):
    for path in ("/v1/status/", "//v1/status", "/v1/./status", "/V1/status"):
        assert client("GET", path).status_code in (401, 404, 307)
    assert client("GET", "/v1/status", headers={"Host": "127.0.0.1/healthz?x="}).status_code == 401


@pytest.mark.parametrize(
    ("address", "host", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8000", 200),
        ("127.0.0.1", "localhost", 200),
        ("::1", "[::1]:8000", 200),
        ("10.0.0.7", "127.0.0.1:8000", 403),
        ("127.0.0.1", "evil.example:8000", 403),
        ("127.0.0.1", "", 403),
    ],
)
def test_an_open_service_answers_its_own_machine_under_its_own_name_alone(make_client, address, host, status):
    client = make_client(gated=False, address=address)
    assert client("GET", "/v1/status", headers={"Host": host}).status_code == status


def test_a_form_of_another_site_writes_nothing(make_client, stand_in):
    client = make_client(gated=False)
    body = b'{"items": [{"item_id": "x", "title": "X"}]}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"Host": "127.0.0.1", "Content-Type": kind, "Origin": "http://evil.example"}
        assert client("POST", "/v1/items", content=body, headers=headers).status_code in (403, 415, 422)
    assert stand_in.asked == []


def test_a_recommendation_and_its_defaults(client, stand_in):
    found = client("POST", "/v1/recommend", token="r", json={"history": ["a", "b"]})
    assert found.json()["items"][0]["item_id"] == "b"
    client("POST", "/v1/recommend", token="r", json={"history": [], "k": 3, "settings": {"hops": 2}})
    assert stand_in.asked == [(["a", "b"], 10, {}), ([], 3, {"hops": 2})]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "history"),
        ({"history": "a"}, "history"),
        ({"history": ["a"], "k": 0}, "k"),
        ({"history": ["a"], "k": 101}, "k"),
        ({"history": ["a"] * 1001}, "history"),
        ({"history": ["a", "x" * 3000]}, "history.1"),
        ({"history": ["a"], "settings": {"scorer": "lines"}}, "settings.scorer"),
        ({"history": ["a"], "settings": {"hops": 1000}}, "settings.hops"),
        ({"history": ["a"], "topk": 3}, "topk"),
        (["a"], "(body)"),
    ],
)
def test_a_problem_names_the_field(client, body, field):
    found = client("POST", "/v1/recommend", token="r", json=body)
    assert (found.status_code, found.headers["content-type"]) == (422, TYPE)
    problem = found.json()
    assert problem["status"] == 422
    assert field in [error["field"] for error in problem["errors"]]
    assert field in problem["detail"]


def test_an_item_given_twice_is_refused(client, stand_in):
    rows = [{"item_id": "x", "title": "X"}, {"item_id": "x", "title": "Y"}]
    found = client("POST", "/v1/items", token="w", json={"items": rows})
    assert (found.status_code, stand_in.asked) == (409, [])


def test_an_item_has_any_fields_of_text(client, stand_in):
    row = {"item_id": "x", "title": "X", "colour": "red"}
    assert client("POST", "/v1/items", token="w", json={"items": [row]}).status_code == 200
    assert stand_in.asked == [[row]]
    for bad in ({"colour": 3}, {"colour": "x" * 100_001}, {"title": None}):
        assert client("POST", "/v1/items", token="w", json={"items": [row | bad]}).status_code == 422


def test_ids_may_have_any_signs(client, stand_in):
    assert client("GET", "/v1/items/a%2Fb%20%C3%A9", token="r").json()["item_id"] == "a/b é"
    client("DELETE", "/v1/items/..%2F..%2Fetc", token="w")
    assert stand_in.asked == ["../../etc"]


def test_too_many_requests_are_told_when_to_come_back(make_client):
    client = make_client(Limits(requests_per_second=0.5, burst=2))
    codes = [client("GET", "/v1/status", token="r").status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    assert int(client("GET", "/v1/status", token="r").headers["retry-after"]) >= 1
    assert client("GET", "/v1/status", token="w").status_code == 200


def test_a_bug_is_a_problem_without_its_insides(client, stand_in):
    async def broken():
        raise ZeroDivisionError("secret")

    stand_in.status = broken
    found = client("GET", "/v1/status", token="r")
    assert (found.status_code, found.headers["content-type"]) == (500, TYPE)
    assert "secret" not in found.text


def test_slow_answers_are_given_up(make_client, stand_in):
    async def slow(*args):
        await asyncio.sleep(5)

    stand_in.recommend = slow
    found = make_client(Limits(timeout_s=0.05))("POST", "/v1/recommend", token="r", json={"history": []})
    assert (found.status_code, found.json()["title"]) == (504, "It took too long")


def events(text):
    found = []
    for block in text.strip().split("\n\n"):
        if not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


STREAM = {"Accept": "text/event-stream"}


def test_hops_come_as_events_and_text_cannot_begin_another(client):
    found = client("POST", "/v1/recommend", token="r", json={"history": []}, headers=STREAM)
    assert found.headers["content-type"].startswith("text/event-stream")
    (hop, data), (last, answer) = events(found.text)
    assert (hop, last) == ("hop", "recommendation")
    assert data["note"] == "two\nlines"
    assert answer["graph_version"] == 4


@pytest.mark.parametrize("limit", [None, 0.05])
def test_a_stream_ends_with_a_problem(make_client, stand_in, limit):
    async def broken(history, k, changes):
        yield "hop", {"hop": 1}
        if limit:
            await asyncio.sleep(5)
        raise ProblemError(503, "the model is gone")

    stand_in.stream = broken
    limits = Limits(timeout_s=limit) if limit else Limits()
    found = make_client(limits)("POST", "/v1/recommend", token="r", json={"history": []}, headers=STREAM)
    assert [name for name, _ in events(found.text)] == ["hop", "error"]
    assert events(found.text)[1][1]["status"] == (504 if limit else 503)


def test_the_document_describes_every_route(client):
    document = client("GET", "/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/recommend",
        "/v1/items",
        "/v1/items/{item_id}",
        "/v1/graph/{item_id}",
        "/v1/status",
    }
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["security"] == [{"token": []}]
            assert {"401", "422", "429"} <= set(operation["responses"])
    text = json.dumps(document)
    for name in [part.split('"')[0] for part in text.split("#/components/schemas/")[1:]]:
        assert name in document["components"]["schemas"], name


def test_the_page_and_health_need_no_token(client):
    for path in ("/", "/healthz", "/readyz", "/page/app.js", "/page/style.css"):
        assert client("GET", path).status_code == 200, path
    for path in ("/page/none.js", "/page/..%2Fapi.py", "/page/index.html"):
        assert client("GET", path).status_code == 404, path


def test_no_page_of_ours_may_be_framed_or_run_what_is_not_ours(client):
    headers = client("GET", "/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
