"""What each figure shows, in words, for readers who cannot see it."""

_SEEDS = "each seed's point, mean and interval."
_CURVES = "accuracy and loss on training and validation images against the epoch, with the best epoch marked."
# Alternative text by name of the figure file: what the picture shows, without a measured number.
FIGURES = {
    "mean_images": "The mean training image of each class, with the number of its images.",
    "near_duplicates": "Test images, each with the training image most similar to it, and their labels.",
    "sample_images": "Grid of sample images, one row for each class.",
    "pixel_distribution": "Histogram of the pixel values 0 to 255 of all training images, one line for each of "
    "red, green and blue, with the mean and standard deviation of each channel.",
    "spatial_correlation": "Left: correlation of two pixels against the distance between them, horizontally and "
    "vertically. Right: correlation between the colour channels of the same pixel.",
    "baseline_architecture": "Diagram of the dense network, drawn from the model: each layer with its output shape "
    "and number of parameters.",
    "cnn_architecture": "Diagram of the convolutional network, drawn from the model: boxes sized like each layer's "
    "feature maps, with output shape and number of parameters.",
    "baseline_training": f"Training curves of the dense network: {_CURVES}",
    "cnn_training": f"Training curves of the convolutional network: {_CURVES}",
    "your_network": "Test accuracy against the number of parameters, for the recorded networks and one of your own.",
    "performance_vs_parameters": "Test accuracy against the number of parameters on a logarithmic axis, one mean "
    "with its interval for each network.",
    "suspect_labels": "Twelve test images on which every seed of the best recipe agrees on an answer other than the "
    "label; under each its label and that answer.",
    "prediction_comparison": "Test images, each with its true class and the answers and confidences of the dense "
    "and the convolutional network.",
    "confusion_matrix": "Confusion matrix of the convolutional network on the test set: true class by row, predicted "
    "class by column, in percent of the row, vehicles and animals separated by lines.",
    "conv1_filters": "The filters of the first convolution shown as small colour images.",
    "first_layer": "Filters of the first convolution of the networks for CIFAR-10 and for Mars: before training, after "
    "it, the difference, amplified, and the mean of the image patches that excite each filter most.",
    "feature_maps": "One test image and the most active feature maps of each convolution.",
    "confidence_distribution": "Histograms of the confidence of right and of wrong predictions on the test set.",
    "reliability_diagram": "Accuracy against confidence in bins with intervals, beside the diagonal of perfect "
    "calibration.",
    "tsne_visualization": "Two-dimensional t-SNE map of the features of test images, one panel per class: its images "
    "in colour over all images in grey.",
    "design_study": f"Test accuracy of the CNN as designed, and with one decision undone: {_SEEDS}",
    "dense_best_study": f"Test accuracy of three networks without convolution, one at its best, and a CNN: {_SEEDS}",
    "filters_study": f"Test accuracy of the four filter configurations with a dense layer: {_SEEDS}",
    "filters_gap_study": f"Test accuracy of the four filter configurations with global average pooling: {_SEEDS}",
    "kernels_study": f"Test accuracy for four kernel sizes: {_SEEDS}",
    "sample_size": "Test accuracy of the dense network, the convolutional one and a linear classifier on pretrained "
    "features against the number of training images on a logarithmic axis.",
    "shift_accuracy": "Test accuracy of the dense and the convolutional network against the number of pixels by "
    "which the images are shifted.",
    "permutation": "Test accuracy of the dense and the convolutional network on ordinary images and on images whose "
    f"pixels are permuted: {_SEEDS}",
    "receptive_field": "Heat maps of the effective receptive field of each layer, with the theoretical receptive "
    "field as a square.",
    "tabular": "Test accuracy on tabular data of a dense network, a one-dimensional convolution and gradient boosting, "
    "with the columns in their published order and shuffled.",
    "attribution": "Test images, each above pale copies coloured where the answer of the convolutional network comes "
    "from, by Grad-CAM, integrated gradients and occlusion.",
    "changed_images": "Test accuracy of the dense network, the convolutional one and a recipe, by the strength of "
    "corruptions, and by the size of an adversarial step.",
    "calibration": "Reliability diagrams of the dense and the convolutional network before and after temperature "
    "scaling.",
    "recipe_ablation": "Test accuracy after each step from the assignment's network to the recipe, and what each step "
    "is worth, on top of those before it and when left out, with intervals.",
    "recipe_frontier": "Test accuracy against training time, one named dot per recipe, from the published code to the "
    "recipes with a target.",
    "mars_class_imbalance": "Bar charts of the number of Mars images of each class, one chart per split.",
    "mars_class_samples": "Grid of Mars images, one row for each class.",
    "mars_camera_shares": "Stacked bars of the cameras' shares of the Mars images in each split.",
    "mars_recurring_frame": "Images of one Mars camera frame that is in the data set several times.",
    "mars_image_pipeline": "One Mars image on its way from the published file to the network's input, step by step.",
    "mars_cnn_architecture": "Diagram of the convolutional network for Mars, drawn from the model.",
    "mars_cnn_training": "Training curves of the convolutional network on Mars images, with the best epoch marked.",
    "mars_ladder": "Accuracy, balanced accuracy and macro-F1 on the Mars test images, from constant answers and the "
    "nearest training image through networks trained from scratch to pretrained ones, with intervals.",
    "mars_attribution": "Mars images, each above pale copies coloured where the network's answer comes from, by "
    "Grad-CAM and occlusion.",
    "mars_conformal_by_sol": "Share of Mars images whose set of classes holds the true one, by span of Martian days, "
    "with intervals, on the days of the fit and on later ones, with a line at the promised share.",
    "mars_kernels_study": f"Test accuracy on Mars images for three kernel sizes and one that grows: {_SEEDS}",
    "mars_class_recalls": "Recall of each Mars class with its interval, one mark for each network.",
    "mars_accuracy_by_sol": "Accuracy on Mars test images in spans of Martian days, with intervals.",
    "mars_confusion_matrix": "Bars of the commonest errors on Mars test images: the true class, the wrong answer, "
    "how often, and out of how many images.",
    "mars_confident_errors": "The Mars images on which the network is wrong with the highest confidence.",
    "mars_reliability_diagram": "Accuracy against confidence on Mars test images in bins beside the diagonal of "
    "perfect calibration, before and after temperature scaling.",
}


def alternative_text(name):
    """What the figure `name` shows, in words; a <study>_study that is not in FIGURES gets a general text.

    Raises ValueError for an unknown name.
    """
    if name.endswith("_study"):
        study = name.removesuffix("_study").replace("_", " ")
        return FIGURES.get(name, f"Test accuracy of each variant of the study {study}: seeds, mean and interval.")
    if name not in FIGURES:
        raise ValueError(f"no figure is called {name!r}; expected one of {', '.join(FIGURES)}, or a <study>_study")
    return FIGURES[name]
