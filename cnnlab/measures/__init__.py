"""Arrays and rows in, numbers out: how sure a mean is, what a network does, what the data hold."""

import lazy_loader

# fmt: off
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attribution": [
            "MAPS", "explained", "explained_layer", "grad_cam", "integrated_gradients", "leaves", "maps_of",
            "occlusion", "trust_in_maps",
        ],
        "biases": ["shift_images"],
        "calibration": [
            "PROMISED", "apply_temperature", "conformal_coverage", "conformal_sets", "conformal_threshold",
            "expected_calibration_error", "fit_temperature", "reliability_bins", "reliability_panels",
        ],
        "claims": ["NotMeasuredError", "SURE", "gather_evidence", "measure_claim", "supplied"],
        "corruptions": [
            "FGSM", "FGSM_STEPS", "KINDS", "STRENGTHS", "UNCHANGED", "accuracy_when_changed", "corrupt", "fgsm",
            "mean_over_strengths",
        ],
        "exploration": [
            "camera_shares", "channel_correlation", "class_counts", "majority_share",
            "mars_pipeline", "mars_samples", "mean_images", "metadata_of", "missing_classes",
            "nearest_training_image", "pixel_histogram", "pixel_statistics", "recurring_frames", "spatial_correlation",
        ],
        "groups": ["SCORE_NAMES", "mean_by_group", "share_by_group"],
        "inspection": [
            "KERNELS", "embeddings", "feature_maps", "filtered", "first_layer_change", "first_layer_correlations",
            "first_layer_filters", "layer_table", "most_active", "tsne_map",
        ],
        "mars": [
            "MARS_FOLDER", "NEAREST", "constant_baselines", "evaluate_mars", "most_confident_wrong", "read_mars",
            "scores_with_intervals", "write_mars",
        ],
        "probes": [
            "CORRUPTED_IMAGES", "PROBES", "PROBES_FOLDER", "measure_images", "measure_probe", "read_probe", "run_probe",
        ],
        "receptive_fields": ["effective_diameters"],
        "recipes": [
            "AUGMENTED", "BASELINE_TIMES", "METRIC", "SCORE", "baseline_times", "difference", "effects", "frontier",
            "scored", "time_column", "with_baseline_times",
        ],
        "stats": [
            "ALPHA", "HEADLINE", "LEVEL", "check_frame", "confusion_counts", "contradicted", "ensemble_gain",
            "images_needed", "largest_errors", "mcnemar", "overlap_spread", "paired_differences", "paired_tests",
            "per_class", "prediction_interval", "seed_spread", "share_interval", "t_interval", "vote",
        ],
    },
)
# fmt: on
