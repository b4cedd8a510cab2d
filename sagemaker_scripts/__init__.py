"""From a trained model to a SageMaker endpoint and back: scripts, each of which is also a function."""
