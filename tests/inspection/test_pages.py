import json
import time

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.inspection.pages import answer_page, request_page
from qwen_mitm.inspection.record import Link, record_of, refused
from tests.inspection.turns import KEY, Clock, a_turn, a_whole_turn, body, page_of, send


def test_the_page_of_a_request_has_both_forms_and_what_became_of_it() -> None:
    turn, _ = a_whole_turn()
    sent = send(turn, "home").body
    page = request_page(page_of(turn, body()), sent)

    headings = [line.split("━")[2].strip() for line in page.splitlines() if line.startswith("━━")]
    assert headings[0].startswith("What became of the request")
    assert headings[1] == "3 attempts"
    assert headings[2].startswith("Conversation")
    assert headings[3].startswith("Responses request, from the client")
    assert headings[4].startswith("Chat request, to the upstream")
    assert "1. account work · coding-plan · 429\n" in page
    assert "sent at 0.000 s · head at 0.000 s · given up at 0.250 s" in page
    assert "slow down, (the account's key)" in page
    assert "mcp.read.file" in page
    assert "web_search" in page
    assert "Where is it?" in page
    assert KEY not in page


def test_the_page_of_an_answer_has_the_answer_its_events_and_both_streams() -> None:
    turn, answer = a_whole_turn()
    record = record_of(turn).model_copy(update={"cost": "0.0113 USD", "priced": "2026-11-01"})
    page = answer_page(page_of(turn, body(), record), answer)

    assert "The capital is Paris." in page
    assert "→ calls get_weather (c9)\n  city: Paris" in page
    assert "I look it up." in page
    assert "41,234 input, 0 of them cached" in page
    assert "0.0113 USD (prices of 2026-11-01)" in page
    assert '"finish_reason": "tool_calls"' in page
    assert "event: response.completed" in page
    assert "output_text.delta" in page


def test_a_refused_request_says_why_and_that_nothing_went_upstream() -> None:
    record = refused(InvalidRequest("Send text.", param="input[0]"))
    page = request_page(page_of(a_turn(Clock()), b"", record), body())
    assert "Refused with 400 invalid_request_error; nothing went upstream" in page
    assert "Send text. (at input[0])" in page
    assert "Where is it?" in page
    assert "to the upstream ·" not in page


def test_an_error_is_shown_once_and_whole() -> None:
    turn, _ = a_whole_turn()
    record = record_of(turn, "refused with 429").model_copy(
        update={"error": {"message": "all are limited"}}
    )
    page = answer_page(page_of(turn, b"", record), b'{"error":{"message":"all are limited"}}')
    assert page.index("━━ Error") < page.index("all are limited")


def test_the_connection_of_an_attempt_is_shown() -> None:
    turn, _ = a_whole_turn()
    record = record_of(turn)
    record.attempts[0].link = Link(
        peer="192.0.2.1:443", tcp_s=0.02, tls_s=0.031, tls="TLSv1.3", alpn="h2"
    )
    record.attempts[1].link = Link(peer="192.0.2.1:443", reused=True, tcp_s=0.02, tls="TLSv1.3")
    page = request_page(page_of(turn, body(), record), b"{}")
    assert "connection to 192.0.2.1:443 · new · TCP 20 ms · TLS 31 ms · TLSv1.3 · h2" in page
    assert "connection to 192.0.2.1:443 · reused · TLSv1.3" in page


def test_bodies_that_are_no_json_are_shown_as_they_are() -> None:
    turn, _ = a_whole_turn()
    page = request_page(page_of(turn, b'{"cut off'), b"not JSON")
    assert '{"cut off' in page
    assert "not JSON" in page


def test_a_history_of_a_megabyte_is_shown_in_a_fraction_of_a_second() -> None:
    items = [{"role": "user", "content": f"{n} " + "word " * 400} for n in range(520)]
    content = body(input=items)
    assert len(content) > 2**20
    turn, answer = a_whole_turn(content)
    sent = send(turn, "home").body
    began = time.process_time()
    page = request_page(page_of(turn, content), sent)
    answer_page(page_of(turn, content), answer)
    assert time.process_time() - began < 1.0
    assert len(page) < 500_000
    assert "messages left out here; the raw request has them" in page
    assert "characters left out here" in page
    assert json.dumps("519 word")[1:-1] in page
