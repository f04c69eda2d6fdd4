import pytest

from griptape_ollama import OllamaContentError, OllamaPromptDriver
from griptape_ollama.lifecycle.holding import HeldDrivers


def _driver(**settings):
    return OllamaPromptDriver(model="a", host="127.0.0.1:1", **settings)


@pytest.mark.parametrize("own", [None, 0, -1, "10m"])
def test_a_held_driver_sends_the_keep_alive_of_the_holder_and_then_its_own_again(own):
    driver = _driver(keep_alive=own)
    held = HeldDrivers("1h")
    held.hold([driver])
    assert driver.keep_alive == "1h"
    held.release()
    assert driver.keep_alive == own


def test_a_keep_alive_in_the_extra_parameters_does_not_win_while_held():
    driver = _driver(extra_params={"keep_alive": 0, "x": 1})
    held = HeldDrivers("1h")
    held.hold([driver])
    assert driver.extra_params == {"x": 1}
    held.release()
    assert driver.extra_params == {"keep_alive": 0, "x": 1}
    assert driver.keep_alive is None


def test_the_users_own_dictionary_of_extra_parameters_is_left_alone():
    params = {"keep_alive": 0}
    HeldDrivers("1h").hold([_driver(extra_params=params)])
    assert params == {"keep_alive": 0}


def test_a_driver_that_is_held_twice_gets_its_own_back():
    driver = _driver(keep_alive=7)
    held = HeldDrivers("1h")
    held.hold([driver])
    held.hold([driver])
    held.release()
    assert driver.keep_alive == 7


def test_what_somebody_else_set_meanwhile_stays():
    driver = _driver()
    held = HeldDrivers("1h")
    held.hold([driver])
    driver.keep_alive = 42
    held.release()
    assert driver.keep_alive == 42


@pytest.mark.parametrize("last", [0, 1])
def test_a_driver_that_two_hold_gets_its_own_back_when_both_are_done(last):
    driver = _driver(keep_alive=7)
    holders = [HeldDrivers("1h"), HeldDrivers("2h")]
    for holder in holders:
        holder.hold([driver])
    holders[1 - last].release()
    holders[last].release()
    assert driver.keep_alive == 7


def test_a_wrong_duration_is_refused():
    with pytest.raises(OllamaContentError, match="has no unit"):
        HeldDrivers("60")
