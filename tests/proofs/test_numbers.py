from tests.kernels._interpreter import run_in_interpreter


def test_errors_are_found_in_the_interpreter() -> None:
    run_in_interpreter("../proofs/interpreted_numbers.py")
