"""A Trial in; a row, a model and its predictions out. `Trial` needs no Keras; the rest is loaded on first use."""

import lazy_loader

# fmt: off
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "answers": ["SCORING_BATCH", "accuracy", "cross_entropy", "predict", "predict_views", "views"],
        "batches": ["ShuffledBatches", "feeding"],
        "callbacks": ["Checkpoint", "History", "ProgressBar", "renew_statistics"],
        "finetune": ["build_for", "initial_network"],
        "initial_weights": ["set_initial_weights"],
        "loop": ["Plan", "Result", "compile_model", "fit", "train"],
        "models": [
            "build", "dtype_policy", "forward_flops", "load_model", "model_path", "row_within", "save_model",
            "save_with_row", "takes_raw_pixels", "training_flops",
        ],
        "networks": ["NETWORKS", "expected_parameters"],
        "own": ["trial_of"],
        "pretrained": ["efficientnet_lite0", "load_backbone"],
        "transfer": ["Probe", "frozen_features", "linear_probe"],
        "trial": ["PROTOCOL", "Trial", "trial_key"],
    },
)
# fmt: on
