"""What is known of windows: requests wait so that the window of a model only grows, and little is kept."""

from griptape_ollama.context.window_state import ARRIVAL_SECONDS, ServerWindows, WindowState
from griptape_ollama.models.model_metadata import ModelMetadata


class _Request:
    pass


class TestWaiting:
    def test_a_larger_window_waits_for_smaller_ones_that_are_under_way(self):
        state, early = WindowState(), _Request()
        state.add_request(early, 4096, now=100.0)
        assert state.seconds_to_wait(8192, now=103.0) == ARRIVAL_SECONDS - 3
        state.remove_request(early)
        assert state.seconds_to_wait(8192, now=103.0) == 0

    def test_the_same_window_and_a_smaller_one_wait_for_no_request(self):
        state = WindowState()
        state.add_request(_Request(), 8192, now=100.0)
        assert state.seconds_to_wait(8192, now=100.0) == 0
        assert state.seconds_to_wait(4096, now=100.0) == 0

    def test_a_lost_request_is_waited_for_no_longer_than_it_takes_to_arrive(self):
        state, lost = WindowState(), _Request()
        state.add_request(lost, 4096, now=100.0)
        assert state.seconds_to_wait(8192, now=100.0 + ARRIVAL_SECONDS) <= 0

    def test_lost_requests_do_not_pile_up(self):
        state = WindowState()
        lost = [_Request() for _ in range(100)]
        for number, request in enumerate(lost):
            state.add_request(request, 4096, now=float(number))
        assert len(state._sent) <= ARRIVAL_SECONDS

    def test_waiting_requests_are_woken_by_each_reply(self):
        state, early = WindowState(), _Request()
        state.add_request(early, 4096, now=100.0)
        one, other = state.start_waiting(6000), state.start_waiting(9000)
        state.remove_request(_Request())
        assert one.empty()
        state.remove_request(early)
        assert (one.qsize(), other.qsize()) == (1, 1)

    def test_the_largest_need_of_the_waiting_requests_counts_for_all(self):
        state = WindowState()
        answered = state.start_waiting(9000)
        assert state.most_needed(100) == 9000
        assert state.most_needed(10_000) == 10_000
        state.stop_waiting(answered)
        assert state.most_needed(100) == 100


def test_only_the_models_of_the_last_requests_are_kept():
    windows = ServerWindows(max_models=3)
    for number in range(10):
        windows.state(f"m{number}", ModelMetadata())
    assert len(windows) == 3
