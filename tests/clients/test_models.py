from __future__ import annotations

from qwen_mitm.clients.models import MODELS, OFFERS, USUAL_PROVIDER, models_for
from qwen_mitm.providers import PROFILES, WEB_CHAT


def test_every_offer_is_of_a_known_provider_and_of_models_with_facts() -> None:
    assert set(OFFERS) <= {*PROFILES, WEB_CHAT.name}
    assert USUAL_PROVIDER in OFFERS
    for name in set().union(*OFFERS.values()) - {"qwen/qwen3-coder", "qwen3-max"}:
        assert MODELS[name].context


def test_models_that_do_not_think_are_not_said_to() -> None:
    assert not any(model.thinks for name, model in MODELS.items() if "coder" in name)


def test_the_model_that_was_asked_for_comes_first_and_once() -> None:
    names = [model.name for model in models_for("coding-plan", ("qwen3.7-plus",))]

    assert names[0] == "qwen3.7-plus"
    assert sorted(names) == sorted(OFFERS["coding-plan"])


def test_a_server_of_ones_own_has_the_models_that_are_named_and_no_others() -> None:
    assert models_for("vllm") == ()
    (model,) = models_for("vllm", ("my-model",))
    assert model.context is None
