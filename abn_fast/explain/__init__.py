from abn_fast.explain.contact_sheet import contact_sheet
from abn_fast.explain.metrics import energy_in_box, inverted, pointing_game
from abn_fast.explain.overlay import colorize, overlay, rescale
from abn_fast.explain.picture import Explanation, explain_image, explain_images
from abn_fast.explain.upsample import upsample

__all__ = [
    "Explanation",
    "colorize",
    "contact_sheet",
    "energy_in_box",
    "explain_image",
    "explain_images",
    "inverted",
    "overlay",
    "pointing_game",
    "rescale",
    "upsample",
]
