import pytest
import torch
from torch import Tensor

from abn_fast import ABNOutput, abn_loss
from abn_fast.modules import AttentionBranch, AttentionBranchNetwork, AttentionHead, GlobalAveragePool, PerceptionBranch

N, K = 5, 4


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def output() -> ABNOutput:
    return ABNOutput(torch.randn(N, K).double(), torch.randn(N, K).double(), torch.rand(N, 1, 2, 2).double())


def cross_entropy(logits: Tensor, probabilities: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """- sum_k w_k p_k log softmax(logits)_k of each image, spelled out."""
    log_probabilities = logits - logits.exp().sum(1, keepdim=True).log()
    weight = torch.ones(K).double() if class_weight is None else class_weight
    return -(weight * probabilities * log_probabilities).sum(1)


def one_hot(target: Tensor) -> Tensor:
    return torch.eye(K, dtype=torch.float64)[target]


def test_the_loss_is_the_sum_of_both_branches_cross_entropies() -> None:
    out, target = output(), torch.randint(K, (N,))
    expected = sum(cross_entropy(logits, one_hot(target)).mean() for logits in (out.attention_logits, out.logits))
    torch.testing.assert_close(abn_loss(out, target), expected)


def test_each_branch_has_its_weight() -> None:
    out, target = output(), torch.randint(K, (N,))
    attention, perception = (cross_entropy(logits, one_hot(target)).mean() for logits in out[:2])
    loss = abn_loss(out, target, attention_weight=0.3, perception_weight=2.0)
    torch.testing.assert_close(loss, 0.3 * attention + 2.0 * perception)


def test_class_weights_weigh_the_mean() -> None:
    out, target, weight = output(), torch.randint(K, (N,)), torch.rand(K).double() + 0.5
    terms = (cross_entropy(logits, one_hot(target), weight) for logits in out[:2])
    expected = sum(term.sum() / weight[target].sum() for term in terms)
    torch.testing.assert_close(abn_loss(out, target, class_weight=weight), expected)


def test_label_smoothing_mixes_the_target_with_all_classes() -> None:
    out, target = output(), torch.randint(K, (N,))
    smooth = 0.8 * one_hot(target) + 0.2 / K
    expected = sum(cross_entropy(logits, smooth).mean() for logits in out[:2])
    torch.testing.assert_close(abn_loss(out, target, label_smoothing=0.2), expected)


def test_targets_may_be_probabilities() -> None:
    out, target = output(), torch.randn(N, K).double().softmax(1)
    expected = sum(cross_entropy(logits, target).mean() for logits in out[:2])
    torch.testing.assert_close(abn_loss(out, target), expected)


def test_the_perception_term_reaches_the_attention_branch_through_the_map() -> None:
    network = AttentionBranchNetwork(
        torch.nn.Conv2d(3, 4, 3),
        AttentionBranch(torch.nn.Conv2d(4, 6, 1), AttentionHead(6, K)),
        PerceptionBranch(torch.nn.Conv2d(4, 6, 1), GlobalAveragePool(), torch.nn.Linear(6, K)),
        K,
    )
    abn_loss(network(torch.randn(N, 3, 8, 8)), torch.randint(K, (N,)), attention_weight=0.0).backward()
    head = network.attention_branch.head
    assert isinstance(head, AttentionHead)
    for layer in (head.map_conv, head.class_conv, network.attention_branch.stage):
        (weight, *_) = layer.parameters()
        assert weight.grad is not None
        assert weight.grad.abs().max() > 1e-6
    assert head.evidence_conv.weight.grad is not None
    assert head.evidence_conv.weight.grad.abs().max() == 0
