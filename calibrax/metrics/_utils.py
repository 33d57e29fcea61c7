"Helpers of the published package that client code imports from here; their home is `calibrax.metrics.numerics`."
from calibrax.metrics.numerics import _prepare_arrays, _validate_shapes, dense_labels, label_masks, matrix_sqrtm, safe_divide, safe_log, safe_norm, safe_root  # noqa: F401
