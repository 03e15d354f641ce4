"""What authors of plug-ins import: data chefs and algorithms are written with these names, and with no others.

Everything else in recserver, save :mod:`recserver` itself and :mod:`recserver.testing`, may change at any time.
"""

from recserver.algorithms.base import BaseAlgorithm, Feedback, Params, RandomState, Real
from recserver.algorithms.fold_in import FoldIn, Worth
from recserver.algorithms.interactions import Interactions
from recserver.algorithms.neighbors import Neighbors
from recserver.algorithms.protocol import Algorithm, Factors, Start, Surroundings
from recserver.chefs.chef_entry import ChefEntry, column_of, read_entry, refused
from recserver.chefs.files.allowed_paths import confined
from recserver.chefs.protocol import Batch, Chef, Column, ConditionalChef, Rejection, StartOver
from recserver.chefs.secrets import expand_environment, missing_variables
from recserver.chefs.source_policy import SourcePolicy
from recserver.core.errors import FieldError, InvalidInput, SourceFailed, TrainingFailed
from recserver.core.validation.values import WholeNumber

__all__ = [
    "Algorithm", "BaseAlgorithm", "Batch", "Chef", "ChefEntry", "Column", "ConditionalChef", "Factors", "Feedback",
    "FieldError", "FoldIn", "Interactions", "InvalidInput", "Neighbors", "Params", "RandomState", "Real",
    "Rejection", "SourceFailed", "SourcePolicy", "Start", "StartOver", "Surroundings", "TrainingFailed",
    "WholeNumber", "Worth", "column_of", "confined", "expand_environment", "missing_variables", "read_entry",
    "refused",
]  # fmt: skip
