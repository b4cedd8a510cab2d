"""Numbers in, words out: one sentence of at most 25 words for each question, with a verdict; and tables."""

import lazy_loader

# fmt: off
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "audit": ["CLAIMS", "audit_claims", "audit_summary", "audit_table", "published_claims"],
        "benchmarks": [
            "HANDLER_LATENCY", "LOADING_COST", "NOTEBOOK_RUN", "RATE_SHARE", "RECIPE_TURNS", "SERVER_LOAD",
            "THROUGHPUT", "TIME_TO_TARGET", "benchmark_findings",
        ],
        "biases": [
            "check_dense_unchanged", "columns_order", "effective_fields", "equivariant_layers", "permutation",
            "sample_size", "sample_size_table", "shift_cost",
        ],
        "claims": ["formula_of", "from_mars", "from_probes", "gather"],
        "comparisons": [
            "adjacent", "against_baseline", "against_each", "choose", "compare", "compare_predictions",
            "contrast_table", "epochs_confound", "presentable", "study_table", "sweep", "to_markdown",
        ],
        "finding": ["BETTER", "CANNOT_TELL", "HEADLINE", "MARGIN", "SAME", "WORSE", "Finding"],
        "mars": [
            "cameras", "constant_answers", "contest_table", "contests", "first_seen", "help_chosen", "in_use",
            "likeness", "lost_classes", "mars_table", "score_table", "sol_trend", "stopping",
        ],
        "networks": [
            "calibration_error", "commonest_confusions", "confidence_split", "correlation_by_distance",
            "errors_within", "overfitting", "referral", "temperature_scaling", "worst_class",
        ],
        "probes": [
            "OF_PROBES", "calibration_over_seeds", "probe_table", "referral_over_seeds", "reliability_panels",
            "renewed_statistics", "silent_activations",
        ],
        "recipes": ["change_table", "frontier_table", "recipe_findings", "target_table"],
    },
)
# fmt: on
