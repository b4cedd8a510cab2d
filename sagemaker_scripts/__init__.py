"""From a trained model to a SageMaker endpoint and back: scripts that can also be called as functions."""
