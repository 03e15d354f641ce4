"""The public API for plug-ins: data chefs and algorithms use these names only.

Everything else in recserver, except :mod:`recserver` itself and :mod:`recserver.testing`, may change at any time.
"""

from recserver._internal.algorithms.base import BaseAlgorithm, Feedback, Params, RandomState, Real
from recserver._internal.algorithms.fold_in import FoldIn, Weighting
from recserver._internal.algorithms.interactions import Interactions
from recserver._internal.algorithms.item_item_weights import ItemItemWeights
from recserver._internal.algorithms.protocol import Algorithm, FitContext, FittedModel, WarmStart
from recserver._internal.chefs.chef_entry import ChefEntry, invalid_field, read_entry, to_column
from recserver._internal.chefs.files.allowed_paths import allowed_path
from recserver._internal.chefs.protocol import Batch, Chef, Column, ConditionalChef, Rejection, RestartRead
from recserver._internal.chefs.secrets import expand_environment, missing_variables
from recserver._internal.chefs.source_policy import SourcePolicy
from recserver._internal.core.errors import FieldError, InvalidInput, SourceFailed, TrainingFailed
from recserver._internal.core.validation.values import WholeNumber

__all__ = [
    "Algorithm",
    "BaseAlgorithm",
    "Batch",
    "Chef",
    "ChefEntry",
    "Column",
    "ConditionalChef",
    "Feedback",
    "FieldError",
    "FitContext",
    "FittedModel",
    "FoldIn",
    "Interactions",
    "InvalidInput",
    "ItemItemWeights",
    "Params",
    "RandomState",
    "Real",
    "Rejection",
    "RestartRead",
    "SourceFailed",
    "SourcePolicy",
    "TrainingFailed",
    "WarmStart",
    "Weighting",
    "WholeNumber",
    "allowed_path",
    "expand_environment",
    "invalid_field",
    "missing_variables",
    "read_entry",
    "to_column",
]  # fmt: skip
