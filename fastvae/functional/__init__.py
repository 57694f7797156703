"""The functions that users call: arguments are checked, then one operator is called."""

from . import likelihood, objective, posterior
from .likelihood import *
from .objective import *
from .posterior import *

__all__ = []
__all__ += posterior.__all__
__all__ += likelihood.__all__
__all__ += objective.__all__
