"""Recordings that were changed at random give replies or our own errors, and nothing else."""

import pytest

from contract.fuzzing import Reader

BLOCK = 250


@pytest.fixture
def reader():
    reader = Reader()
    yield reader
    reader.close()


@pytest.mark.parametrize("first", range(0, 2000, BLOCK))
def test_only_our_own_errors_come_out(reader, first):
    outcomes = {reader.read(number) for number in range(first, first + BLOCK)}
    # Some are still replies, and some are not.
    assert len(outcomes) > 3
    assert "read" in outcomes
