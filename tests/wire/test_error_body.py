import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from qwen_mitm.wire.error_body import Failure, failure_in, read_json, readable, type_for

json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "detail", "code", "metadata", "raw", "msg", "loc"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_document_is_read_and_what_is_found_has_a_message(document: JsonValue) -> None:
    failure = failure_in(document)
    assert failure is None or failure.message


@pytest.mark.parametrize(
    ("document", "failure"),
    [
        (
            {"error": {"message": "no", "type": "t", "param": "p", "code": "c"}, "id": "x"},
            Failure("no", "t", "c", "p", 400),
        ),
        ({"error": {"message": "no"}}, Failure("no", "invalid_request_error", status=400)),
        (
            {"object": "error", "message": "no", "type": "BadRequestError", "code": 404},
            Failure("no", "BadRequestError", status=404),
        ),
        (
            {"error": {"message": "no", "code": "503", "type": ""}},
            Failure("no", "server_error", status=503),
        ),
        (
            {"code": "InvalidApiKey", "message": "no", "request_id": ""},
            Failure("no", "invalid_request_error", "InvalidApiKey", status=400),
        ),
        ({"code": 50000, "msg": "no"}, Failure("no", "invalid_request_error", status=400)),
        ({"detail": "no"}, Failure("no", "invalid_request_error", status=400)),
        (
            {"detail": {"error": {"message": "no", "code": "c"}}},
            Failure("no", "invalid_request_error", "c", status=400),
        ),
        (
            {
                "detail": [
                    {"loc": ["body", "messages", 0, "role"], "msg": "Field required"},
                    {"loc": ["query"], "msg": "Unknown"},
                ]
            },
            Failure(
                "messages.0.role: Field required; query: Unknown",
                "invalid_request_error",
                param="messages.0.role",
                status=400,
            ),
        ),
        ({"detail": [{"msg": "no"}]}, Failure("no", "invalid_request_error", status=400)),
        ({"error": "no"}, Failure("no", "invalid_request_error", status=400)),
        (
            {"error": "invalid_grant", "error_description": "no"},
            Failure("no", "invalid_request_error", "invalid_grant", status=400),
        ),
        ("no", Failure("no", "invalid_request_error", status=400)),
        ([{"error": {"message": "no"}}], Failure("no", "invalid_request_error", status=400)),
        (
            {"error": {"message": {"reason": "no"}}},
            Failure('{"reason": "no"}', "invalid_request_error", status=400),
        ),
        (
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 429,
                    "metadata": {"raw": '{"error": {"message": "slow", "code": "limit"}}'},
                }
            },
            Failure("slow", "rate_limit_error", "limit", status=429),
        ),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": "qwen is busy"}}},
            Failure("qwen is busy", "invalid_request_error", status=400),
        ),
        (
            {"error": {"message": "no", "metadata": {"raw": ""}}},
            Failure("no", "invalid_request_error", status=400),
        ),
    ],
)
def test_every_shape_of_an_error_body_is_read(document: JsonValue, failure: Failure) -> None:
    assert failure_in(document, 400) == failure


@pytest.mark.parametrize("document", [None, True, 5, "", " ", [], {}, {"error": {}}, {"a": 1}])
def test_document_without_an_error_has_no_failure(document: JsonValue) -> None:
    assert failure_in(document, 400) is None


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        (None, "server_error"),
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (529, "server_error"),
    ],
)
def test_type_follows_the_status_where_there_is_none(status: int | None, type_: str) -> None:
    assert type_for(status) == type_


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"  two\n\twords ", "two words"),
        (b"", ""),
        (b"a\xffb", "a\ufffdb"),
        (
            b"<html><head><title>502</title><style>p{}</style></head>"
            b"<body><h1>Bad&nbsp;gateway</h1><!-- x --><script>1<2</script><hr>nginx</body></html>",
            "Bad gateway nginx",
        ),
        (b"<html><head><title>504 Time-out</title></head></html>", "504 Time-out"),
        (b"<p>a &lt; b</p>", "a < b"),
        (b"<script>never closed", ""),
        (b"x" * 1000, "x" * 299 + "…"),
    ],
)
def test_page_is_reduced_to_its_words(data: bytes, words: str) -> None:
    assert readable(data) == words


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'"a\xff"', "a\ufffd"),
        (b'"\\ud83d"', "\ufffd"),
        (b'"\\ud83d\\ude00"', "😀"),
    ],
)
def test_json_is_read_with_broken_characters_replaced(data: bytes, value: JsonValue) -> None:
    assert read_json(data) == value


@pytest.mark.parametrize("data", [b"", b"{", b"no", b"[" * 100_000, b"9" * 5000 + b"x"])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(data)
