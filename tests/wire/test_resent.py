import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.wire.resent import Reading, read
from qwen_mitm.wire.responses import ResponsesRequest, parse_request
from tests.cases import cases
from tests.translate.sending import call, output, user

A: Final = '{"role":"user","content":"a"}'
B: Final = '{"role":"user","content":[{"type":"input_text","text":"]}],\\"input\\":["}]}'
C: Final = '{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}'
TOOL: Final = '{"type":"function","name":"f","parameters":{"input":[1],"required":["input"]}}'


def filled(form: str, *items: str) -> str:
    return form.replace("ITEMS", ",".join(items)).replace("TOOL", TOOL)


def reading_of(body: str, *earlier: Reading) -> Reading:
    found = read(body.encode(), earlier)
    assert found is not None
    return found[0]


def base_of(body: str, *earlier: Reading) -> Reading | None:
    found = read(body.encode(), earlier)
    assert found is not None
    return found[1]


def all_of(request: ResponsesRequest) -> tuple[object, ...]:
    return request, request.model_fields_set, request.model_extra, repr(request)


def assert_exact(body: str, *earlier: Reading) -> bool:
    """False: it was left to the parser of whole requests."""
    found = read(body.encode(), earlier)
    if found is None:
        return False
    assert all_of(found[0].request) == all_of(parse_request(body.encode()))
    return True


@pytest.mark.parametrize(
    "form",
    [
        '{"model":"m","input":[ITEMS],"tools":[TOOL],"stream":true}',
        '{"model":"m","tools":[TOOL],"input":[ITEMS]}',
        '{"input":[ITEMS],"model":"m","store":false}',
        '{ "model" : "m",\n "input" : [\nITEMS\n],\n "tools" : [\n TOOL ]\n}\n',
        '{"instructions":"say \\"input\\": [ twice","input":[ITEMS],"include":[],"tools":[TOOL]}',
        '{"model":"m","input":[ITEMS],"stream":true,"unknown":[1]}',
    ],
)
def test_a_request_that_grows_is_read_from_where_the_last_one_ended(form: str) -> None:
    bodies = [filled(form, *items) for items in ([A], [A, B], [A, f"{B} \n", f" {C}", A])]
    first = reading_of(bodies[0])
    second = reading_of(bodies[1], first)
    third = reading_of(bodies[2], second)

    for body, reading in zip(bodies, (first, second, third), strict=True):
        assert reading.size == len(b"".join((reading.head, *reading.texts, reading.tail)))
        assert all_of(reading.request) == all_of(parse_request(body.encode()))
    assert third.items[:2] == second.items
    assert third.items[0] is first.items[0]
    assert third.items[1] is second.items[1]
    assert third.around is first.around


def test_the_one_that_knows_most_is_continued() -> None:
    form = '{"model":"m","input":[ITEMS],"stream":true}'
    short, long, other = (reading_of(filled(form, *items)) for items in ([A], [A, B], [A, C]))

    assert base_of(filled(form, A, B, A), short, long, other) is long
    assert base_of(filled(form, A, A), short, long, other) is short
    assert base_of(filled(form, A, C), short, long, other) is other
    assert base_of(filled(form, B), short, long, other) is None


def test_other_fields_may_change_from_turn_to_turn() -> None:
    first = reading_of(filled('{"model":"m","input":[ITEMS],"stream":true}', A))
    body = filled('{"tools":[TOOL],"model":"n","input":[ITEMS],"store":false}', A, B)
    second = reading_of(body, first)

    assert second.items[0] is first.items[0]
    assert all_of(second.request) == all_of(parse_request(body.encode()))


@pytest.mark.parametrize(
    "body",
    [
        # Names and ends that are others than they seem to be.
        '{"metadata":{"input":[A]},"input":[B],"stream":true}',
        '{"unknown":{"input":[A],"stream":true},"input":"x"}',
        '{"unknown":{"input":[A],"stream":true}}',
        '{"input":[A],"input":[B],"stream":true}',
        '{"input":[A],"stream":true,"input":[B]}',
        '{"input":[A],"stream":true,"input":"x"}',
        '{"input":[B],"input":0}',
        '{"input":[A],"tools":[],"tools":[TOOL],"stream":true}',
        '{"input":[A],"stream":true,"unknown":[{"stream":[B],"stream":1}]}',
        '{"input":[A,{"role":"user","content":[],"stream":true}],"stream":true}',
        '{"inp\\u0075t":[A],"unknown":["input" ,[B]],"stream":true}',
        '{"input":[A],"inp\\u0075t":[B],"stream":true}',
        '{"x\\"input":[A],"stream":true}',
        # Wrong JSON.
        '{"input":[A,],"stream":true}',
        '{"input":[A,,B],"stream":true}',
        '{"input":[,A],"stream":true}',
        '{"input":[A B],"stream":true}',
        '{"input":[A]],"stream":true}',
        '{"input":[[A],"stream":true}',
        '{"input":[A}],"stream":true}',
        '{"input":[A],"stream":true',
        '{"input":[A],"stream":true}}',
        '{"input":[A],"stream":true} x',
        '{"input":[A],,"stream":true}',
        '{"input":[A]"stream":true}',
        '{"input":-[A],"stream":true}',
        '[{"input":[A],"stream":true}]',
        '{"input":[A',
        '"input":[A],"stream":true',
        # Wrong requests.
        '{"input":[A],"stream":"yes"}',
        '{"input":[A,7],"stream":true}',
        '{"input":[A,[B]],"stream":true}',
        '{"input":[A,{"role":"nobody","content":"x"}],"stream":true}',
        '{"input":[],"stream":true}',
        '{"input":[ ],"stream":true}',
    ],
)
def test_what_is_not_as_it_seems_is_parsed_as_a_whole_or_alike(body: str) -> None:
    body = filled(body).replace("A", A).replace("B", B)
    earlier = [
        reading_of(filled(form, *items))
        for form, items in (
            ('{"input":[ITEMS],"stream":true}', [A]),
            ('{"metadata":{"input":"x"},"input":[ITEMS],"stream":true}', [A]),
            ('{"input":[ITEMS],"tools":[TOOL],"stream":true}', [A, B]),
            ('{"input":[ITEMS],"tools":[TOOL]}', [A]),
        )
    ]
    assert_exact(body)
    assert_exact(body, *earlier)
    for one in earlier:
        assert_exact(body, one)


def test_an_input_is_as_deep_as_in_a_whole_request() -> None:
    def nested(depth: int) -> str:
        operation = {"x": "DEEP"}
        item = {"type": "apply_patch_call", "call_id": "c", "operation": operation}
        deep = json.dumps(item).replace('"DEEP"', "[" * depth + "]" * depth)
        return filled('{"input":[ITEMS],"stream":true}', deep)

    def is_valid(body: str) -> bool:
        try:
            parse_request(body.encode())
        except InvalidRequest:
            return False
        return True

    known = [is_valid(nested(depth)) for depth in range(150, 250)]

    assert known == [read(nested(depth).encode()) is not None for depth in range(150, 250)]
    assert True in known
    assert False in known


def test_a_lone_surrogate_is_left_to_the_parser_that_mends_it() -> None:
    body = '{"input":[{"role":"user","content":"\\ud83d"}],"stream":true}'

    assert read(body.encode()) is None
    assert parse_request(body.encode()).input is not None


items = st.sampled_from([A, B, C, *(json.dumps(it) for it in (user(""), call("d"), output("d")))])
rests = st.sampled_from(
    [
        ',"stream":true}',
        filled(',"tools":[TOOL],"stream":true}'),
        filled(',"tools":[TOOL],"include":["x"]}'),
        ',"metadata":{"input":"[]"},"stream":true}',
        "}",
        ' , "input":[] }',
    ]
)
heads = st.sampled_from(
    ['{"input":', '{"model":"m","input" : ', '{"unknown":{"input":[1],"stream":2},"input":']
)
bodies = st.builds(
    lambda head, found, between, rest: f"{head}[{between.join(found)}]{rest}",
    heads,
    st.lists(items, min_size=1, max_size=5),
    st.sampled_from([",", ", ", " ,\n"]),
    rests,
)
bits = st.sampled_from(
    [*'[]{},:"\\ 0', '"input":[', '],"stream":', "],", '"', A, f",{A}", "],[", "]],[[", "\\u005b"]
)


@cases(500)
@given(known=st.lists(bodies, max_size=3), body=bodies, data=st.data())
def test_bytes_that_are_changed_anywhere_give_what_a_whole_parse_gives(
    known: list[str], body: str, data: Any
) -> None:
    earlier = [found[0] for it in known if (found := read(it.encode()))]
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(body)))
        until = place + data.draw(st.integers(0, 3))
        body = body[:place] + data.draw(bits) + body[until:]
    assert_exact(body, *earlier)


@cases(300)
@given(st.lists(items, min_size=1, max_size=6), heads, rests, st.integers(0, 6))
def test_a_history_that_is_continued_or_cut_gives_what_a_whole_parse_gives(
    found: list[str], head: str, rest: str, kept: int
) -> None:
    known = read(f"{head}[{','.join(found[:kept])}]{rest}".encode())
    assert_exact(f"{head}[{','.join(found)}]{rest}", *(known or ())[:1])
