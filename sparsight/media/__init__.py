"""Pictures and films from anywhere, safely and lazily: `load` gives a `Clip`."""

from sparsight.core.clip import Audio, Clip
from sparsight.media.access import Access
from sparsight.media.limits import Limits
from sparsight.media.loader import FPS, load
from sparsight.media.sampling import Selection, parse_selection

__all__ = ["FPS", "Access", "Audio", "Clip", "Limits", "Selection", "load", "parse_selection"]
