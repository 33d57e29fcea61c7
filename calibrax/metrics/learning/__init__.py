"Losses that shape a space of embeddings, miners that choose what they learn from, and retrieval scores; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.metrics.learning.angular import ArcFaceLoss as ArcFaceLoss, ClassLoss as ClassLoss, CosFaceLoss as CosFaceLoss
    from calibrax.metrics.learning.base import LossTerms as LossTerms, MetricLearningLoss as MetricLearningLoss, Reducer as Reducer
    from calibrax.metrics.learning.base import pair_distances as pair_distances, pair_similarities as pair_similarities
    from calibrax.metrics.learning.contrastive import ContrastiveLoss as ContrastiveLoss, NTXentLoss as NTXentLoss, PairLoss as PairLoss
    from calibrax.metrics.learning.contrastive import SupConLoss as SupConLoss, TripletMarginLoss as TripletMarginLoss
    from calibrax.metrics.learning.miners import DistanceWeightedMiner as DistanceWeightedMiner, HardNegativeMiner as HardNegativeMiner
    from calibrax.metrics.learning.miners import MinedIndices as MinedIndices, Miner as Miner, SemiHardMiner as SemiHardMiner
    from calibrax.metrics.learning.pair_weighting import CircleLoss as CircleLoss, LiftedStructureLoss as LiftedStructureLoss
    from calibrax.metrics.learning.pair_weighting import MultiSimilarityLoss as MultiSimilarityLoss
    from calibrax.metrics.learning.proxy import ProxyAnchorLoss as ProxyAnchorLoss, ProxyNCALoss as ProxyNCALoss
    from calibrax.metrics.learning.retrieval import retrieval_map_at_r as retrieval_map_at_r, retrieval_r_precision as retrieval_r_precision
    from calibrax.metrics.learning.retrieval import retrieval_recall_at_k as retrieval_recall_at_k, retrieval_scores as retrieval_scores

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'angular': ('ArcFaceLoss', 'ClassLoss', 'CosFaceLoss'),
    'base': ('LossTerms', 'MetricLearningLoss', 'Reducer', 'pair_distances', 'pair_similarities'),
    'contrastive': ('ContrastiveLoss', 'NTXentLoss', 'PairLoss', 'SupConLoss', 'TripletMarginLoss'),
    'miners': ('DistanceWeightedMiner', 'HardNegativeMiner', 'MinedIndices', 'Miner', 'SemiHardMiner'),
    'pair_weighting': ('CircleLoss', 'LiftedStructureLoss', 'MultiSimilarityLoss'),
    'proxy': ('ProxyAnchorLoss', 'ProxyNCALoss'),
    'retrieval': ('retrieval_map_at_r', 'retrieval_r_precision', 'retrieval_recall_at_k', 'retrieval_scores'),
})
