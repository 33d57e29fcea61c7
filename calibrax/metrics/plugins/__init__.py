"Scores that need more than arithmetic: a network's features, an encoder, ffmpeg; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.metrics.plugins.embeddings import CLIPScoreMetric as CLIPScoreMetric, clip_score as clip_score, ref_clip_score as ref_clip_score
    from calibrax.metrics.plugins.encoders import BertEncoder as BertEncoder, SentenceEmbedding as SentenceEmbedding
    from calibrax.metrics.plugins.encoders import transformers_embedding as transformers_embedding
    from calibrax.metrics.plugins.feature_samples import FeatureSample as FeatureSample, clip_mmd as clip_mmd, init_sample as init_sample
    from calibrax.metrics.plugins.feature_samples import kernel_inception_distance as kernel_inception_distance, merge_samples as merge_samples
    from calibrax.metrics.plugins.feature_samples import polynomial_mmd as polynomial_mmd, sampled_features as sampled_features
    from calibrax.metrics.plugins.feature_samples import update_sample as update_sample
    from calibrax.metrics.plugins.feature_statistics import FeatureStatistics as FeatureStatistics, finalize_statistics as finalize_statistics
    from calibrax.metrics.plugins.feature_statistics import frechet_distance as frechet_distance, init_statistics as init_statistics
    from calibrax.metrics.plugins.feature_statistics import load_moments as load_moments, merge_statistics as merge_statistics
    from calibrax.metrics.plugins.feature_statistics import save_moments as save_moments, update_statistics as update_statistics
    from calibrax.metrics.plugins.image import CMMDMetric as CMMDMetric, FIDMetric as FIDMetric, InceptionScoreMetric as InceptionScoreMetric
    from calibrax.metrics.plugins.image import KIDMetric as KIDMetric, PrecisionRecallMetric as PrecisionRecallMetric
    from calibrax.metrics.plugins.image import inception_score as inception_score
    from calibrax.metrics.plugins.inception import InceptionV3 as InceptionV3
    from calibrax.metrics.plugins.manifold import ManifoldScores as ManifoldScores, manifold_scores as manifold_scores
    from calibrax.metrics.plugins.perceptual import LPIPSMetric as LPIPSMetric, load_lpips as load_lpips, perceptual_distance as perceptual_distance
    from calibrax.metrics.plugins.scientific import aligned_rmsd as aligned_rmsd, binding_affinity_metrics as binding_affinity_metrics
    from calibrax.metrics.plugins.scientific import bond_angles as bond_angles, bond_lengths as bond_lengths, chemical_validity as chemical_validity
    from calibrax.metrics.plugins.scientific import conformational_diversity as conformational_diversity, kabsch_rotation as kabsch_rotation
    from calibrax.metrics.plugins.scientific import pairwise_rmsd as pairwise_rmsd
    from calibrax.metrics.plugins.text import BERTScoreMetric as BERTScoreMetric, BERTScores as BERTScores, bert_score as bert_score
    from calibrax.metrics.plugins.text import inverse_document_frequency as inverse_document_frequency
    from calibrax.metrics.plugins.vgg import AlexNet as AlexNet, VGG16 as VGG16
    from calibrax.metrics.plugins.video import VMAFMetric as VMAFMetric, VMAFReport as VMAFReport, find_ffmpeg as find_ffmpeg
    from calibrax.metrics.plugins.video import vmaf_report as vmaf_report, vmaf_score as vmaf_score
    from calibrax.metrics.plugins.weights import CHECKPOINTS as CHECKPOINTS, Checkpoint as Checkpoint, load_alexnet as load_alexnet
    from calibrax.metrics.plugins.weights import load_inception as load_inception, load_lpips_heads as load_lpips_heads, load_vgg16 as load_vgg16
    from calibrax.metrics.plugins.weights import load_weights as load_weights, read_checkpoint as read_checkpoint

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'embeddings': ('CLIPScoreMetric', 'clip_score', 'ref_clip_score'),
    'encoders': ('BertEncoder', 'SentenceEmbedding', 'transformers_embedding'),
    'feature_samples': ('FeatureSample', 'clip_mmd', 'init_sample', 'kernel_inception_distance', 'merge_samples', 'polynomial_mmd',
                        'sampled_features', 'update_sample'),
    'feature_statistics': ('FeatureStatistics', 'finalize_statistics', 'frechet_distance', 'init_statistics', 'load_moments', 'merge_statistics',
                           'save_moments', 'update_statistics'),
    'image': ('CMMDMetric', 'FIDMetric', 'InceptionScoreMetric', 'KIDMetric', 'PrecisionRecallMetric', 'inception_score'),
    'inception': ('InceptionV3',),
    'manifold': ('ManifoldScores', 'manifold_scores'),
    'perceptual': ('LPIPSMetric', 'load_lpips', 'perceptual_distance'),
    'scientific': ('aligned_rmsd', 'binding_affinity_metrics', 'bond_angles', 'bond_lengths', 'chemical_validity', 'conformational_diversity',
                   'kabsch_rotation', 'pairwise_rmsd'),
    'text': ('BERTScoreMetric', 'BERTScores', 'bert_score', 'inverse_document_frequency'),
    'vgg': ('AlexNet', 'VGG16'),
    'video': ('VMAFMetric', 'VMAFReport', 'find_ffmpeg', 'vmaf_report', 'vmaf_score'),
    'weights': ('CHECKPOINTS', 'Checkpoint', 'load_alexnet', 'load_inception', 'load_lpips_heads', 'load_vgg16', 'load_weights', 'read_checkpoint'),
})
