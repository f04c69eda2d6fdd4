"""Requests for one model reach the server in an order in which its window only grows."""

from griptape_ollama.context.window_state import ARRIVAL_SECONDS, Order


class _Request:
    pass


class TestOrder:
    def test_a_larger_window_waits_for_smaller_ones_that_are_under_way(self):
        order, early = Order(), _Request()
        order.send(early, 4096, now=100.0)
        assert order.seconds_ahead(8192, now=103.0) == ARRIVAL_SECONDS - 3
        order.arrived(early)
        assert order.seconds_ahead(8192, now=103.0) == 0

    def test_the_same_window_and_a_smaller_one_wait_for_nobody(self):
        order = Order()
        order.send(_Request(), 8192, now=100.0)
        assert order.seconds_ahead(8192, now=100.0) == 0
        assert order.seconds_ahead(4096, now=100.0) == 0

    def test_a_request_that_nobody_hears_of_again_is_waited_for_no_longer_than_it_takes_to_arrive(self):
        order, lost = Order(), _Request()
        order.send(lost, 4096, now=100.0)
        assert order.seconds_ahead(8192, now=100.0 + ARRIVAL_SECONDS) <= 0

    def test_requests_that_nobody_hears_of_again_do_not_pile_up(self):
        order = Order()
        lost = [_Request() for _ in range(100)]
        for number, request in enumerate(lost):
            order.send(request, 4096, now=float(number))
        assert len(order._sent) <= ARRIVAL_SECONDS

    def test_whoever_waits_is_woken_by_each_that_arrived(self):
        order, early = Order(), _Request()
        order.send(early, 4096, now=100.0)
        one, other = order.wait(6000), order.wait(9000)
        order.arrived(_Request())
        assert one.empty()
        order.arrived(early)
        assert (one.qsize(), other.qsize()) == (1, 1)

    def test_the_most_that_one_of_those_who_wait_needs_counts_for_all(self):
        order = Order()
        woken = order.wait(9000)
        assert order.most(100) == 9000
        assert order.most(10_000) == 10_000
        order.stop_waiting(woken)
        assert order.most(100) == 100
