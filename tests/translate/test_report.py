from qwen_mitm.translate.report import Report


def test_a_report_without_entries_has_no_header() -> None:
    assert Report().header() == ""


def test_each_loss_is_named_once_in_the_order_of_discovery() -> None:
    report = Report()
    report.add("dropped_tool", "web_search")
    report.add("dropped_item", "mcp_call")
    report.add("dropped_tool", "web_search")

    assert report.header() == "dropped_tool; web_search, dropped_item; mcp_call"
    assert report.entries == (("dropped_tool", "web_search"), ("dropped_item", "mcp_call"))


def test_the_header_is_one_line_of_ascii() -> None:
    report = Report()
    report.add("duplicate_tool", "größe\r\nset-cookie: a; b, c")

    assert report.header() == "duplicate_tool; gr??e??set-cookie:?a??b??c"
