"""Numbers in, pictures out: one function per figure; only `save_figure` writes a file."""

import lazy_loader

# fmt: off
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "alternative_texts": ["FIGURES", "alternative_text"],
        "data": [
            "camera_shares", "captioned_images", "class_imbalance", "class_samples",
            "image_pipeline", "pixel_distribution", "sample_images", "spatial_correlation",
        ],
        "mars": ["accuracy_by_sol", "class_recalls", "coverage_by_sol", "group_scores"],
        "networks": [
            "architecture", "conv1_filters", "feature_maps", "filtered_picture", "first_layer", "receptive_field",
            "tsne_visualization",
        ],
        "predictions": [
            "answer_bars", "attribution", "confidence_distribution", "confidence_moved", "confusion_matrix",
            "prediction_comparison", "reliability_diagram", "training_curves",
        ],
        "studies": [
            "accuracy_vs_samples", "changed_images", "performance_vs_parameters", "recipe_ablation", "recipe_frontier",
            "shift_curve", "study_points", "tabular_points",
        ],
        "style": ["figure_view", "live_view", "save_figure"],
    },
)
# fmt: on
