"""A request that cannot be answered gets a 4xx that says what was found and what was expected."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.server.fake import FakeRun
from tests.server.serving import Client, make_server, serving

JSON = {"Content_Type": "application/json"}
DEEP = b"[" * 100_000 + b"]" * 100_000

# path, body, status, words of the reason
BAD: list[tuple[str, Any, int, str]] = [
    ("/recommend", {"user": "u1", "k": 0}, 422, "k: found 0, expected at least 1"),
    ("/recommend", {"user": "u1", "k": 1001}, 422, "k: found 1001, expected at most 1,000"),
    ("/recommend", {"user": "u1", "k": "ten"}, 422, 'k: found "ten", expected a whole number'),
    ("/recommend", {"user": "u1", "k": 2.5}, 422, "k: found 2.5, expected a whole number"),
    ("/recommend", {"user": "u1", "k": True}, 422, "k: found true, expected a whole number"),
    ("/recommend", {"user": "u1", "k": None}, 422, "k: found null, expected a whole number"),
    ("/recommend", {"user": "u1", "exclude_seen": "no"}, 422, "expected true or false"),
    ("/recommend", {"user": "u1", "kk": 5}, 422, "kk: found an unknown field, expected only user"),
    ("/recommend", {}, 422, "expected either user or history"),
    ("/recommend", {"user": "u1", "history": ["i1"]}, 422, "expected either user or history"),
    ("/recommend", {"user": ""}, 422, 'user: found "", expected at least 1 character'),
    ("/recommend", {"user": "x" * 501}, 422, "user: found a text of 501 characters, expected at"),
    ("/recommend", {"user": ["u1"]}, 422, "user: found a list of 1, expected a text"),
    ("/recommend", {"user": "u99"}, 404, 'found "u99", expected the id of a user; nearest: u9'),
    ("/recommend", {"history": ["i1"] * 1001}, 422, "history: found a list of 1,001"),
    ("/recommend", {"history": "i1"}, 422, 'history: found "i1", expected a list'),
    ("/recommend", {"history": ["i1", None]}, 422, "history.1: found null, expected a text"),
    ("/recommend", {"history": ["i1", "I2"]}, 404, 'history.1: found "I2", expected the id of an'),
    ("/recommend", [1, 2], 422, "body: found a list of 2, expected a JSON object"),
    ("/recommend", None, 422, "body: found null"),
    ("/recommend", b"", 422, "body: found nothing"),
    ("/recommend", b"{not json", 400, "body: found no JSON (key must be a string at line 1"),
    ("/recommend", b'{"user": "u1", "k": NaN}', 400, "found no JSON"),
    ("/recommend", b'{"user": "\\ud800"}', 400, "found no JSON"),
    ("/recommend", b'{"user": "\xff"}', 400, "found no JSON"),
    ("/recommend", b'{"user": "u1", "user": "u2"}', 400, 'key "user" occurs twice'),
    ("/recommend", DEEP, 400, "recursion limit exceeded"),
    ("/recommend", b" " * (2**20 + 1), 413, "at most 1,048,576 bytes"),
    ("/similar", {"k": 3}, 422, "item: found nothing, expected a value; the field is required"),
    ("/similar", {"item": "i500"}, 404, 'item: found "i500", expected the id of an item; nearest'),
    ("/reasons", {"user": "u1", "item": "zzz"}, 404, 'item: found "zzz"'),
    ("/score", {"users": ["u1"], "items": []}, 422, "items: found a list of 0"),
    ("/score", {"users": ["u1"] * 101, "items": ["i1"]}, 422, "users: found a list of 101"),
    ("/score", {"users": ["u1", "q"], "items": ["i1"]}, 404, 'users.1: found "q"'),
    ("/items", {"items": []}, 422, "items: found a list of 0, expected at least 1 entry"),
    ("/items", {"items": [{"title": "x"}]}, 422, "items.0.item_id: found nothing"),
    ("/items", {"items": [{"item_id": "i1", "title": "x"}]}, 409, "expected a new id"),
    ("/items", {"items": [{"item_id": "n", "titel": "x"}]}, 422, "nearest: title"),
    ("/items", {"items": [{"item_id": "n", "title": ["x"]}]}, 422, "items.0.title: found a list"),
    ("/items", {"items": [{"item_id": "n", "title": "x" * 20_001}]}, 422, "20,001 characters"),
    ("/items", {"items": [{"item_id": "n", "title": ""}]}, 422, "title: all are empty"),
    ("/items", {"items": [{"item_id": "n", "title": "x"}] * 1001}, 422, "items: found a list of"),
    ("/items", {"items": [{"item_id": "n", "title": "x"}] * 2}, 409, "items.1.item_id"),
    ("/reload", {"run": "other"}, 422, "run: found an unknown field, expected no fields"),
]


@pytest.mark.parametrize(("path", "body", "status", "words"), BAD)
def test_bad_requests_get_a_reason(
    client: Client, path: str, body: Any, status: int, words: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found, headers, answer = client.send("POST", path, content, **JSON)
    told = json.loads(answer)
    assert (found, words in told["error"]) == (status, True), told
    assert headers["content-type"] == "application/json"
    assert "Traceback" not in told["error"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/items?limit=0", 422, 'limit: found "0", expected at least 1'),
        ("/items?limit=many", 422, "limit"),
        ("/users?query=" + "x" * 201, 422, "query: found a text of 201 characters, expected at"),
        ("/history", 422, "user: found nothing"),
        ("/history?user=u77", 404, "nearest: u7"),
        ("/recommend", 405, "/recommend: found GET"),
        ("/../../etc/passwd", 404, "see /docs"),
        ("/static/%2e%2e/app.py", 404, "see /docs"),
    ],
)
def test_bad_questions_get_a_reason(client: Client, path: str, status: int, words: str) -> None:
    found, told = client.get(path)
    assert (found, words in told["error"]) == (status, True), told


def test_at_most_ten_faults_are_told_each_by_field(client: Client) -> None:
    body = {"user": "u1", **{f"wrong{number}": 1 for number in range(50)}}
    _, told = client.post("/recommend", body)
    assert len(told["faults"]) == 10
    assert told["faults"][0]["field"] == "wrong0"


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_what_a_form_of_another_page_can_send_is_refused(client: Client, kind: str) -> None:
    body = b'{"items": [{"item_id": "evil", "title": "x"}]}'
    status, _, answer = client.send("POST", "/items", body, Content_Type=kind)
    assert status == 415
    assert "expected 'application/json'" in json.loads(answer)["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
def test_a_page_of_another_origin_cannot_add_items(client: Client, headers: dict[str, str]) -> None:
    item = {"items": [{"item_id": "evil", "title": "x"}]}
    status, told = client.post("/items", item, **headers)
    assert status == 403
    assert "expected this server's own" in told["error"]
    assert client.get("/items?query=evil")[1]["items"] == []


def test_the_page_itself_may_ask(client: Client) -> None:
    own = f"http://127.0.0.1:{client.port}"
    assert (
        client.post("/recommend", {"user": "u1"}, Origin=own, Sec_Fetch_Site="same-origin")[0]
        == 200
    )


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "", "[::1", "10.0.0.1"]
)
def test_a_name_that_points_here_is_refused(client: Client, host: str) -> None:
    status, told = client.get("/health", Host=host)
    assert status == 400
    assert "--allow-host" in told["error"]


def test_two_hosts_and_long_headers_are_refused(client: Client) -> None:
    for more, status in (("Host: evil.example", b"400"), ("X: " + "x" * 70_000, b"431")):
        head = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
            connection.sendall(head.encode())
            assert status in connection.recv(100)


def test_nobody_else_may_read_answers(client: Client) -> None:
    _, headers, _ = client.send("GET", "/health", Origin="http://evil.example")
    assert not [name for name in headers if name.startswith("access-control")]
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_body_that_never_ends_is_cut(client: Client) -> None:
    head = f"POST /recommend HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
    head += "Content-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(20):
            connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        assert b"413" in connection.recv(100)


def test_with_a_key_only_the_page_and_a_bare_health_are_open() -> None:
    key = "correct horse".replace(" ", "-")
    with serving(make_server(FakeRun(), key=key)) as own:
        body = {"user": "u1"}
        status, headers, _ = own.send("POST", "/recommend", b"{}", **JSON)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert own.post("/recommend", body, Authorization="Bearer wrong")[0] == 401
        assert own.post("/recommend", body, X_API_Key="ключ".encode().decode("latin-1"))[0] == 401
        assert own.post("/recommend", body, Authorization=f"bearer {key}")[0] == 200
        assert own.post("/recommend", body, X_API_Key=key)[0] == 200
        assert own.get("/health") == (200, {"status": "ok"})
        assert own.get("/health", X_API_Key=key)[1]["run"] == "fake/one"
        assert own.send("GET", "/")[0] == 200
        assert own.send("GET", "/metrics")[0] == 401
        assert own.get("/users")[0] == 401
        assert own.get("/items?query=oak")[0] == 401
