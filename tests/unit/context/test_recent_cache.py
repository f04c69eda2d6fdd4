"""The memory of what was worked out."""

from griptape_ollama.context.recent_cache import RecentMemory


def test_what_was_put_is_given_back():
    memory = RecentMemory(4)

    memory.put("a", 1)

    assert memory.get("a") == 1
    assert memory.get("b") is None


def test_it_keeps_as_many_as_it_was_told_and_at_most_twice_as_many():
    memory = RecentMemory(10)

    for number in range(1_000):
        memory.put(number, number)
        assert all(memory._young.get(each, memory._old.get(each)) == each for each in range(max(0, number - 9), number))
        assert len(memory) <= 20


def test_what_is_asked_for_again_and_again_stays():
    memory = RecentMemory(10)
    memory.put("often", 1)

    for number in range(100):
        assert memory.get("often") == 1
        memory.put(number, number)


def test_nothing_is_left_once_it_was_cleared():
    memory = RecentMemory(2)
    for number in range(4):
        memory.put(number, number)
    memory.clear()
    assert len(memory) == 0
    assert memory.get(3) is None
