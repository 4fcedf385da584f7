import json
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.translate.xml_calls import Call, Text, XmlCalls
from qwen_mitm.wire.response_object import JsonObject

OFFERED: dict[str, JsonObject] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "options": {"type": "object"},
        },
    },
    "now": {"type": "object", "properties": {}},
    "mcp__files__write": {"type": "object", "properties": {"content": {"type": "string"}}},
}
NOW = Call("now", "{}")
ROME = Call("get_weather", '{"city":"Rome"}')

HERMES = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
CODER = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n"
    "</function>\n</tool_call>"
)
BARE = "<function=get_weather><parameter=city>Rome</parameter></function>"

# fmt: off
FRAGMENTS = st.sampled_from([
    HERMES, CODER, BARE, "<tool_call>", "</tool_call>", "<function=now>", "</function>",
    "<function=", "<parameter=city>", "</parameter>", "<parameter=", ">", "<", "now", "\n", " ",
    " " * 30, "hm", "{", "}", '{"name": "now"}', '{"name": "now", "arguments": {"a": "', '"}}', '"',
    "\\", "\\u00", "é", "1<2", "<function=other>", "<tool_call>{", "<tool_call>\n",
    "</function>\n</tool_call>",
])
# fmt: on
LEAKS = st.lists(FRAGMENTS, max_size=12).map("".join)
CUTS = st.lists(st.integers(0, 2000), max_size=12)


def split(*deltas: str) -> list[Text | Call]:
    calls = XmlCalls(OFFERED)
    pieces = [piece for delta in deltas for piece in calls.feed(delta)]
    return joined(pieces + calls.rest())


def joined(pieces: list[Text | Call]) -> list[Text | Call]:
    result: list[Text | Call] = []
    for is_text, group in groupby(pieces, key=lambda piece: isinstance(piece, Text)):
        if is_text:
            result.append(Text("".join(p.text for p in group if isinstance(p, Text))))
        else:
            result.extend(group)
    return result


def chunks(text: str, cuts: list[int]) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    ends = [*places, len(text)]
    return [text[start:end] for start, end in zip([0, *places], ends, strict=True)]


def call(name: str, /, **arguments: object) -> Call:
    return Call(name, json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))


@pytest.mark.parametrize("leak", [HERMES, CODER, BARE])
@pytest.mark.parametrize("before", ["", "\n\n", "I look.\n\n"])
@pytest.mark.parametrize("after", ["", "\n", "\nDone."])
def test_a_leaked_call_becomes_a_call(leak: str, before: str, after: str) -> None:
    pieces: list[Text | Call] = [Text(before)] if before.strip() else []
    pieces.append(ROME)
    if after.strip():
        pieces.append(Text(after))

    assert split(before + leak + after) == pieces
    assert split(*(before + leak + after)) == pieces


def test_several_calls_of_all_forms_are_found_in_order() -> None:
    now = '<tool_call>{"name":"now"}</tool_call>'

    assert split(f"{HERMES}\n{now}\n{CODER}\n{BARE}{BARE}ok{now}") == [
        ROME,
        NOW,
        ROME,
        ROME,
        ROME,
        Text("ok"),
        NOW,
    ]


@pytest.mark.parametrize(
    ("leak", "made"),
    [
        ('<tool_call>{"name":"now","arguments":null}</tool_call>', NOW),
        ('<tool_call>{"name":"now","arguments":""}</tool_call>', NOW),
        ('<tool_call>{"name":"now","parameters":{"a":1}}</tool_call>', call("now", a=1)),
        ('<tool_call>{"arguments":{"a":1},"name":"now"}</tool_call>', call("now", a=1)),
        ('<tool_call>{"name":"now","arguments":"{\\"a\\":1}"}</tool_call>', call("now", a=1)),
        ('<tool_call>{"name":"now","arguments":{"a":"x\ny"}}</tool_call>', call("now", a="x\ny")),
        (
            '<tool_call>{"name":"now","arguments":{"a":"</tool_call> \\u00e9"}}</tool_call>',
            call("now", a="</tool_call> é"),
        ),
        ('<tool_call>{"name":"now"}', NOW),
        ('<tool_call>\n{"name":"now"}\n', NOW),
        ("<function=now></function>", NOW),
        ("<function=now>\n</function>\n</tool_call>\n", NOW),
        ("<tool_call>\n<function=now>\n</function>", NOW),
    ],
)
def test_what_models_leave_out_or_add_is_forgiven(leak: str, made: Call) -> None:
    assert split(leak) == [made]
    assert split(*leak) == [made]


@pytest.mark.parametrize(
    ("inner", "arguments"),
    [
        ("<parameter=days>3</parameter>", {"days": 3}),
        ("<parameter=days>soon</parameter>", {"days": "soon"}),
        ("<parameter=city>3</parameter>", {"city": "3"}),
        ("<parameter=city>\n\n</parameter>", {"city": ""}),
        ("<parameter=city>\n  a\n\nb\n\n</parameter>", {"city": "  a\n\nb\n"}),
        ("<parameter=city> a & &lt;b&gt; </parameter>", {"city": " a & &lt;b&gt; "}),
        ('<parameter=options>{"unit": "C"}</parameter>', {"options": {"unit": "C"}}),
        ("<parameter=unknown>5</parameter>", {"unknown": "5"}),
        (
            "<parameter=days>\n3\n</parameter>\n<parameter=city>\nRome\n</parameter>\n",
            {"days": 3, "city": "Rome"},
        ),
        ("<parameter=city>a</parameter>b</function>c</parameter>", None),
        ("<parameter=city>x</parameter> y</parameter>", {"city": "x</parameter> y"}),
    ],
)
def test_parameters_get_the_types_of_the_schema(
    inner: str, arguments: dict[str, object] | None
) -> None:
    if arguments is None:
        arguments = {"city": "a</parameter>b</function>c"}
    leak = f"<tool_call>\n<function=get_weather>\n{inner}</function>\n</tool_call>"

    assert split(leak) == [call("get_weather", **arguments)]
    assert split(*leak) == [call("get_weather", **arguments)]


@pytest.mark.parametrize(
    "leak",
    [
        "<tool_call><function=now></function></tool_call>",
        "<tool_call><function=get_weather><parameter=city>Rome</function></tool_call>",
        "<tool_call><function=get_weather><parameter=city>Rome</parameter></tool_call>",
    ],
)
def test_a_missing_inner_end_is_forgiven(leak: str) -> None:
    assert split(leak) in ([NOW], [ROME])
    assert split(*leak) == split(leak)


@pytest.mark.parametrize(
    "text",
    [
        "1 < 2",
        "<tool_call>",
        "</tool_call>",
        "a </tool_call> b",
        "<tool_calls>",
        "<tool_call>none</tool_call>",
        "Qwen writes `<tool_call>` and `<function=now>` around it.",
        '<tool_call>{"name":"other","arguments":{}}</tool_call>',
        '<tool_call>{"name":"now","arguments":[1]}</tool_call>',
        '<tool_call>{"name":"now","arguments":"[1]"}</tool_call>',
        '<tool_call>{"name":"now","arguments":"{\\"a"}</tool_call> and more',
        '<tool_call>{"name":"now","arguments":{"a":1e999}}</tool_call>',
        '<tool_call>{"name":"now","arguments":{"a":NaN}}</tool_call>',
        '<tool_call>{"name":"now","arguments":{"a":nul}}</tool_call>',
        '<tool_call>{"name":"now"} and</tool_call>',
        '<tool_call>{"name":"now","arguments":{"a":"cut',
        '<tool_call>{"arguments":{}}</tool_call>',
        '<tool_call>{"name":' + "[" * 50_000 + "</tool_call>",
        "<function=other><parameter=a>1</parameter></function>",
        "<function=now>text</function>",
        "<function=now",
        "<function=get_weather><parameter=city>cut",
        "<function=get_weather><parameter=city>cut</parameter>",
        "<function=get_weather><parameter=city\n>x</parameter></function>",
        "<tool_call>" + " " * 100 + '{"name":"now"}</tool_call>',
        " \n",
        " " * 100,
        "",
    ],
)
def test_what_is_no_call_of_an_offered_tool_passes_unchanged(text: str) -> None:
    assert split(text) == ([Text(text)] if text else [])
    assert split(*text) == ([Text(text)] if text else [])


def test_a_call_after_a_broken_one_is_found() -> None:
    broken = '<tool_call>{"name":"now","arguments":{"a":"oops}</tool_call>\n'

    assert split(broken + HERMES) == [Text(broken), ROME]
    assert split(*(broken + HERMES)) == [Text(broken), ROME]


def test_a_name_that_is_not_offered_is_not_waited_for() -> None:
    calls = XmlCalls(OFFERED)

    assert calls.feed("see <function=no") == [Text("see ")]
    assert joined(calls.feed("th")) == [Text("<function=noth")]


def test_without_tools_everything_is_text_at_once() -> None:
    calls = XmlCalls({})

    assert calls.feed("<tool_call>{") == [Text("<tool_call>{")]
    assert calls.rest() == []


@given(text=LEAKS, cuts=CUTS)
def test_pieces_do_not_depend_on_the_cuts(text: str, cuts: list[int]) -> None:
    assert split(*chunks(text, cuts)) == split(text)
    assert split(*text) == split(text)


@given(
    text=st.text() | st.text("<>/tool_calfunction= \n{"),
    cuts=CUTS,
)
def test_text_without_tags_is_byte_identical_and_comes_at_once(text: str, cuts: list[int]) -> None:
    tags = ("<tool_call>", "</tool_call>", "<function=")
    if any(tag in text for tag in tags):
        return
    calls = XmlCalls(OFFERED)
    fed = came = ""
    for chunk in chunks(text, cuts):
        fed += chunk
        for piece in calls.feed(chunk):
            assert isinstance(piece, Text)
            came += piece.text
        assert fed.startswith(came)
        held = fed[len(came) :].lstrip() if came == "" else fed[len(came) :]
        assert any(tag.startswith(held) for tag in tags)
        assert len(fed) - len(came) < 64 + len("</tool_call>")
    assert split(text) == ([Text(text)] if text else [])


@given(text=LEAKS)
def test_no_text_is_lost(text: str) -> None:
    pieces = split(text)
    if not any(isinstance(piece, Call) for piece in pieces):
        assert pieces == ([Text(text)] if text else [])
    position = 0
    for piece in pieces:
        if isinstance(piece, Text):
            position = text.index(piece.text, position) + len(piece.text)
        else:
            assert piece.name in OFFERED
            assert isinstance(json.loads(piece.arguments), dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.text(), JSON, max_size=4), cuts=CUTS, spaced=st.booleans())
def test_every_call_in_json_comes_back(
    arguments: dict[str, object], cuts: list[int], spaced: bool
) -> None:
    space = "\n" if spaced else ""
    body = json.dumps({"name": "now", "arguments": arguments}, ensure_ascii=spaced)
    leak = f"<tool_call>{space}{body}{space}</tool_call>"

    assert split(*chunks(leak, cuts)) == [call("now", **arguments)]


@given(
    content=st.text(st.characters(codec="utf-8") | st.sampled_from("<>/\n")).filter(
        lambda text: "</parameter>" not in text and "</function>" not in text
    ),
    options=st.dictionaries(st.text(), JSON, max_size=3),
    days=st.integers(),
    cuts=CUTS,
)
def test_every_call_in_xml_comes_back(
    content: str, options: dict[str, object], days: int, cuts: list[int]
) -> None:
    leak = (
        "<tool_call>\n<function=get_weather>\n"
        f"<parameter=city>\n{content}\n</parameter>\n"
        f"<parameter=options>\n{json.dumps(options)}\n</parameter>\n"
        f"<parameter=days>\n{days}\n</parameter>\n"
        "</function>\n</tool_call>"
    )

    made = call("get_weather", city=content, options=options, days=days)
    assert split(*chunks(leak, cuts)) == [made]


def test_a_call_of_a_megabyte_in_small_pieces_costs_as_much_as_its_length() -> None:
    content = "line with <b> tags </b>\n" * 40_000
    leak = (
        f"<function=mcp__files__write><parameter=content>{content}</parameter></function> and text"
    )
    pieces = [leak[at : at + 6] for at in range(0, len(leak), 6)]

    assert split(*pieces) == [
        call("mcp__files__write", content=content.removesuffix("\n")),
        Text(" and text"),
    ]


def test_thousands_of_tags_that_are_no_calls_are_soon_given_up() -> None:
    text = "<function=get_weather><parameter=city>" * 8000 + "</function>"

    assert split(text) == [Text(text)]
    assert split(text[:100], text[100:]) == [Text(text)]


def test_after_a_hundred_tags_that_are_no_calls_the_rest_is_text() -> None:
    assert split("<tool_call>," * 100 + HERMES) == [Text("<tool_call>," * 100), ROME]
    assert split("<tool_call>," * 101 + HERMES) == [Text("<tool_call>," * 101 + HERMES)]


def test_after_the_rest_another_text_begins() -> None:
    calls = XmlCalls(OFFERED)
    calls.feed('said <tool_call>{"name":')
    calls.rest()

    assert calls.feed("\n") + calls.feed(HERMES) == [ROME]


@pytest.mark.parametrize(
    "before", ["```\n", "See:\n~~~xml\n", "  ````md\n```\n", "Such as `", "- so:\n    ```\n"]
)
@given(cuts=CUTS)
def test_a_call_in_code_is_quoted_where_code_is_no_call(before: str, cuts: list[int]) -> None:
    text = f"{before}{HERMES}\n"
    calls = XmlCalls(OFFERED, quotes_in_code=True)
    pieces = [piece for chunk in chunks(text, cuts) for piece in calls.feed(chunk)]
    assert joined(pieces + calls.rest()) == [Text(text)]


@pytest.mark.parametrize("before", ["```\nls\n```\n", "Use `ls`: ", "a `b\n", "````\n```\n````\n"])
@given(cuts=CUTS)
def test_a_call_behind_code_is_a_call(before: str, cuts: list[int]) -> None:
    calls = XmlCalls(OFFERED, quotes_in_code=True)
    pieces = [p for chunk in chunks(before + HERMES + CODER, cuts) for p in calls.feed(chunk)]
    assert joined(pieces + calls.rest()) == [Text(before), ROME, ROME]


def test_code_within_the_arguments_of_a_call_opens_nothing() -> None:
    written = "<function=mcp__files__write><parameter=content>\n```\nls\n</parameter></function>"
    calls = XmlCalls(OFFERED, quotes_in_code=True)
    pieces = calls.feed(written + HERMES) + calls.rest()
    assert joined(pieces) == [call("mcp__files__write", content="```\nls"), ROME]
