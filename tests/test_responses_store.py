import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from qwen_mitm.responses_file import ResponsesFile
from qwen_mitm.responses_store import ResponsesStore
from qwen_mitm.stored_response import encoded
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.responses import parse_request
from tests.stored_turns import (
    call_output,
    calls,
    expanded,
    response,
    says,
    thinks,
    turn,
    user,
)

ROOT = Path(__file__).parents[1]
DAY = 24 * 3600


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "responses.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[ResponsesStore]:
    with closing(ResponsesStore(path)) as opened:
        yield opened


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def listed(store: ResponsesStore, response_id: str) -> list[str]:
    """The texts of the input, oldest first."""
    return [json.dumps(item) for item in store.input_items(response_id) or []]


def test_a_response_comes_back_as_it_was(store: ResponsesStore) -> None:
    final = response("resp_1", thinks("hm", "rs_1"), says("hello", "msg_1"), calls("c", "fc_1"))
    store.save(turn(final, user("hi")))
    assert store.get("resp_1") == final


def test_a_response_without_input_or_output_comes_back(store: ResponsesStore) -> None:
    store.save(turn(response("resp_1")))
    assert store.get("resp_1") == response("resp_1")
    assert store.input_items("resp_1") == []
    assert store.context("resp_1") == []


def test_what_was_never_stored_is_not_there(store: ResponsesStore) -> None:
    assert store.get("resp_1") is None
    assert store.context("resp_1") is None
    assert store.input_items("resp_1") is None
    assert store.item("msg_1") is None
    assert not store.delete("resp_1")


def test_nothing_is_kept_of_a_response_that_is_not_to_be_stored(store: ResponsesStore) -> None:
    store.save(turn(response("resp_1", says("hello", "msg_1"), store=False), user("hi")))
    assert store.get("resp_1") is None
    assert store.context("resp_1") is None
    assert store.item("msg_1") is None


def test_responses_are_there_after_a_restart(path: Path) -> None:
    with closing(ResponsesStore(path)) as before:
        before.save(turn(response("resp_1"), user("hi")))
    with closing(ResponsesStore(path)) as after:
        assert after.get("resp_1") == response("resp_1")


def test_a_closed_store_opens_again_when_it_is_used(store: ResponsesStore) -> None:
    store.save(turn(response("resp_1"), user("hi")))
    store.close()
    assert store.get("resp_1") is not None


def test_the_files_are_for_their_owner_alone(store: ResponsesStore, path: Path) -> None:
    store.save(turn(response("resp_1"), user("hi")))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_deleted_response_leaves_nothing_behind(store: ResponsesStore, path: Path) -> None:
    store.save(turn(response("resp_1", says("hello", "msg_1")), user("hi")))
    assert store.delete("resp_1")
    assert store.get("resp_1") is None
    assert store.item("msg_1") is None
    assert not store.delete("resp_1")
    assert rows(path, "node") == 0


def test_what_was_built_on_a_deleted_response_can_still_be_continued(
    store: ResponsesStore,
) -> None:
    store.save(turn(response("resp_1", says("hello", "msg_1")), user("hi")))
    later = expanded(store, "more", previous="resp_1").stored(response("resp_2"))
    store.save(later)
    store.delete("resp_1")
    assert store.context("resp_1") is None
    assert tuple(store.context("resp_2") or ()) == later.input


def test_a_turn_whose_previous_response_is_deleted_meanwhile_is_stored_whole(
    store: ResponsesStore,
) -> None:
    store.save(turn(response("resp_1", says("hello", "msg_1")), user("hi")))
    expansion = expanded(store, "more", previous="resp_1")
    store.delete("resp_1")
    store.save(expansion.stored(response("resp_2")))
    assert tuple(store.context("resp_2") or ()) == expansion.stored(response("resp_2")).input


def test_input_items_are_all_that_the_model_read_and_have_ids(store: ResponsesStore) -> None:
    store.save(turn(response("resp_1", says("hello", "msg_1")), user("hi")))
    store.save(expanded(store, "more", previous="resp_1").stored(response("resp_2")))
    first, second, third = store.input_items("resp_2") or []
    assert second == says("hello", "msg_1")
    assert str(first["id"]).startswith("msg_")
    assert (store.input_items("resp_1") or [])[0]["id"] == first["id"]
    assert third["id"] != first["id"]


def test_input_without_an_id_can_be_referred_to_by_the_one_it_was_given(
    store: ResponsesStore,
) -> None:
    store.save(turn(response("resp_1"), call_output("call_1", "seen")))
    [item] = store.input_items("resp_1") or []
    assert store.item(str(item["id"])) == encoded(call_output("call_1", "seen"))


def test_the_models_own_item_is_preferred_to_what_a_client_made_of_it(
    store: ResponsesStore,
) -> None:
    own = says("hello", "msg_1")
    store.save(turn(response("resp_1", own), user("hi")))
    again: JsonObject = {"id": "msg_1", "role": "assistant", "content": "hello"}
    store.save(turn(response("resp_2"), user("hi"), again, user("more")))
    assert store.item("msg_1") == encoded(own)


def size_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


@pytest.mark.parametrize("by_reference", [True, False], ids=["previous_response_id", "replay"])
def test_a_long_conversation_takes_room_for_its_items_once(path: Path, by_reference: bool) -> None:
    store = ResponsesStore(path)
    history: list[JsonValue] = []
    previous = None
    for number in range(100):
        question, answer = user(f"{number} " + "x" * 2000), says("y" * 2000, f"msg_{number}")
        history.append(question)
        new = [question] if by_reference else history
        expansion = expanded(store, new, previous=previous if by_reference else None)
        previous = f"resp_{number}"
        store.save(expansion.stored(response(previous, answer)))
        history.append(answer)
    store.close()
    assert size_of(path) < 4 * 100 * 4000


def test_responses_older_than_the_limit_are_gone_at_once_and_for_good(path: Path) -> None:
    now = [1_000_000_000.0]
    with closing(ResponsesStore(path, max_age_s=30 * DAY, now=lambda: now[0])) as store:
        store.save(turn(response("resp_old", says("hello", "msg_old")), user("hi")))
        now[0] += 20 * DAY
        store.save(expanded(store, "more", previous="resp_old").stored(response("resp_mid")))
        now[0] += 11 * DAY
        assert store.get("resp_old") is None
        assert store.context("resp_old") is None
        assert store.context("resp_mid") is not None
        store.tidy()
        assert rows(path, "response") == 1
        assert len(listed(store, "resp_mid")) == 3
        now[0] += 30 * DAY
        store.tidy()
        assert rows(path, "response") == rows(path, "node") == 0


def test_the_oldest_responses_make_room_for_new_ones(path: Path) -> None:
    now = [1_000_000_000.0]
    with closing(ResponsesStore(path, max_bytes=2**20, now=lambda: now[0])) as store:
        for number in range(40):
            now[0] += 1
            store.save(turn(response(f"resp_{number}"), user(f"{number} " + "x" * 100_000)))
        store.tidy()
        kept = [number for number in range(40) if store.get(f"resp_{number}")]
        assert 5 <= len(kept) <= 10
        assert kept == list(range(40 - len(kept), 40))


def test_the_file_stops_growing(path: Path) -> None:
    with closing(ResponsesStore(path, max_bytes=2**20)) as store:
        sizes = []
        for number in range(60):
            store.save(turn(response(f"resp_{number}"), user(f"{number} " + "x" * 100_000)))
            if number % 10 == 9:
                store.tidy()
                sizes.append(path.stat().st_size)
    assert sizes[-1] <= 2.5 * 2**20


def test_old_responses_are_removed_without_being_asked(path: Path) -> None:
    now = [1_000_000_000.0]
    store = ResponsesStore(path, max_age_s=DAY, now=lambda: now[0])
    store.save(turn(response("resp_1"), user("hi")))
    now[0] += 2 * DAY
    store.save(turn(response("resp_2"), user("hi")))
    store.close()
    # The last tidying may have been too late; the next process does it with its first save.
    store.save(turn(response("resp_3"), user("hi")))
    store.tidy()
    store.close()
    assert rows(path, "response") == 2


@pytest.mark.parametrize("damage", ["everything", "the header", "the middle"])
def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(
    path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    with closing(ResponsesStore(path)) as store:
        for number in range(50):
            store.save(turn(response(f"resp_{number}"), user(f"{number} " + "x" * 5000)))
    size_of(path)
    content = path.read_bytes()
    half = len(content) // 2
    damaged = {
        "everything": b"no database",
        "the header": b"\0" * 100 + content[100:],
        "the middle": content[:4096] + b"\xaa" * half + content[4096 + half :],
    }[damage]
    path.write_bytes(damaged)
    with closing(ResponsesStore(path)) as store:
        assert store.get("resp_1") is None
        store.save(turn(response("resp_new"), user("hi")))
        assert store.get("resp_new") == response("resp_new")
    [kept] = path.parent.glob(f"{path.name}.damaged-*[0-9]")
    assert kept.read_bytes() == damaged
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "damaged" in caplog.text


def test_others_go_on_with_the_new_file_when_one_replaced_it(path: Path) -> None:
    with closing(ResponsesStore(path)) as one, closing(ResponsesStore(path)) as other:
        one.save(turn(response("resp_1"), user("hi")))
        assert other.get("resp_1") is not None
        one.close()
        ResponsesFile(path).set_aside(path.stat().st_ino)
        one.save(turn(response("resp_2"), user("hi")))
        assert other.get("resp_2") is not None
        other.save(turn(response("resp_3"), user("hi")))
        assert one.get("resp_3") is not None
        assert one.get("resp_2") is not None
    with closing(ResponsesStore(path)) as again:
        assert again.get("resp_2") is not None
        assert again.get("resp_3") is not None
        assert again.get("resp_1") is None


def test_a_file_of_a_later_version_is_moved_aside(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with closing(ResponsesStore(path)) as store:
        store.save(turn(response("resp_1"), user("hi")))
        assert store.get("resp_1") is not None
    assert list(path.parent.glob("*.damaged-*[0-9]"))


def test_content_that_is_no_json_any_more_is_not_found(
    store: ResponsesStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(turn(response("resp_1"), user("hi")))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE node SET item = '{'")
        connection.commit()
    assert store.get("resp_1") is None
    assert store.input_items("resp_1") is None
    assert str(path) in caplog.text


def test_a_place_that_cannot_be_written_is_said_once_and_stores_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    with closing(ResponsesStore(tmp_path / "state" / "responses.sqlite")) as store:
        for number in range(3):
            store.save(turn(response(f"resp_{number}"), user("hi")))
        assert store.get("resp_1") is None
    assert len(caplog.records) == 1


def test_a_file_that_another_program_holds_stores_nothing_and_does_not_fail(
    store: ResponsesStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(turn(response("resp_1"), user("hi")))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.save(turn(response("resp_2"), user("hi")))
        assert store.get("resp_1") is not None
        other.execute("ROLLBACK")
    assert "locked" in caplog.text
    assert store.get("resp_2") is None
    store.save(turn(response("resp_3"), user("hi")))
    assert store.get("resp_3") is not None


def test_many_threads_share_a_store(store: ResponsesStore) -> None:
    def work(name: int) -> None:
        for number in range(20):
            own = f"{name}_{number}"
            store.save(turn(response(own, says("hello", f"msg_{own}")), user(f"q {own}")))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(store.get(f"{name}_{number}") for name in range(4) for number in range(20))


def worker(path: Path, name: str, turns: int, size: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.responses_worker", str(path), name, str(turns), str(size)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "addon")},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_share_the_file(path: Path) -> None:
    workers = [worker(path, name, 60, 2000) for name in ("left", "right")]
    for one in workers:
        assert one.communicate(timeout=60)[0].count("\n") == 60
        assert one.returncode == 0
    with closing(ResponsesStore(path)) as store:
        for name in ("left", "right"):
            texts = listed(store, f"{name}_59")
            assert len(texts) == 119
            assert all(f"{name}_{number // 2}" in text for number, text in enumerate(texts))


@pytest.mark.parametrize("after", [1, 7, 20])
def test_what_was_said_to_be_stored_survives_a_killed_process(path: Path, after: int) -> None:
    with worker(path, "turn", 1000, 200_000) as writing:
        assert writing.stdout is not None
        said = [writing.stdout.readline().strip() for _ in range(after)]
        writing.kill()
        said += [line.strip() for line in writing.stdout if line.endswith("\n")]
    with closing(ResponsesStore(path)) as store:
        assert [own for own in said if store.get(own) is None] == []
        assert len(store.context(said[-1]) or ()) == 2 * len(said)
        store.save(turn(response("resp_1"), user("hi")))
        assert store.get("resp_1") is not None
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not list(path.parent.glob("*.damaged-*"))


# Few texts, so that conversations meet and part.
TURNS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.lists(st.sampled_from("abc"), max_size=3),
        st.lists(st.sampled_from("xy"), max_size=2),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@given(TURNS, st.sets(st.integers(0, 11)))
@settings(max_examples=40, deadline=None)
def test_every_branch_of_a_conversation_expands_to_its_full_replay(
    turns: list[tuple[int, list[str], list[str], bool]], deleted: set[int]
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(ResponsesStore(Path(folder) / "r.sqlite")) as store,
    ):
        whole: list[list[JsonObject]] = []
        for number, (choice, asked, answered, replays) in enumerate(turns):
            parent = choice % (number + 1) - 1
            before = whole[parent] if parent >= 0 else []
            new: list[JsonObject] = [user(text) for text in asked]
            output = [says(text, f"msg_{number}_{i}") for i, text in enumerate(answered)]
            if replays or parent < 0:
                expansion = expanded(store, [*before, *new])
            else:
                expansion = expanded(store, [*new], previous=f"resp_{parent}")
            replay = json.dumps({"input": [*before, *new]}).encode()
            assert expansion.request.input == parse_request(replay).input
            store.save(expansion.stored(response(f"resp_{number}", *output)))
            whole.append([*before, *new, *output])
        for number in deleted & set(range(len(turns))):
            assert store.delete(f"resp_{number}")
        for number, items in enumerate(whole):
            kept = store.context(f"resp_{number}")
            if number in deleted:
                assert kept is None
            else:
                assert kept == [encoded(item) for item in items]
                assert store.delete(f"resp_{number}")
        assert rows(store.path, "node") == 0
