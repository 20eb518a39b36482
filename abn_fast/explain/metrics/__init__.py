"""How well a map locates the object and tells what the network uses: metrics, and the controls to read them against."""

from abn_fast.explain.metrics.confidence import ConfidenceChange, confidence_change
from abn_fast.explain.metrics.controls import centre_gaussian, random_maps
from abn_fast.explain.metrics.energy_in_box import energy_in_box
from abn_fast.explain.metrics.insertion_deletion import deletion, insertion
from abn_fast.explain.metrics.inverted import inverted
from abn_fast.explain.metrics.iou import BestIoU, best_iou, iou
from abn_fast.explain.metrics.pointing_game import pointing_game
from abn_fast.explain.metrics.randomization import RandomizedLayer, cascading_randomization
from abn_fast.explain.metrics.rank_correlation import rank_correlation
from abn_fast.explain.metrics.road import noisy_linear_imputation, road
from abn_fast.explain.metrics.stability import agreement, shift_agreement

__all__ = [
    "BestIoU",
    "ConfidenceChange",
    "RandomizedLayer",
    "agreement",
    "best_iou",
    "cascading_randomization",
    "centre_gaussian",
    "confidence_change",
    "deletion",
    "energy_in_box",
    "insertion",
    "inverted",
    "iou",
    "noisy_linear_imputation",
    "pointing_game",
    "random_maps",
    "rank_correlation",
    "road",
    "shift_agreement",
]
