"""What was lost is detected from the counts of a reply."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.truncation import ContextFinding, TokenCounts, detect_truncation
from griptape_ollama.context.window import ContextWindow


def _window(tokens=4096, ceiling=4096, *, is_known=True):
    return ContextWindow(None, tokens, ceiling, is_known=is_known)


SURE, LIKELY = ContextFinding("truncated", is_sure=True), ContextFinding("truncated", is_sure=False)


def _rough(tokens):
    """An estimate before anything was learned."""
    return TokenEstimate(tokens, round(tokens * 0.7), round(tokens * 1.3))


def _fine(tokens):
    """An estimate after some replies."""
    return TokenEstimate(tokens, round(tokens * 0.93), round(tokens * 1.07))


@pytest.mark.parametrize(
    ("estimate", "read", "finding"),
    [
        (_rough(45_000), 2051, SURE),
        (_fine(8000), 3900, SURE),
        (_rough(8000), 60, SURE),
        (_rough(5000), 2051, SURE),
        (_rough(5000), 4096, SURE),
        (_fine(4800), 4020, SURE),
        (_rough(5000), 3000, LIKELY),
        (_fine(4200), 3800, LIKELY),
        (_rough(3700), 2051, LIKELY),
        (TokenEstimate(3857, 1578, 6137), 2051, LIKELY),
        (_rough(10_000), None, LIKELY),
        (_fine(20_000), 8192, LIKELY),
    ],
    ids=[
        "front cut to half",
        "old messages dropped",
        "nearly all dropped",
        "half by a rough estimate",
        "filled to the last token",
        "just below the window",
        "a rough estimate that is far off",
        "a little too long",
        "half of the window, by an estimate that may be too low",
        "half of the window, by the first estimate of all",
        "not counted",
        "the window is larger than what is known, but not large enough",
    ],
)
def test_a_cut_prompt_is_found(estimate, read, finding):
    assert detect_truncation(TokenCounts(estimate, read, 24, "stop"), _window()).truncated == finding


@pytest.mark.parametrize(
    ("estimate", "read"),
    [
        (_rough(3000), 1500),
        (_rough(3000), 2051),
        (_rough(5000), 3600),
        (_fine(4300), 4010),
        (_rough(10_000), 9000),
        (_rough(3000), 12),
        (_rough(5000), None),
        (_fine(100), 100),
        (_fine(4096), 4096),
        (_fine(4000), 4096),
    ],
    ids=[
        "counted too high, but it fits",
        "half of the window, and it surely fits",
        "a rough estimate may be that far off",
        "as sure as it says",
        "the window is larger than what is known",
        "cached tokens not counted (old servers)",
        "not counted, and it may fit",
        "short",
        "exactly full",
        "more than estimated",
    ],
)
def test_an_honest_reply_raises_no_alarm(estimate, read):
    assert detect_truncation(TokenCounts(estimate, read, 24, "stop"), _window()).truncated is None


@given(st.integers(1, 4095), st.floats(0.71, 1.29), st.integers(1, 500))
def test_a_prompt_that_fits_is_never_surely_cut(tokens, error, written):
    estimate = _rough(max(1, round(tokens / error)))
    written = min(written, 4096 - tokens)
    found = detect_truncation(TokenCounts(estimate, tokens, written, "stop"), _window())
    assert not any(finding.is_sure for finding in found)


@pytest.mark.parametrize(
    ("estimate", "read", "finding"),
    [
        (_rough(45_000), 2051, LIKELY),
        (_rough(3000), 2048, LIKELY),
        (_rough(20_000), 16_000, None),
        (_rough(10_000), None, None),
        (_rough(3000), 1000, None),
    ],
    ids=["far below", "an older default", "read in full", "not counted", "cached tokens not counted (old servers)"],
)
def test_nothing_is_sure_where_the_window_is_not_known(estimate, read, finding):
    assert detect_truncation(TokenCounts(estimate, read, 24, "stop"), _window(is_known=False)).truncated == finding


def test_images_count_for_more_when_the_server_cuts():
    """It takes 768 tokens for each, and cuts what would have fitted."""
    counts = TokenCounts(_fine(3000), 1200, 24, "stop", images=4)
    assert detect_truncation(counts, _window()).truncated == LIKELY
    assert detect_truncation(TokenCounts(_fine(3000), 1200, 24, "stop"), _window()).truncated is None


@pytest.mark.parametrize(
    ("read", "written", "is_shifted"),
    [(4000, 200, True), (23, 5000, True), (4000, 96, False), (4000, 97, False), (5000, 200, False)],
    ids=["a little", "a long reply", "exactly full", "last token not stored", "the window is larger than known"],
)
def test_a_window_that_moved_on_is_found(read, written, is_shifted):
    found = detect_truncation(TokenCounts(_fine(read), read, written, "stop"), _window()).shifted
    assert found == (ContextFinding("shifted", is_sure=True) if is_shifted else None)


@pytest.mark.parametrize(
    ("window", "is_shifted"), [(64, False), (200, False), (256, False), (255, False), (100, False)]
)
def test_small_windows_are_larger_than_they_say(window, is_shifted):
    assert (
        detect_truncation(TokenCounts(_fine(23), 23, 233, "stop"), _window(window)).shifted is not None
    ) is is_shifted


def test_without_a_count_of_the_prompt_its_estimate_is_taken():
    found = detect_truncation(TokenCounts(_fine(3000), None, 2000, "stop"), _window())
    assert found.shifted == ContextFinding("shifted", is_sure=False)
    assert found.truncated is None


@pytest.mark.parametrize(
    "counts",
    [TokenCounts(_fine(3000), 3000, None, "stop"), TokenCounts(_fine(4000), None, 80, "stop")],
    ids=["reply not counted", "may have fitted"],
)
def test_no_shift_is_guessed(counts):
    assert not detect_truncation(counts, _window())


def test_no_shift_is_guessed_where_the_window_is_not_known():
    assert not detect_truncation(TokenCounts(_fine(3000), 3000, 2000, "stop"), _window(is_known=False))


@pytest.mark.parametrize(
    ("counts", "cut_by", "is_sure"),
    [
        (TokenCounts(_fine(100), 100, 50, "length", 50), "max_tokens", True),
        (TokenCounts(_fine(100), 100, 50, None, 50), "max_tokens", False),
        (TokenCounts(_fine(100), 100, 51, "length", 50), "max_tokens", True),
        (TokenCounts(_fine(3000), 3000, 1096, "length", 2000), "window", True),
        (TokenCounts(_fine(3000), 3000, 1095, "length"), "window", True),
        (TokenCounts(_fine(3000), None, 1096, "length"), "window", True),
        (TokenCounts(_fine(100), 100, 50, "length", -1), "unknown", True),
        (TokenCounts(_fine(100), 100, None, "length", 50), "unknown", True),
        (TokenCounts(_fine(100), 100, 40_960, "length"), "unknown", True),
    ],
)
def test_what_ended_the_reply_is_detected(counts, cut_by, is_sure):
    assert detect_truncation(counts, _window()).cut == ContextFinding("cut", is_sure, cut_by)


@pytest.mark.parametrize(
    "counts",
    [
        TokenCounts(_fine(100), 100, 50, "stop", 50),
        TokenCounts(_fine(100), 100, 50, None),
        TokenCounts(_fine(100), 100, 49, None, 50),
        TokenCounts(_fine(100), 100, 50, None, -1),
        TokenCounts(_fine(100), None, None, None, 50),
    ],
)
def test_a_complete_reply_is_not_cut(counts):
    assert not detect_truncation(counts, _window())


def test_no_window_ends_a_reply_where_none_is_known():
    found = detect_truncation(TokenCounts(_fine(3000), 3000, 1096, "length"), _window(is_known=False))
    assert found.cut == ContextFinding("cut", is_sure=True, cut_by="unknown")


def test_all_that_happened_is_found():
    found = detect_truncation(TokenCounts(_rough(45_000), 2051, 3000, "length", 3000), _window())
    assert [finding.kind for finding in found] == ["truncated", "shifted", "cut"]
    assert found


@pytest.mark.parametrize(
    ("read", "low", "is_found"), [(1027, 2100, True), (1027, 2000, False), (1041, 2100, False), (1300, 2100, False)]
)
def test_half_of_a_smaller_default_window_than_is_assumed_is_truncation(read, low, is_found):
    estimate = TokenEstimate(round(low * 1.1), low, round(low * 1.2))
    counts = TokenCounts(estimate, prompt_tokens=read, done_reason="stop")
    found = detect_truncation(counts, _window(4096, is_known=False)).truncated
    assert found == (ContextFinding("truncated", is_sure=False) if is_found else None)
    assert detect_truncation(counts, _window(4096, is_known=True)).truncated is None


@pytest.mark.parametrize(
    ("read", "estimate", "is_found"),
    [
        (4099, TokenEstimate(3000, 1300, 4700), True),
        (4100, TokenEstimate(3000, 1300, 4700), False),
        (4099, TokenEstimate(4090, 3700, 4480), False),
        (4099, TokenEstimate(1000, 400, 1600), False),
    ],
    ids=["just what is left of a cut prompt", "one more", "as was to be expected", "far too short to be cut"],
)
def test_before_anything_was_learned_the_length_of_a_cut_prompt_gives_it_away(read, estimate, is_found):
    counts = TokenCounts(estimate, prompt_tokens=read, done_reason="stop")
    found = detect_truncation(counts, _window(8192, is_known=True)).truncated
    assert found == (ContextFinding("truncated", is_sure=False) if is_found else None)
