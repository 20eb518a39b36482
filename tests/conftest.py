import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("abn_fast").addoption(
        "--poison", action="store_true", help="memory that nobody wrote is NaN, so that reading it shows"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--poison"):
        torch.use_deterministic_algorithms(True)  # which alone makes torch fill what torch.empty returns
        assert torch.empty(1).isnan()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, in any order."""
    torch.manual_seed(0)
