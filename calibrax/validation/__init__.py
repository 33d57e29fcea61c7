"Does a result reach its target, and does a series converge."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.validation.accuracy import AccuracyResult as AccuracyResult, check_accuracy as check_accuracy
    from calibrax.validation.accuracy import infer_direction as infer_direction
    from calibrax.validation.convergence import ConvergenceResult as ConvergenceResult, check_convergence as check_convergence
    from calibrax.validation.convergence import plot_convergence as plot_convergence
    from calibrax.validation.framework import ValidationReport as ValidationReport

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'accuracy': ('AccuracyResult', 'check_accuracy', 'infer_direction'),
    'convergence': ('ConvergenceResult', 'check_convergence', 'plot_convergence'),
    'framework': ('ValidationReport',),
})
