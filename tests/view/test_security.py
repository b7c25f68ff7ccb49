"""Who may ask the server anything: the guard, as a client that is not a browser sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rrm.view.web.app import create_app
from rrm.view.web.security import LARGEST_BODY, Access, form
from rrm.view.web.serving import ServeError, access_for, is_loopback
from tests.view import synthetic

ORIGIN = "http://127.0.0.1:8000"


async def judge(request: Request) -> PlainTextResponse:
    fields = await form(request)
    return PlainTextResponse(fields.get("what", "") or (await request.body()).decode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make(tmp_path_factory.mktemp("run") / "run", [synthetic.comparison(0)])


@pytest.fixture
def access() -> Access:
    return Access.loopback()


@pytest.fixture
def client(folder: Path, access: Access) -> Iterator[TestClient]:
    app = create_app([folder], access, [Route("/judge", judge, methods=["POST"])])
    with TestClient(app, base_url=ORIGIN, follow_redirects=False) as client:
        yield client


def enter(client: TestClient, access: Access) -> None:
    answer = client.get("/", params={"token": access.token})
    assert answer.status_code == 303


def test_without_the_token_nothing_is_shown(client: TestClient, access: Access) -> None:
    for path in ("/", "/r/run", "/static/style.css", "/nothing", "/r/run/c/1"):
        answer = client.get(path)
        assert answer.status_code == 403 and "comparison" not in answer.text, path
    assert client.get("/", params={"token": "x" * len(access.token)}).status_code == 403
    client.cookies.set("rrm-8000", "0" * 64)
    assert client.get("/").status_code == 403


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(client: TestClient, access: Access) -> None:
    answer = client.get("/r/run?show=tie", params={"token": access.token, "after": "3"})
    assert answer.status_code == 303
    assert access.token not in answer.headers["location"] and answer.headers["location"].startswith("/r/run")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
    assert access.token.lower() not in cookie
    assert client.get("/").status_code == 200


def test_the_token_does_not_lead_elsewhere(client: TestClient, access: Access) -> None:
    answer = client.get(f"{ORIGIN}//evil.example/", params={"token": access.token})
    assert answer.headers["location"].startswith("/evil.example")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::"])
def test_another_name_for_this_machine_is_not_answered(client: TestClient, access: Access, host: str) -> None:
    enter(client, access)
    assert client.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST"])
def test_the_names_of_loopback_are_answered(client: TestClient, access: Access, host: str) -> None:
    assert client.get("/", params={"token": access.token}, headers={"host": host}).status_code == 303


GOOD = {"origin": ORIGIN}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (GOOD, 200),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, 200),  # a form of a page that sends no referrer
        ({"sec-fetch-site": "same-origin"}, 200),
        ({}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "null", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9000"}, 403),  # another server on this machine
        ({"origin": "https://127.0.0.1:8000"}, 403),
        ({"origin": "http://localhost:8000"}, 403),
        ({"origin": ORIGIN, "x-csrf-token": "0" * 64}, 403),
        ({"origin": ORIGIN, "x-csrf-token": ""}, 403),
    ],
)
def test_only_this_servers_own_pages_may_change_something(
    client: TestClient, access: Access, headers: dict[str, str], status: int
) -> None:
    enter(client, access)
    headers = {"x-csrf-token": access.csrf, **headers}
    assert client.post("/judge", content=b"{}", headers=headers).status_code == status


def test_a_form_carries_its_token_in_a_field(client: TestClient, access: Access) -> None:
    enter(client, access)
    answer = client.post("/judge", data={"csrf": access.csrf, "what": "A & ü"}, headers=GOOD)
    assert (answer.status_code, answer.text) == (200, "A & ü")
    assert client.post("/judge", data={"csrf": "no", "what": "A"}, headers=GOOD).status_code == 403
    assert client.post("/judge", data={"what": "A"}, headers=GOOD).status_code == 403


def test_a_change_needs_the_cookie_whatever_else_it_has(client: TestClient, access: Access) -> None:
    headers = {**GOOD, "x-csrf-token": access.csrf}
    assert client.post("/judge", headers=headers).status_code == 403
    assert client.post("/judge", params={"token": access.token}, headers=headers).status_code == 403


def test_a_body_has_an_end(client: TestClient, access: Access) -> None:
    enter(client, access)
    headers = {**GOOD, "x-csrf-token": access.csrf}
    assert client.post("/judge", content=b"x" * (LARGEST_BODY + 1), headers=headers).status_code == 413


def test_every_answer_says_what_a_page_may_do(client: TestClient, access: Access) -> None:
    paths = ["/", "/r/run", "/r/run/c/1", "/nothing", "/static/app.js"]
    answers = [client.get("/")]
    enter(client, access)
    answers += [client.get(path) for path in paths]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cache-control"]


def test_secrets_are_new_at_every_launch_and_not_printed() -> None:
    one, other = Access(), Access()
    assert len({one.token, one.cookie, one.csrf, other.token, other.cookie, other.csrf}) == 6
    assert one.token not in repr(one)


def test_beyond_loopback_only_with_a_token_of_ones_own() -> None:
    assert access_for("127.0.0.1", None).hosts and is_loopback("::1") and not is_loopback("0.0.0.0")
    with pytest.raises(ServeError, match="set --token"):
        access_for("0.0.0.0", None)
    with pytest.raises(ServeError, match="16 characters"):
        access_for("0.0.0.0", "short")
    assert access_for("0.0.0.0", "x" * 16).hosts is None


@pytest.mark.parametrize(
    "path",
    ["/r/run/text/../../../../etc/passwd", "/static/../pages.py", "/static/%2e%2e/pages.py", "/r/..%2f..",
     "/r/run/c/-1", "/r/run/c/99999999999999999999", "/r/run/c/1/z/0.0", "/r/run/c/1/a/0.0.0.0.0.0",
     "/r/run/node/paper'--", "/two/run/none", "/r/run/list/paper?after=x&show=y&round=z", "/r/run/text/%00"],
)  # fmt: skip
def test_odd_addresses_get_a_plain_answer(client: TestClient, access: Access, path: str) -> None:
    enter(client, access)
    assert client.get(path).status_code in (200, 404)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "0.0.0.0"])
@pytest.mark.parametrize("token", ["", "  "])
def test_an_empty_token_is_refused(host: str, token: str) -> None:
    with pytest.raises(ServeError, match="--token is empty"):
        access_for(host, token)


def test_the_whole_of_loopback_is_answered(folder: Path) -> None:
    access = access_for("127.0.0.2", None)
    app = create_app([folder], access)
    with TestClient(app, base_url="http://127.0.0.2:8431", follow_redirects=False) as client:
        enter(client, access)
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"host": "127.0.0.3:8431"}).status_code == 403
    assert access_for("0:0:0:0:0:0:0:1", "t").hosts == access_for("localhost", None).hosts | {"0:0:0:0:0:0:0:1"}
