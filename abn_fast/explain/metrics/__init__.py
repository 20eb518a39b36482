"""How well a map locates the object: metrics, and the controls they are read against."""

from abn_fast.explain.metrics.energy_in_box import energy_in_box
from abn_fast.explain.metrics.inverted import inverted
from abn_fast.explain.metrics.pointing_game import pointing_game

__all__ = ["energy_in_box", "inverted", "pointing_game"]
