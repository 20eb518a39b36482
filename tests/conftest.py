import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, in any order."""
    torch.manual_seed(0)
