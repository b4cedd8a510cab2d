"""Numbers in, words out: one sentence of at most 25 words for each question, with a verdict; and tables."""

import lazy_loader

# fmt: off
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "audit": ["CLAIMS", "audit_claims", "audit_summary", "audit_table"],
        "benchmarks": [
            "AIMS", "BENCHMARKS_FOLDER", "HANDLER_LATENCY", "LOADING_COST", "MARS_RUN", "MIXED_LOAD", "NOTEBOOK_RUN",
            "RATE_SHARE", "RECIPE_TURNS", "SERVER_LOAD", "SERVER_SHARE", "THROUGHPUT", "TIME_TO_TARGET",
            "benchmark_findings", "read_benchmarks", "run_benchmarks",
        ],
        "biases": ["permutation", "sample_size", "sample_size_table", "transfer_size"],
        "comparisons": [
            "adjacent", "against_baseline", "against_constant", "choose", "compare_predictions", "contrast_table",
            "convolution_buys", "epochs_confound", "on_gpu", "on_gpu_table", "sweep", "undone",
        ],
        "finding": ["BETTER", "CANNOT_TELL", "HEADLINE", "MARGIN", "SAME", "WORSE", "Finding"],
        "mars": [
            "against_published", "aims", "cameras", "chosen_network", "constant_answers", "contest_table", "contests",
            "PUBLISHED", "first_seen", "hardest_classes", "lost_classes", "mars_table", "published_table",
            "rungs", "score_table", "sol_trend", "two_intervals",
        ],
        "networks": [
            "calibration_error", "confidence_split", "correlation_by_distance", "ensemble", "errors_within",
            "near_duplicates", "overfitting", "overtaking", "rightly_answered", "seeds_table", "spread",
            "suspect_labels", "temperature_scaling", "worst_class",
        ],
        "probes": ["OF_PROBES", "equivariant_layers", "maps_trusted", "promise_kept"],
        "recipes": [
            "change_table", "faithful", "frontier_table", "listed", "recipe_findings", "target_table", "targets",
        ],
        "tables": ["confusions_table", "probe_table", "study_table", "to_markdown"],
    },
)
# fmt: on
