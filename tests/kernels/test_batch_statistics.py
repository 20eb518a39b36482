import pytest
import torch
from torch.autograd import gradcheck

from abn_fast import kernels
from abn_fast.kernels import reference

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", [(3, 5, 4, 7), (1, 3, 1, 2), (8, 1, 1, 1), (2, 70, 9, 11)], ids=str)
def test_mean_and_biased_variance_are_those_of_var_mean(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    x = (torch.randn(shape, dtype=torch.float64) * 3 + 2).to(memory_format=memory_format)
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    for statistics in (kernels.batch_statistics(x), reference.batch_statistics(x)):
        torch.testing.assert_close(tuple(statistics), (mean, var), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_gradients_are_those_of_var_mean(memory_format: torch.memory_format) -> None:
    x = torch.randn(3, 4, 5, 2, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    d_mean, d_var = torch.randn(2, 4, dtype=torch.float64)
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    (expected,) = torch.autograd.grad((mean, var), x, (d_mean, d_var))
    (ours,) = torch.autograd.grad(tuple(kernels.batch_statistics(x)), x, (d_mean, d_var))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_the_differences_of_the_outputs() -> None:
    x = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: tuple(kernels.batch_statistics(x)), x)


@pytest.mark.parametrize("used", ["mean", "var"])
def test_one_statistic_alone_has_a_gradient(used: str) -> None:
    x = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: getattr(kernels.batch_statistics(x), used), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_statistics_of_16_bit_values_are_float32(dtype: torch.dtype) -> None:
    x = (torch.randn(4, 6, 30, 31) + 5).to(dtype).requires_grad_()
    statistics = kernels.batch_statistics(x)
    var, mean = torch.var_mean(x.detach().double(), (0, 2, 3), correction=0)
    for ours, expected in zip(statistics, (mean, var), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=0)
    (statistics.mean.sum() + statistics.var.sum()).backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_a_mean_far_above_the_deviation_does_not_cancel_the_variance(memory_format: torch.memory_format) -> None:
    x = (torch.randn(8, 4, 16, 16) * 0.1 + 300).to(memory_format=memory_format)
    expected = x.double().var((0, 2, 3), correction=0)
    torch.testing.assert_close(kernels.batch_statistics(x).var.double(), expected, rtol=1e-3, atol=0)


def test_the_input_is_left_as_it_was() -> None:
    x = torch.randn(2, 3, 4, 4)
    before = x.clone()
    kernels.batch_statistics(x)
    assert torch.equal(x, before)


def test_strided_views_are_read_as_what_they_are() -> None:
    x = torch.randn(6, 8, 9, 10, dtype=torch.float64)
    for view in (x[::2, 1::3, ::2, 1:], x.transpose(2, 3), x[:, :, :1].expand(-1, -1, 9, -1)):
        var, mean = torch.var_mean(view, (0, 2, 3), correction=0)
        torch.testing.assert_close(tuple(kernels.batch_statistics(view)), (mean, var), rtol=1e-12, atol=1e-12)
