"""What a gateway that refuses large requests teaches."""

from griptape_ollama.transport.request_body import BodyLimits


def test_without_a_refusal_there_is_no_limit():
    limits = BodyLimits()
    limits.record_accepted("/api/embed", 10_000)
    assert limits.largest("/api/embed") is None


def test_the_limit_is_the_largest_accepted_body_or_half_of_the_smallest_refused():
    limits = BodyLimits()
    limits.record_refused("/api/embed", 1000)
    assert limits.largest("/api/embed") == 500
    limits.record_accepted("/api/embed", 20)
    assert limits.largest("/api/embed") == 500
    limits.record_accepted("/api/embed", 900)
    assert limits.largest("/api/embed") == 900
    limits.record_refused("/api/embed", 950)
    assert limits.largest("/api/embed") == 900


def test_each_path_has_its_own():
    limits = BodyLimits()
    limits.record_refused("/api/chat", 1000)
    assert limits.largest("/api/embed") is None


def test_a_limit_that_was_changed_is_learned_anew():
    limits = BodyLimits()
    limits.record_accepted("/api/embed", 900)
    limits.record_refused("/api/embed", 400)
    assert limits.largest("/api/embed") == 200
    limits.record_accepted("/api/embed", 5000)
    assert limits.largest("/api/embed") is None
