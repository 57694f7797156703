"""The functions that users call: arguments are checked, then one operator is called."""

from . import categorical, counts, likelihood, linear, mixture, objective, pixels, posterior, torch_losses
from .categorical import *
from .counts import *
from .likelihood import *
from .linear import *
from .mixture import *
from .objective import *
from .pixels import *
from .posterior import *
from .torch_losses import *

__all__ = []
__all__ += posterior.__all__
__all__ += likelihood.__all__
__all__ += pixels.__all__
__all__ += counts.__all__
__all__ += categorical.__all__
__all__ += linear.__all__
__all__ += mixture.__all__
__all__ += objective.__all__
__all__ += torch_losses.__all__
