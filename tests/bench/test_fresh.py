import pytest

from bench._fresh import fresh_seconds


def test_only_the_code_itself_is_timed() -> None:
    assert fresh_seconds("time.sleep(0.2)") >= 0.2
    assert fresh_seconds("pass", before="time.sleep(1)") < 0.9


def test_each_process_is_a_new_one_with_its_variables() -> None:
    code = "import os; assert os.environ['FRESH'] == 'yes'; os.environ['FRESH'] = 'no'"
    for _ in range(2):
        fresh_seconds(code, variables={"FRESH": "yes"})


def test_what_fails_is_no_measurement() -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        fresh_seconds("1 / 0")
