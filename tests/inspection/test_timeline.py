from qwen_mitm.inspection.answer import Event, events
from qwen_mitm.inspection.record import record_of
from qwen_mitm.inspection.timeline import MOST_ROWS, timeline
from tests.inspection.turns import a_whole_turn


def test_events_have_their_times_and_deltas_are_one_row() -> None:
    turn, answer = a_whole_turn()
    rows = timeline(events(answer), record_of(turn).times).splitlines()

    assert rows[0].split() == ["0.420s", "created", "in_progress"]
    (deltas,) = (row for row in rows if "output_text.delta" in row)
    assert deltas.split()[:5] == ["1.420s-", "2.420s", "output_text.delta", "2x", "“The"]
    assert "“The capital is Paris.”" in deltas
    (added,) = (row for row in rows if "output_item.added" in row and "get_weather" in row)
    assert added.startswith("  3.420s")
    assert rows[-1].split() == ["5.420s", "completed", "completed"]


def test_without_times_the_order_is_left() -> None:
    _, answer = a_whole_turn()
    assert timeline(events(answer), []).splitlines()[0].split() == ["created", "in_progress"]


def test_a_long_timeline_says_what_is_left_out() -> None:
    many = [Event("response.output_item.added", b"{}", n) for n in range(2 * MOST_ROWS)]
    rows = timeline(many, []).splitlines()
    assert len(rows) == MOST_ROWS + 1
    assert f"[… {MOST_ROWS} rows left out here …]" in rows
