import pytest

from qwen_mitm.observing.page import Asked, respond


def ask(path: str, **fields: object) -> tuple[int, dict[bytes, bytes], bytes]:
    asked = Asked(**{"method": "GET", "host": "qwen.mitm", "is_local": True, **fields}, path=path)  # type: ignore[arg-type]
    answer = respond(asked, lambda: b"{}", lambda: b"qwen_turns_total 1\n")
    return answer.status, dict(answer.fields), answer.body


@pytest.mark.parametrize(
    ("path", "kind", "part"),
    [
        ("/", b"text/html", b"<title>qwen-mitm</title>"),
        ("/?again", b"text/html", b"<title>qwen-mitm</title>"),
        ("/page.css", b"text/css", b"prefers-color-scheme: dark"),
        ("/page.js", b"text/javascript", b"status.json"),
        ("/charts.js", b"text/javascript", b"new Chart("),
        ("/chart.js", b"text/javascript", b"Chart.js v4"),
        ("/icon.svg", b"image/svg+xml", b"<svg"),
        ("/status.json", b"application/json", b"{}"),
        ("/metrics", b"text/plain", b"qwen_turns_total"),
    ],
)
def test_each_part_comes_with_its_type_and_the_policy(path: str, kind: bytes, part: bytes) -> None:
    status, fields, body = ask(path)
    assert status == 200
    assert fields[b"content-type"].startswith(kind)
    assert part in body
    assert b"unsafe" not in fields[b"content-security-policy"]
    assert fields[b"x-content-type-options"] == b"nosniff"


def test_nothing_is_loaded_from_elsewhere() -> None:
    for path in ("/", "/page.css", "/page.js", "/charts.js"):
        assert b"//" not in ask(path)[2].replace(b"// ", b"")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"is_local": False}, 403),
        ({"host": "evil.example"}, 403),
        ({"host": "qwen.mitm.evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:8080"}, 403),
        ({"host": ""}, 403),
        ({"host": "[::1]:9000"}, 200),
        ({"host": "127.0.0.1:9000", "origin": "http://127.0.0.1:9000"}, 200),
        ({"host": "127.0.0.1:9000", "origin": "http://127.0.0.1:3000"}, 403),
        ({"origin": "null"}, 403),
        ({"fetch_site": "same-origin"}, 200),
        ({"fetch_site": "same-site"}, 403),
        ({"method": "POST"}, 405),
        ({"method": "HEAD"}, 200),
    ],
)
def test_only_this_machine_and_the_page_itself_may_read(
    fields: dict[str, object], status: int
) -> None:
    assert ask("/status.json", **fields)[0] == status
