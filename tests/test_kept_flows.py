import pytest
from mitmproxy.addons.view import View
from mitmproxy.http import HTTPFlow
from mitmproxy.test import taddons, tflow

from qwen_mitm.kept_flows import KeptFlows


@pytest.fixture
def view() -> View:
    with taddons.context(View()):
        return View()


def a_flow() -> HTTPFlow:
    flow = tflow.tflow(resp=True)
    flow.live = False
    return flow


def end(kept: KeptFlows, view: View | None, flows: list[HTTPFlow], most: int) -> None:
    for flow in flows:
        if view is not None:
            view.add([flow])
        kept.finished(flow.id, view, most)


def shown(view: View) -> list[str]:
    return [flow.id for flow in view.resolve("@all")]


def test_the_newest_are_kept(view: View) -> None:
    flows = [a_flow() for _ in range(10)]
    end(KeptFlows(), view, flows, 3)
    assert shown(view) == [flow.id for flow in flows[-3:]]


def test_zero_keeps_all_and_so_does_a_program_without_a_list(view: View) -> None:
    flows = [a_flow() for _ in range(10)]
    end(KeptFlows(), view, flows, 0)
    assert len(shown(view)) == 10
    end(KeptFlows(), None, flows, 3)


def test_what_a_person_marked_stays(view: View) -> None:
    flows = [a_flow() for _ in range(10)]
    flows[2].marked = ":star:"
    end(KeptFlows(), view, flows, 3)
    assert shown(view) == [flows[2].id, *(flow.id for flow in flows[-3:])]


def test_flows_of_others_and_those_that_run_are_no_business_of_it(view: View) -> None:
    other = a_flow()
    view.add([other])
    flows = [a_flow() for _ in range(5)]
    end(KeptFlows(), view, flows, 1)
    assert shown(view) == [other.id, flows[-1].id]


def test_what_was_removed_already_is_not_missed(view: View) -> None:
    flows = [a_flow() for _ in range(5)]
    kept = KeptFlows()
    end(kept, view, flows[:3], 3)
    view.clear()
    end(kept, view, flows[3:], 3)
    assert shown(view) == [flow.id for flow in flows[3:]]
