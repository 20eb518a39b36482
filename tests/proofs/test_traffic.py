from tests.kernels._interpreter import run_in_interpreter


def test_bytes_sectors_and_programs_are_counted_in_the_interpreter() -> None:
    run_in_interpreter("../proofs/interpreted_traffic.py")
