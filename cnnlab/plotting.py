"""Every figure of the lab, one function each: data in, a matplotlib Figure out.

The place to look first; the functions stand in `figures`. None of them
computes a result or writes a file: `save_figure` is the one way to a file.
"""

from cnnlab.figures.architecture import architecture
from cnnlab.figures.data import class_distribution, pixel_distribution, sample_images, spatial_correlation
from cnnlab.figures.files import FIGURES, figure_view, save_figure
from cnnlab.figures.mars import (
    accuracy_by_sol,
    camera_shares,
    captioned_images,
    class_imbalance,
    class_recalls,
    class_samples,
    group_scores,
    image_pipeline,
)
from cnnlab.figures.networks import (
    conv1_filters,
    feature_map_progression,
    feature_maps,
    receptive_field,
    tsne_visualization,
)
from cnnlab.figures.predictions import (
    confidence_distribution,
    confusion_matrix,
    prediction_comparison,
    reliability_diagram,
    risk_coverage,
)
from cnnlab.figures.recipes import recipe_frontier, recipe_waterfall
from cnnlab.figures.studies import (
    accuracy_vs_samples,
    performance_vs_parameters,
    shift_curve,
    study_points,
    tabular_points,
)
from cnnlab.figures.training import training_curves

__all__ = [
    "FIGURES",
    "accuracy_by_sol",
    "accuracy_vs_samples",
    "architecture",
    "camera_shares",
    "captioned_images",
    "class_distribution",
    "class_imbalance",
    "class_recalls",
    "class_samples",
    "confidence_distribution",
    "confusion_matrix",
    "conv1_filters",
    "feature_map_progression",
    "feature_maps",
    "figure_view",
    "group_scores",
    "image_pipeline",
    "performance_vs_parameters",
    "pixel_distribution",
    "prediction_comparison",
    "receptive_field",
    "recipe_frontier",
    "recipe_waterfall",
    "reliability_diagram",
    "risk_coverage",
    "sample_images",
    "save_figure",
    "shift_curve",
    "spatial_correlation",
    "study_points",
    "tabular_points",
    "training_curves",
    "tsne_visualization",
]
