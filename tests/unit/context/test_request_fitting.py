"""Requests that are made to fit."""

import pytest

from griptape_ollama.context.request_fitting import message_budget


@pytest.mark.parametrize(
    ("arguments", "budget"),
    [
        ((4096, 0, 0.0), 4096),
        ((4096, 100, 0.0), 3996),
        ((1300, 200, 0.3), 800),
        ((100, 5000, 0.0), 0),
    ],
    ids=["all", "tools", "unsure", "tools fill it"],
)
def test_messages_may_have_what_tools_leave_even_if_the_estimate_is_off(arguments, budget):
    assert message_budget(*arguments) == pytest.approx(budget)
