"The gate for continuous integration, and its reports; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.ci.guard import CIGuard as CIGuard, GuardResult as GuardResult
    from calibrax.ci.report import to_json as to_json, to_junit as to_junit, to_markdown as to_markdown, to_text as to_text

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'guard': ('CIGuard', 'GuardResult'),
    'report': ('to_json', 'to_junit', 'to_markdown', 'to_text'),
})
