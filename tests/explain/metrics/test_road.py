import pytest
import torch

from abn_fast._errors import AbnFastError
from abn_fast.explain import inverted
from abn_fast.explain.metrics import noisy_linear_imputation, random_maps, road
from tests.explain.metrics._linear import linear, weights

TARGETS = torch.ones(4, dtype=torch.int64)


def holes(share: float, height: int = 24, width: int = 20) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) < share


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_imputation_is_pytorch_grad_cam_s(share: float) -> None:
    imputer = pytest.importorskip("pytorch_grad_cam.metrics.road").NoisyLinearImputer(noise=0)
    images, removed = torch.randn(3, 3, 24, 20, generator=torch.Generator().manual_seed(1)), holes(share)
    removed[0] = False
    removed[0, 5:20, :12] = True  # one large hole at the border
    expected = torch.stack([imputer(each, (~hole).float()) for each, hole in zip(images, removed, strict=True)])
    torch.testing.assert_close(noisy_linear_imputation(images, removed, noise=0), expected, atol=0.02, rtol=0)


def test_what_is_left_stays_and_a_plane_is_continued_into_the_hole() -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 16), torch.linspace(0, 2, 16), indexing="ij")
    plane = (rows + columns).expand(1, 3, 16, 16).contiguous()
    removed = torch.zeros(1, 16, 16, dtype=torch.bool)
    removed[:, 3:12, 4:14] = True
    torch.testing.assert_close(noisy_linear_imputation(plane, removed, noise=0), plane, atol=0.02, rtol=0)
    noisy = noisy_linear_imputation(plane, removed)
    kept = ~removed[:, None].expand_as(plane)
    assert torch.equal(noisy[kept], plane[kept])
    assert 0.005 < float((noisy - plane)[~kept].std()) < 0.02


def test_the_noise_depends_on_the_seed_alone() -> None:
    images, removed = torch.rand(3, 3, 24, 20), holes(0.5)
    first = noisy_linear_imputation(images, removed, seed=1)
    assert torch.equal(first, noisy_linear_imputation(images, removed, seed=1))
    assert not torch.equal(first, noisy_linear_imputation(images, removed, seed=2))


def test_order_decides_the_score_and_its_inverse_has_the_opposite_one() -> None:
    importance = weights(16, 16) ** 4
    importance /= importance.sum()
    images = torch.zeros(4, 3, 16, 16)
    images[:, :, importance > importance.quantile(0.7)] = 1
    classify, maps = linear(importance), importance.float().expand(4, 16, 16)
    scores = [float(road(classify, images, each, TARGETS).mean()) for each in (maps, inverted(maps))]
    assert scores[0] > 0.2
    assert scores[0] == pytest.approx(-scores[1], abs=0.01)
    assert abs(float(road(classify, images, random_maps(4, (16, 16)), TARGETS).mean())) < scores[0] / 2


def test_nothing_left_and_shares_of_all_are_refused() -> None:
    with pytest.raises(AbnFastError, match="all pixels of an image are removed"):
        noisy_linear_imputation(torch.rand(1, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool))
    with pytest.raises(AbnFastError, match=r"shares \(1\.0,\): expected numbers above 0 and below 1"):
        road(linear(weights()), torch.rand(4, 3, 8, 8), torch.rand(4, 8, 8), TARGETS, shares=(1.0,))
