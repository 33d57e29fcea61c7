"The pure functions of all domains; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.metrics.functional.boundaries import average_symmetric_surface_distance as average_symmetric_surface_distance
    from calibrax.metrics.functional.boundaries import boundary_counts as boundary_counts, boundary_f_score as boundary_f_score
    from calibrax.metrics.functional.boundaries import boundary_iou as boundary_iou, distance_to_mask as distance_to_mask
    from calibrax.metrics.functional.boundaries import hausdorff_95 as hausdorff_95, mask_boundary as mask_boundary
    from calibrax.metrics.functional.boundaries import mask_hausdorff_distance as mask_hausdorff_distance
    from calibrax.metrics.functional.boundaries import normalized_surface_dice as normalized_surface_dice
    from calibrax.metrics.functional.boundaries import panoptic_matches as panoptic_matches, panoptic_quality as panoptic_quality
    from calibrax.metrics.functional.boundaries import recognition_quality as recognition_quality, rim_counts as rim_counts
    from calibrax.metrics.functional.boundaries import segmentation_quality as segmentation_quality, surface_distances as surface_distances
    from calibrax.metrics.functional.calibration import ReliabilityBins as ReliabilityBins
    from calibrax.metrics.functional.calibration import adaptive_calibration_error as adaptive_calibration_error
    from calibrax.metrics.functional.calibration import bin_statistics as bin_statistics, brier_decomposition as brier_decomposition
    from calibrax.metrics.functional.calibration import brier_score as brier_score, brier_skill_score as brier_skill_score
    from calibrax.metrics.functional.calibration import brier_statistics as brier_statistics, class_bin_statistics as class_bin_statistics
    from calibrax.metrics.functional.calibration import classwise_ece as classwise_ece, equal_count_statistics as equal_count_statistics
    from calibrax.metrics.functional.calibration import expected_calibration_error as expected_calibration_error
    from calibrax.metrics.functional.calibration import maximum_calibration_error as maximum_calibration_error
    from calibrax.metrics.functional.calibration import reliability_diagram_bins as reliability_diagram_bins
    from calibrax.metrics.functional.classification import LabelAverage as LabelAverage, Scheme as Scheme, accuracy as accuracy
    from calibrax.metrics.functional.classification import agreement_statistics as agreement_statistics
    from calibrax.metrics.functional.classification import average_precision as average_precision, balanced_accuracy as balanced_accuracy
    from calibrax.metrics.functional.classification import class_likelihood_ratios as class_likelihood_ratios
    from calibrax.metrics.functional.classification import classification_report as classification_report, cohen_kappa as cohen_kappa
    from calibrax.metrics.functional.classification import confusion_matrix as confusion_matrix
    from calibrax.metrics.functional.classification import confusion_statistics as confusion_statistics
    from calibrax.metrics.functional.classification import d2_log_loss_score as d2_log_loss_score, exact_match as exact_match
    from calibrax.metrics.functional.classification import f1_score as f1_score, false_negative_rate as false_negative_rate
    from calibrax.metrics.functional.classification import false_positive_rate as false_positive_rate, fbeta_score as fbeta_score
    from calibrax.metrics.functional.classification import hamming_loss as hamming_loss, hinge_loss as hinge_loss
    from calibrax.metrics.functional.classification import jaccard_score as jaccard_score, log_loss as log_loss
    from calibrax.metrics.functional.classification import log_loss_statistics as log_loss_statistics, match_statistics as match_statistics
    from calibrax.metrics.functional.classification import matthews_corrcoef as matthews_corrcoef
    from calibrax.metrics.functional.classification import multilabel_confusion_matrix as multilabel_confusion_matrix
    from calibrax.metrics.functional.classification import negative_likelihood_ratio as negative_likelihood_ratio
    from calibrax.metrics.functional.classification import negative_predictive_value as negative_predictive_value
    from calibrax.metrics.functional.classification import pair_statistics as pair_statistics
    from calibrax.metrics.functional.classification import positive_likelihood_ratio as positive_likelihood_ratio, precision as precision
    from calibrax.metrics.functional.classification import recall as recall, roc_auc as roc_auc, sensitivity as sensitivity
    from calibrax.metrics.functional.classification import softmax_cross_entropy as softmax_cross_entropy, specificity as specificity
    from calibrax.metrics.functional.classification import top_k_accuracy as top_k_accuracy, zero_one_loss as zero_one_loss
    from calibrax.metrics.functional.curves import DetCurve as DetCurve, MultiClass as MultiClass
    from calibrax.metrics.functional.curves import PrecisionRecallCurve as PrecisionRecallCurve, RocCurve as RocCurve, auc as auc
    from calibrax.metrics.functional.curves import binned_average_precision as binned_average_precision, binned_counts as binned_counts
    from calibrax.metrics.functional.curves import binned_roc_auc as binned_roc_auc, det_curve as det_curve
    from calibrax.metrics.functional.curves import equal_error_rate as equal_error_rate, fpr_at_95_tpr as fpr_at_95_tpr, gini as gini
    from calibrax.metrics.functional.curves import log_auc as log_auc, precision_at_fixed_recall as precision_at_fixed_recall
    from calibrax.metrics.functional.curves import precision_recall_curve as precision_recall_curve, ranked_counts as ranked_counts
    from calibrax.metrics.functional.curves import recall_at_fixed_precision as recall_at_fixed_precision, roc_curve as roc_curve
    from calibrax.metrics.functional.curves import sensitivity_at_specificity as sensitivity_at_specificity
    from calibrax.metrics.functional.curves import specificity_at_sensitivity as specificity_at_sensitivity
    from calibrax.metrics.functional.deviance import d2_absolute_error_score as d2_absolute_error_score
    from calibrax.metrics.functional.deviance import d2_pinball_score as d2_pinball_score, d2_tweedie_score as d2_tweedie_score
    from calibrax.metrics.functional.deviance import mean_gamma_deviance as mean_gamma_deviance
    from calibrax.metrics.functional.deviance import mean_poisson_deviance as mean_poisson_deviance
    from calibrax.metrics.functional.deviance import mean_tweedie_deviance as mean_tweedie_deviance, msle as msle, rmsle as rmsle
    from calibrax.metrics.functional.distance import bray_curtis_distance as bray_curtis_distance, canberra_distance as canberra_distance
    from calibrax.metrics.functional.distance import chebyshev_distance as chebyshev_distance, correlation_distance as correlation_distance
    from calibrax.metrics.functional.distance import cosine_distance as cosine_distance, cosine_distances as cosine_distances
    from calibrax.metrics.functional.distance import cosine_similarity as cosine_similarity, euclidean_distance as euclidean_distance
    from calibrax.metrics.functional.distance import euclidean_distances as euclidean_distances, hamming_distance as hamming_distance
    from calibrax.metrics.functional.distance import haversine_distance as haversine_distance, haversine_distances as haversine_distances
    from calibrax.metrics.functional.distance import jaccard_distance as jaccard_distance, lorentz_distance as lorentz_distance
    from calibrax.metrics.functional.distance import mahalanobis_distance as mahalanobis_distance, manhattan_distance as manhattan_distance
    from calibrax.metrics.functional.distance import manhattan_distances as manhattan_distances, minkowski_distance as minkowski_distance
    from calibrax.metrics.functional.distance import pairwise_distances as pairwise_distances, poincare_distance as poincare_distance
    from calibrax.metrics.functional.distance import randers_distance as randers_distance
    from calibrax.metrics.functional.distance import squared_euclidean_distance as squared_euclidean_distance
    from calibrax.metrics.functional.divergence import Kernel as Kernel, SLICED_WASSERSTEIN_PROJECTIONS as SLICED_WASSERSTEIN_PROJECTIONS
    from calibrax.metrics.functional.divergence import SLICED_WASSERSTEIN_REGISTRY_SEED as SLICED_WASSERSTEIN_REGISTRY_SEED
    from calibrax.metrics.functional.divergence import bregman_divergence as bregman_divergence
    from calibrax.metrics.functional.divergence import chi_squared_divergence as chi_squared_divergence, energy_distance as energy_distance
    from calibrax.metrics.functional.divergence import f_divergence as f_divergence, hellinger_distance as hellinger_distance
    from calibrax.metrics.functional.divergence import js_distance as js_distance, js_divergence as js_divergence
    from calibrax.metrics.functional.divergence import kl_divergence as kl_divergence
    from calibrax.metrics.functional.divergence import kolmogorov_smirnov_distance as kolmogorov_smirnov_distance, mmd as mmd
    from calibrax.metrics.functional.divergence import mmd_squared_unbiased as mmd_squared_unbiased
    from calibrax.metrics.functional.divergence import registry_sliced_wasserstein as registry_sliced_wasserstein
    from calibrax.metrics.functional.divergence import renyi_divergence as renyi_divergence, reverse_kl_divergence as reverse_kl_divergence
    from calibrax.metrics.functional.divergence import sinkhorn_divergence as sinkhorn_divergence, sliced_wasserstein as sliced_wasserstein
    from calibrax.metrics.functional.divergence import total_variation as total_variation, wasserstein_1d as wasserstein_1d
    from calibrax.metrics.functional.information import conditional_entropy as conditional_entropy, cramers_v as cramers_v
    from calibrax.metrics.functional.information import cross_entropy as cross_entropy, entropy as entropy
    from calibrax.metrics.functional.information import entropy_from_logits as entropy_from_logits
    from calibrax.metrics.functional.information import fisher_information_matrix as fisher_information_matrix
    from calibrax.metrics.functional.information import joint_entropy as joint_entropy, mutual_information as mutual_information
    from calibrax.metrics.functional.information import normalized_mutual_information as normalized_mutual_information, theils_u as theils_u
    from calibrax.metrics.functional.information import tschuprows_t as tschuprows_t, variation_of_information as variation_of_information
    from calibrax.metrics.functional.multilabel import coverage_error as coverage_error
    from calibrax.metrics.functional.multilabel import label_ranking_average_precision as label_ranking_average_precision
    from calibrax.metrics.functional.multilabel import label_ranking_loss as label_ranking_loss, label_ranking_sums as label_ranking_sums
    from calibrax.metrics.functional.ranking import Empty as Empty, Gain as Gain, PrecisionRecallAtK as PrecisionRecallAtK
    from calibrax.metrics.functional.ranking import QueryReduction as QueryReduction, Ties as Ties, coverage as coverage
    from calibrax.metrics.functional.ranking import coverage_counts as coverage_counts, dcg as dcg
    from calibrax.metrics.functional.ranking import expected_reciprocal_rank as expected_reciprocal_rank, f1_at_k as f1_at_k
    from calibrax.metrics.functional.ranking import fall_out as fall_out, hit_rate as hit_rate
    from calibrax.metrics.functional.ranking import mean_average_precision as mean_average_precision
    from calibrax.metrics.functional.ranking import mean_average_precision_at_k as mean_average_precision_at_k
    from calibrax.metrics.functional.ranking import mean_reciprocal_rank as mean_reciprocal_rank, ndcg as ndcg, ndcg_at_k as ndcg_at_k
    from calibrax.metrics.functional.ranking import pad_queries as pad_queries, precision_at_k as precision_at_k
    from calibrax.metrics.functional.ranking import precision_recall_curve_at_k as precision_recall_curve_at_k
    from calibrax.metrics.functional.ranking import precision_recall_sums as precision_recall_sums, r_precision as r_precision
    from calibrax.metrics.functional.ranking import rank_biased_precision as rank_biased_precision, ranked_relevance as ranked_relevance
    from calibrax.metrics.functional.ranking import recall_at_k as recall_at_k, retrieval_auroc as retrieval_auroc
    from calibrax.metrics.functional.ranking import retrieval_recall_at_fixed_precision as retrieval_recall_at_fixed_precision
    from calibrax.metrics.functional.regression import Normalization as Normalization, charbonnier_loss as charbonnier_loss
    from calibrax.metrics.functional.regression import critical_success_index as critical_success_index, crps as crps
    from calibrax.metrics.functional.regression import explained_variance as explained_variance, huber_loss as huber_loss
    from calibrax.metrics.functional.regression import log_cosh_loss as log_cosh_loss, mae as mae, mape as mape, max_error as max_error
    from calibrax.metrics.functional.regression import mean_bias_error as mean_bias_error, median_absolute_error as median_absolute_error
    from calibrax.metrics.functional.regression import minkowski_error as minkowski_error, mse as mse, nrmse as nrmse
    from calibrax.metrics.functional.regression import per_sample_relative_l2 as per_sample_relative_l2, quantile_loss as quantile_loss
    from calibrax.metrics.functional.regression import r_squared as r_squared, relative_absolute_error as relative_absolute_error
    from calibrax.metrics.functional.regression import relative_error as relative_error, relative_l2_error as relative_l2_error
    from calibrax.metrics.functional.regression import relative_squared_error as relative_squared_error, rmse as rmse, smape as smape
    from calibrax.metrics.functional.regression import wmape as wmape, wsmape as wsmape
    from calibrax.metrics.functional.segmentation import Aggregation as Aggregation, dice_coefficient as dice_coefficient
    from calibrax.metrics.functional.segmentation import focal_loss as focal_loss, frequency_weighted_iou as frequency_weighted_iou
    from calibrax.metrics.functional.segmentation import generalized_dice as generalized_dice, iou as iou, mean_iou as mean_iou
    from calibrax.metrics.functional.segmentation import mean_of_images as mean_of_images, merge_counts as merge_counts
    from calibrax.metrics.functional.segmentation import overlap_counts as overlap_counts, pixel_accuracy as pixel_accuracy
    from calibrax.metrics.functional.segmentation import soft_dice_loss as soft_dice_loss, soft_overlap as soft_overlap
    from calibrax.metrics.functional.segmentation import tversky_index as tversky_index, tversky_loss as tversky_loss
    from calibrax.metrics.functional.statistical import KendallVariant as KendallVariant, agreement_moments as agreement_moments
    from calibrax.metrics.functional.statistical import autocorrelation as autocorrelation
    from calibrax.metrics.functional.statistical import concordance_correlation as concordance_correlation, covariance as covariance
    from calibrax.metrics.functional.statistical import kendall_counts as kendall_counts, kendall_tau as kendall_tau, kurtosis as kurtosis
    from calibrax.metrics.functional.statistical import merge_agreement as merge_agreement, merge_shape as merge_shape
    from calibrax.metrics.functional.statistical import pearson_correlation as pearson_correlation, r_squared_adjusted as r_squared_adjusted
    from calibrax.metrics.functional.statistical import rank_moments as rank_moments, shape_moments as shape_moments, skewness as skewness
    from calibrax.metrics.functional.statistical import spearman_rank_correlation as spearman_rank_correlation

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'boundaries': ('average_symmetric_surface_distance', 'boundary_counts', 'boundary_f_score', 'boundary_iou', 'distance_to_mask',
                   'hausdorff_95', 'mask_boundary', 'mask_hausdorff_distance', 'normalized_surface_dice', 'panoptic_matches',
                   'panoptic_quality', 'recognition_quality', 'rim_counts', 'segmentation_quality', 'surface_distances'),
    'calibration': ('ReliabilityBins', 'adaptive_calibration_error', 'bin_statistics', 'brier_decomposition', 'brier_score',
                    'brier_skill_score', 'brier_statistics', 'class_bin_statistics', 'classwise_ece', 'equal_count_statistics',
                    'expected_calibration_error', 'maximum_calibration_error', 'reliability_diagram_bins'),
    'classification': ('LabelAverage', 'Scheme', 'accuracy', 'agreement_statistics', 'average_precision', 'balanced_accuracy',
                       'class_likelihood_ratios', 'classification_report', 'cohen_kappa', 'confusion_matrix', 'confusion_statistics',
                       'd2_log_loss_score', 'exact_match', 'f1_score', 'false_negative_rate', 'false_positive_rate', 'fbeta_score',
                       'hamming_loss', 'hinge_loss', 'jaccard_score', 'log_loss', 'log_loss_statistics', 'match_statistics',
                       'matthews_corrcoef', 'multilabel_confusion_matrix', 'negative_likelihood_ratio', 'negative_predictive_value',
                       'pair_statistics', 'positive_likelihood_ratio', 'precision', 'recall', 'roc_auc', 'sensitivity',
                       'softmax_cross_entropy', 'specificity', 'top_k_accuracy', 'zero_one_loss'),
    'curves': ('DetCurve', 'MultiClass', 'PrecisionRecallCurve', 'RocCurve', 'auc', 'binned_average_precision', 'binned_counts',
               'binned_roc_auc', 'det_curve', 'equal_error_rate', 'fpr_at_95_tpr', 'gini', 'log_auc', 'precision_at_fixed_recall',
               'precision_recall_curve', 'ranked_counts', 'recall_at_fixed_precision', 'roc_curve', 'sensitivity_at_specificity',
               'specificity_at_sensitivity'),
    'deviance': ('d2_absolute_error_score', 'd2_pinball_score', 'd2_tweedie_score', 'mean_gamma_deviance', 'mean_poisson_deviance',
                 'mean_tweedie_deviance', 'msle', 'rmsle'),
    'distance': ('bray_curtis_distance', 'canberra_distance', 'chebyshev_distance', 'correlation_distance', 'cosine_distance',
                 'cosine_distances', 'cosine_similarity', 'euclidean_distance', 'euclidean_distances', 'hamming_distance',
                 'haversine_distance', 'haversine_distances', 'jaccard_distance', 'lorentz_distance', 'mahalanobis_distance',
                 'manhattan_distance', 'manhattan_distances', 'minkowski_distance', 'pairwise_distances', 'poincare_distance',
                 'randers_distance', 'squared_euclidean_distance'),
    'divergence': ('Kernel', 'SLICED_WASSERSTEIN_PROJECTIONS', 'SLICED_WASSERSTEIN_REGISTRY_SEED', 'bregman_divergence',
                   'chi_squared_divergence', 'energy_distance', 'f_divergence', 'hellinger_distance', 'js_distance', 'js_divergence',
                   'kl_divergence', 'kolmogorov_smirnov_distance', 'mmd', 'mmd_squared_unbiased', 'registry_sliced_wasserstein',
                   'renyi_divergence', 'reverse_kl_divergence', 'sinkhorn_divergence', 'sliced_wasserstein', 'total_variation',
                   'wasserstein_1d'),
    'information': ('conditional_entropy', 'cramers_v', 'cross_entropy', 'entropy', 'entropy_from_logits', 'fisher_information_matrix',
                    'joint_entropy', 'mutual_information', 'normalized_mutual_information', 'theils_u', 'tschuprows_t',
                    'variation_of_information'),
    'multilabel': ('coverage_error', 'label_ranking_average_precision', 'label_ranking_loss', 'label_ranking_sums'),
    'ranking': ('Empty', 'Gain', 'PrecisionRecallAtK', 'QueryReduction', 'Ties', 'coverage', 'coverage_counts', 'dcg',
                'expected_reciprocal_rank', 'f1_at_k', 'fall_out', 'hit_rate', 'mean_average_precision', 'mean_average_precision_at_k',
                'mean_reciprocal_rank', 'ndcg', 'ndcg_at_k', 'pad_queries', 'precision_at_k', 'precision_recall_curve_at_k',
                'precision_recall_sums', 'r_precision', 'rank_biased_precision', 'ranked_relevance', 'recall_at_k', 'retrieval_auroc',
                'retrieval_recall_at_fixed_precision'),
    'regression': ('Normalization', 'charbonnier_loss', 'critical_success_index', 'crps', 'explained_variance', 'huber_loss',
                   'log_cosh_loss', 'mae', 'mape', 'max_error', 'mean_bias_error', 'median_absolute_error', 'minkowski_error', 'mse',
                   'nrmse', 'per_sample_relative_l2', 'quantile_loss', 'r_squared', 'relative_absolute_error', 'relative_error',
                   'relative_l2_error', 'relative_squared_error', 'rmse', 'smape', 'wmape', 'wsmape'),
    'segmentation': ('Aggregation', 'dice_coefficient', 'focal_loss', 'frequency_weighted_iou', 'generalized_dice', 'iou', 'mean_iou',
                     'mean_of_images', 'merge_counts', 'overlap_counts', 'pixel_accuracy', 'soft_dice_loss', 'soft_overlap',
                     'tversky_index', 'tversky_loss'),
    'statistical': ('KendallVariant', 'agreement_moments', 'autocorrelation', 'concordance_correlation', 'covariance', 'kendall_counts',
                    'kendall_tau', 'kurtosis', 'merge_agreement', 'merge_shape', 'pearson_correlation', 'r_squared_adjusted',
                    'rank_moments', 'shape_moments', 'skewness', 'spearman_rank_correlation'),
})
