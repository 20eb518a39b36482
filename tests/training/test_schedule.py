import pytest
import torch

from abn_fast.training import OptimizerConfig, ScheduleConfig, TrainingConfig
from abn_fast.training.schedule import learning_rate

STEPS = 7


def test_step_decay_is_that_of_torch() -> None:
    config = TrainingConfig(
        epochs=6,
        optimizer=OptimizerConfig(lr=0.3),
        schedule=ScheduleConfig("step", (2, 4), 0.2),
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    torch_schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2 * STEPS, 4 * STEPS], 0.2)
    for step in range(6 * STEPS):
        assert learning_rate(config, step, STEPS) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        torch_schedule.step()


def test_cosine_is_that_of_torch() -> None:
    config = TrainingConfig(epochs=5, optimizer=OptimizerConfig(lr=0.3))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    torch_schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5 * STEPS)
    for step in range(5 * STEPS):
        assert learning_rate(config, step, STEPS) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        torch_schedule.step()


def test_warm_up_rises_linearly_to_the_rate_and_the_schedule_follows() -> None:
    config = TrainingConfig(epochs=4, optimizer=OptimizerConfig(lr=1.0), schedule=ScheduleConfig(warmup_epochs=2))
    rates = [learning_rate(config, step, STEPS) for step in range(4 * STEPS)]
    assert rates[: 2 * STEPS] == pytest.approx([(step + 1) / (2 * STEPS) for step in range(2 * STEPS)])
    assert rates[2 * STEPS] == pytest.approx(1.0)
    assert rates[3 * STEPS] == pytest.approx(0.5)


def test_constant_stays() -> None:
    config = TrainingConfig(epochs=4, optimizer=OptimizerConfig(lr=0.2), schedule=ScheduleConfig("constant"))
    assert {learning_rate(config, step, STEPS) for step in range(4 * STEPS)} == {0.2}
