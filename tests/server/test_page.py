"""The page in headless Chromium: a user, somebody new, why an item, and a new one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.browser import browser
from tests.server.fake import FakeRun
from tests.server.serving import make_server, serving

pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]


def texts(page: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)"
    found: list[str] = page.execute_script(script, selector)
    return found


def wait(page: Any, done: Callable[[], Any]) -> Any:
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(page, 20, 0.02).until(lambda _: done())


def test_four_uses(tmp_path: Path) -> None:
    run, expected = FakeRun(), FakeRun()
    with serving(make_server(run)) as client, browser(tmp_path) as page:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        def type_into(name: str, text: str) -> None:
            page.find_element(By.ID, name).send_keys(text)

        def replace(name: str, text: str) -> None:
            type_into(name, Keys.CONTROL + "a" + Keys.NULL + text)

        page.get(f"http://127.0.0.1:{client.port}/")
        wait(page, lambda: len(texts(page, "#items li")) == 10)
        assert texts(page, "#list-title") == ["Recommended to u0"]

        # a user, by typing and the keyboard alone
        replace("user", "u1")
        wait(page, lambda: texts(page, "#user-options li")[:2] == ["u1", "u10"])
        type_into("user", Keys.ARROW_DOWN + Keys.ENTER)
        wait(page, lambda: texts(page, "#list-title") == ["Recommended to u10"])
        wanted = expected.recommend("u10", k=10)["title"].tolist()
        wait(page, lambda: texts(page, "#items .title") == wanted)
        assert (
            texts(page, "#history li span")[0]
            == expected.items["title"][int(expected.had["u10"][-1][1:])]
        )

        # why, and what is like it
        page.find_element(By.CSS_SELECTOR, "#items button").click()
        first = expected.recommend("u10", k=1)["item_id"][0]
        reasons = expected.reasons(first, "u10")["title"].tolist()
        wait(page, lambda: texts(page, "#reasons .row span:first-child") == reasons)
        assert texts(page, "#similar .title") == expected.similar(first, 8)["title"].tolist()

        # somebody new
        page.find_element(By.CSS_SELECTOR, "[value=new] + span").click()
        for words in ("oak 0", "steel oak 1"):
            type_into("pick", words)
            wait(page, lambda: texts(page, "#pick-options [aria-selected=true]"))
            type_into("pick", Keys.ENTER)
        wait(page, lambda: texts(page, "#list-title") == ["Recommended to a new user"])
        wanted = expected.recommend_many([["i0", "i1"]])[0]["title"].tolist()
        wait(page, lambda: texts(page, "#items .title") == wanted)

        # a new item, with a title that would be markup
        title = "<img src=x onerror=alert(1)> stool"
        type_into("field-title", title)
        page.find_element(By.CSS_SELECTOR, "#add-form button").click()
        wait(page, lambda: texts(page, "#landed-rank")[0].startswith("Rank "))
        assert len(texts(page, "#landed-near li")) == 5
        assert not page.find_elements(By.TAG_NAME, "img")
        wait(page, lambda: "51 items" in texts(page, "#run")[0])

        # an unknown user is told with the nearest ids
        page.find_element(By.CSS_SELECTOR, "[value=user] + span").click()
        replace("user", "u777")
        type_into("user", Keys.ENTER)
        wait(page, lambda: "nearest: u7" in texts(page, "#problem")[0])
        refused = [line for line in page.get_log("browser") if "404" not in line["message"]]
        assert refused == []  # no script error, nothing that the policy had to stop


def test_the_page_asks_for_the_key(tmp_path: Path) -> None:
    with (
        serving(make_server(FakeRun(), key="open-sesame")) as client,
        browser(tmp_path, width=400, height=800) as page,
    ):
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        page.get(f"http://127.0.0.1:{client.port}/#user=u4")
        field = page.find_element(By.ID, "key-text")
        wait(page, field.is_displayed)
        field.send_keys("open-sesame", Keys.ENTER)
        wait(page, lambda: texts(page, "#list-title") == ["Recommended to u4"])
        wide = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not page.execute_script(wide)  # nothing is wider than a phone
        page.get(f"http://127.0.0.1:{client.port}/docs")
        wait(page, lambda: "POST /recommend" in texts(page, "h2"))
        assert page.get_log("browser")[1:] == []
