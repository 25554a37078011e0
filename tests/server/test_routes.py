"""What the routes answer, beside what the recommender says itself."""

from __future__ import annotations

import pytest

from tests.server.fake import FakeRun
from tests.server.serving import Client, make_server, serving

RUN = FakeRun()


def test_recommends_to_a_user_what_the_run_does(client: Client) -> None:
    status, answer = client.post("/recommend", {"user": "u3", "k": 4})
    expected = RUN.recommend("u3", k=4)
    assert status == 200
    assert [item["item_id"] for item in answer["items"]] == expected["item_id"].tolist()
    assert [item["score"] for item in answer["items"]] == pytest.approx(expected["score"].tolist())
    assert answer["run"] == "fake/one"


def test_shows_titles_and_short_fields_and_leaves_out_unknown_ones(client: Client) -> None:
    _, answer = client.get("/items?query=i0&limit=1")
    assert answer["items"] == [{"item_id": "i0", "title": "oak oak 0", "labels": ["Tarn"]}]
    _, answer = client.get("/items?query=i1&limit=1")
    assert answer["items"][0]["labels"] == ["Ashby", "price 1.16327"]


def test_recommends_to_a_new_reader_and_may_keep_what_they_had(client: Client) -> None:
    _, without = client.post("/recommend", {"history": ["i4", "i7"], "k": 50})
    _, all_items = client.post(
        "/recommend", {"history": ["i4", "i7"], "k": 50, "exclude_seen": False}
    )
    assert {item["item_id"] for item in all_items["items"]} - {
        item["item_id"] for item in without["items"]
    } == {"i4", "i7"}


def test_similar_items_scores_reasons_and_history(client: Client) -> None:
    _, similar = client.post("/similar", {"item": "i5", "k": 3})
    assert [item["item_id"] for item in similar["items"]] == RUN.similar("i5", 3)[
        "item_id"
    ].tolist()
    _, scores = client.post("/score", {"users": ["u1", "u2"], "items": ["i3", "i1"]})
    expected = RUN.score(["u1", "u2"], ["i3", "i1"]).to_numpy()
    assert scores["scores"] == [pytest.approx(row) for row in expected.tolist()]
    _, told = client.post("/reasons", {"user": "u1", "item": "i3"})
    shares = [reason["share"] for reason in told["reasons"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(map(abs, shares)) == pytest.approx(1)
    _, history = client.get("/history?user=u1")
    assert [item["item_id"] for item in history["items"]] == RUN.had["u1"][::-1]


def test_a_number_is_taken_as_the_id_that_it_spells() -> None:
    run = FakeRun()
    run.users[0], run.had["17"] = "17", run.had["u0"]
    with serving(make_server(run)) as own:
        assert own.post("/recommend", {"user": 17})[0] == 200


def test_a_reader_without_history_is_answered_with_a_notice(client: Client) -> None:
    status, answer = client.post("/recommend", {"history": [], "k": 3})
    assert status == 200
    assert answer["notice"] == "no history"
    assert len(answer["items"]) == 3
    assert client.post("/recommend", {"user": "u3"})[1]["notice"] is None


def test_a_new_item_may_have_the_columns_of_the_users_own_file() -> None:
    with serving(make_server(FakeRun())) as own:
        new = {"sku": 4711, "title": "walnut bench", "Preis": 3.5, "brand": "Tarn"}
        assert own.post("/items", {"items": [new]})[1]["added"] == ["4711"]
        _, found = own.get("/items?query=walnut")
        assert found["items"][0]["labels"] == ["Tarn", "price 3.5"]  # brand is a field, no title
        for item, told in (
            ({"item_id": "a", "sku": "b", "title": "x"}, "items.0.sku: found a second value"),
            ({"title": "x"}, "expected an id (or sku, the column of your file)"),
            ({"sku": "", "title": "x"}, "items.0.sku: found"),
            ({"sku": "c", "Pries": 1}, "expected only item_id (or sku), title, brand, price (or"),
            ({"sku": "4711", "title": "x"}, "expected a new id"),
        ):
            status, answer = own.post("/items", {"items": [item]})
            assert status in (409, 422)
            assert told in answer["error"]


def test_a_new_item_is_recommended_found_and_counted() -> None:
    with serving(make_server(FakeRun())) as own:
        item = {"item_id": "new", "title": "walnut bench", "price": 3.5}
        told = {"added": ["new"], "run": "fake/one", "kept": "until the server ends"}
        assert own.post("/items", {"items": [item]}) == (201, told)
        _, found = own.get("/items?query=WALNUT")
        assert found["items"] == [
            {"item_id": "new", "title": "walnut bench", "labels": ["price 3.5"]}
        ]
        _, listed = own.post("/recommend", {"user": "u1", "k": 60})
        assert "new" in [item["item_id"] for item in listed["items"]]
        _, health = own.get("/health")
        assert (health["items"], health["new_items"]) == (51, 1)
        status, again = own.post("/items", {"items": [item]})
        assert status == 409
        assert again["error"] == 'items.0.item_id: found "new", expected a new id'


def test_no_more_items_are_added_than_allowed() -> None:
    items = [{"item_id": f"n{number}", "title": "x"} for number in range(3)]
    with serving(make_server(FakeRun(), max_new_items=2)) as own:
        status, answer = own.post("/items", {"items": items})
        assert status == 409
        assert "--max-new-items" in answer["error"]
        assert own.post("/items", {"items": items[:2]})[0] == 201


def test_searches_users_and_texts_of_any_language(client: Client) -> None:
    assert client.get("/users?query=1&limit=3")[1]["users"] == ["u1", "u10", "u11"]
    _, found = client.get("/items?query=%E8%8C%B6%E5%A3%B6+OA&limit=50")
    assert found["items"]
    assert all("茶壶" in item["title"] and "oak" in item["title"] for item in found["items"])


def test_metrics_count_requests_by_route_and_status(client: Client) -> None:
    client.post("/similar", {"item": "nobody"})
    status, headers, text = client.send("GET", "/metrics")
    lines = text.decode().splitlines()
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert any('legos_requests_total{route="/similar",status="404"}' in line for line in lines)
    for name in ("legos_request_seconds_bucket", "legos_batch_size_bucket", "legos_items 50.0"):
        assert any(line.startswith(name) for line in lines)


def test_paths_that_nobody_knows_are_one_row_of_metrics(client: Client) -> None:
    for number in range(3):
        assert client.get(f"/none/{number}")[0] == 404
    text = client.send("GET", "/metrics")[2].decode()
    assert 'legos_requests_total{route="other",status="404"}' in text
    assert "/none/" not in text


def test_documentation_needs_nothing_from_elsewhere(client: Client) -> None:
    _, api = client.get("/openapi.json")
    for path in ("/recommend", "/similar", "/items", "/score", "/reasons", "/health", "/metrics"):
        assert path in api["paths"]
    for path in ("/", "/docs", "/page.js", "/docs.js", "/style.css"):
        status, headers, content = client.send("GET", path)
        assert status == 200
        assert b"//" not in content.replace(b"// ", b"").replace(b"http://${", b"")
        assert "default-src 'none'" in headers["content-security-policy"]
