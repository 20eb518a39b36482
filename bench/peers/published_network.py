import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast.modules import AttentionBranchNetwork, AttentionHead
from bench.peers.published_head import PublishedHead


class PublishedNetwork(nn.Module):
    """An attention branch network as published, layer by layer, with the weights of one of ours."""

    def __init__(self, network: AttentionBranchNetwork) -> None:
        super().__init__()
        head = network.attention_branch.head
        assert isinstance(head, AttentionHead)
        self.extractor = copy.deepcopy(network.extractor)
        self.attention_stage = copy.deepcopy(network.attention_branch.stage)
        self.head = PublishedHead(head.in_channels, head.num_classes).to(head.class_conv.weight)
        self.head.load_state_dict(head.state_dict())
        self.perception_branch = copy.deepcopy(network.perception_branch)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.extractor(images)
        attention_logits, gated, attention = self.head(self.attention_stage(features), features)
        return attention_logits, self.perception_branch(gated), attention


def published_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """A training step of the published loop, which waits for the loss."""
    attention_logits, logits, _ = model(images)
    loss = F.cross_entropy(attention_logits, labels) + F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
