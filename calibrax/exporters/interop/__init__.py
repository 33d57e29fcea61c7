"The formats of other tools; the names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.exporters.interop.asv import export_asv as export_asv
    from calibrax.exporters.interop.documents import restore_document as restore_document
    from calibrax.exporters.interop.formats import detect_format as detect_format, ingest_results as ingest_results
    from calibrax.exporters.interop.formats import list_formats as list_formats, read_results as read_results

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'asv': ('export_asv',),
    'documents': ('restore_document',),
    'formats': ('detect_format', 'ingest_results', 'list_formats', 'read_results'),
})
