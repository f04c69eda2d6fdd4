"""How sure an estimate is."""

import pytest

from griptape_ollama.context.tokens.regression import TokenEstimate


@pytest.mark.parametrize(("estimate", "share"), [((100, 70, 130), 0.3), ((10, 10, 10), 0.0), ((0, 0, 0), 0.0)])
def test_the_uncertainty_is_half_of_the_span_as_a_share(estimate, share):
    assert TokenEstimate(*estimate).uncertainty == pytest.approx(share)
