"""The lab's optimizers, and how the learning rate changes over a training."""

import keras
from keras import ops

# Rates at the start and the end, as shares of the peak (first, last), and where in the training it is, as in
# Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU (2024).
START, PEAK_AT, END = 0.2, 0.23, 0.07
# Coefficients of x, x^3 and x^5 in Muon's iteration, as in Jordan et al., Muon (2024).
SLOPE = (3.4445, -4.7750, 2.0315)


def make_optimizer(trial, steps):
    """The optimizer of `trial` for a training of `steps` steps."""
    rate = trial.learning_rate
    if trial.schedule == "triangular":
        rate = Triangular(rate, steps)
    elif trial.schedule == "linear":
        rate = keras.optimizers.schedules.PolynomialDecay(rate, steps, end_learning_rate=0.0)
    if trial.optimizer == "adam":
        return adam(rate)
    rest = {"momentum": trial.momentum, "l2": trial.weight_decay, "bias_scale": trial.bias_scale}
    if trial.optimizer == "muon":
        return Muon(rate, trial.kernel_rate / trial.learning_rate, trial.kernel_momentum, **rest)
    return NesterovSGD(rate, **rest)


def adam(learning_rate):
    """Keras's Adam; on the TensorFlow backend with TensorFlow's fused update.

    Same formula and same epsilon (Kingma and Ba 2015, the form before section 2.1). Keras
    updates in about ten passes over every weight, which take a fifth of a CNN's training time on
    two cores; the fused operation makes one pass.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.optimizers.Adam(learning_rate)
    return FusedAdam(learning_rate, name="adam")


class OneDevice:
    """Mix-in for optimizers on one device: gradients are not summed over several devices.

    For that sum, TensorFlow registers a gradient function with each training and never frees it, nor
    the graph that it holds with all variables, several times the size of the network.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


class PlainAdam(OneDevice, keras.optimizers.Adam):
    """Keras's Adam with Keras's own update."""


class FusedAdam(OneDevice, keras.optimizers.Adam):
    """Keras's Adam with TensorFlow's fused update."""

    def update_step(self, gradient, variable, learning_rate):
        import tensorflow as tf

        def handle(variable):
            return variable.handle if isinstance(variable, tf.Variable) else variable.value.handle

        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=handle(variable),
            m=handle(self._momentums[index]),
            v=handle(self._velocities[index]),
            beta1_power=tf.pow(tf.constant(self.beta_1), step),
            beta2_power=tf.pow(tf.constant(self.beta_2), step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )


class NesterovSGD(OneDevice, keras.optimizers.Optimizer):
    """SGD with Nesterov momentum and a separate learning rate for the biases of normalisations.

    With gradient g of weight w: g += decay x w; v = momentum x v + g; w -= rate x (g + momentum x v).
    The velocity v accumulates gradients, not steps, so that a falling rate applies to all past ones
    (the form of Sutskever et al., ICML 2013, as in PyTorch; Keras multiplies by the rate first,
    which is the same at a constant rate).

    `learning_rate`: a number or schedule; `momentum`: 0 to 1; `l2`: the decay, an L2 coefficient;
    `bias_scale`: factor on the rate of every variable named "beta". Their decay is divided by it,
    so that it pulls as hard as on other variables.
    """

    def __init__(self, learning_rate, momentum, l2=0.0, bias_scale=1.0, name="nesterov_sgd", **options):
        super().__init__(learning_rate=learning_rate, name=name, **options)
        self.momentum, self.l2, self.bias_scale = momentum, l2, bias_scale

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
        # Looked up here, because `update_step` gets TensorFlow's variables, whose names differ.
        self.scales = [self.bias_scale if variable.name == "beta" else 1.0 for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        velocity, scale = self.velocities[index], self.scales[index]
        rate = ops.cast(learning_rate, variable.dtype) * scale
        gradient = ops.cast(gradient, variable.dtype) + variable * (self.l2 / scale)
        self.assign(velocity, velocity * self.momentum + gradient)
        self.assign_sub(variable, rate * (gradient + velocity * self.momentum))

    def get_config(self):
        own = {"momentum": self.momentum, "l2": self.l2, "bias_scale": self.bias_scale}
        return {**super().get_config(), **own}


class Muon(NesterovSGD):
    """Muon for the kernels of convolutions, `NesterovSGD` for everything else.

    A kernel (height, width, inputs, outputs) is treated as a matrix (height x width x inputs, outputs). Its step is the
    semi-orthogonal matrix nearest to its Nesterov momentum, so that all directions move equally; before each step the
    kernel is scaled to the Frobenius norm sqrt(outputs).
    Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024), and airbench94_muon.

    `kernel_scale`: the kernels' rate as a factor on `learning_rate`; `kernel_momentum`: 0 to 1; rest: `NesterovSGD`'s.
    """

    def __init__(self, learning_rate, kernel_scale, kernel_momentum, name="muon", **options):
        super().__init__(learning_rate, name=name, **options)
        self.kernel_scale, self.kernel_momentum = kernel_scale, kernel_momentum

    def update_step(self, gradient, variable, learning_rate):
        if len(variable.shape) != 4:
            super().update_step(gradient, variable, learning_rate)
            return
        velocity, outputs = self.velocities[self._get_variable_index(variable)], variable.shape[-1]
        gradient = ops.cast(gradient, variable.dtype)
        moved = velocity * self.kernel_momentum + gradient
        self.assign(velocity, moved)
        direction = orthogonal(ops.reshape(gradient + moved * self.kernel_momentum, (-1, outputs)))
        rate = ops.cast(learning_rate, variable.dtype) * self.kernel_scale
        norm = ops.sqrt(ops.sum(ops.square(variable)))
        self.assign(variable, variable * (outputs**0.5 / norm) - rate * ops.reshape(direction, variable.shape))

    def get_config(self):
        return {**super().get_config(), "kernel_scale": self.kernel_scale, "kernel_momentum": self.kernel_momentum}


def orthogonal(matrix, iterations=3):
    """Roughly the semi-orthogonal matrix nearest to `matrix` (rows, columns), float32: singular values of 0.5 to 1.5.

    A quintic Newton-Schulz iteration with coefficients of greatest slope at zero (Jordan et al. 2024); products in
    bfloat16, which is precise enough here.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.cast(matrix / (ops.sqrt(ops.sum(ops.square(matrix))) + 1e-7), "bfloat16")
    x = ops.transpose(x) if tall else x
    for _ in range(iterations):
        square = ops.matmul(x, ops.transpose(x))
        x = SLOPE[0] * x + ops.matmul(SLOPE[1] * square + SLOPE[2] * ops.matmul(square, square), x)
    return ops.cast(ops.transpose(x) if tall else x, "float32")


class Triangular(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly to `peak` and then falls linearly.

    `peak`: the highest learning rate; `steps`: those of the training. The rate starts at the share
    `start` of the peak, peaks at the share `peak_at` of the steps, and ends at the share `end` of the peak.
    Source: Smith and Topin, Super-convergence (2017).
    """

    def __init__(self, peak, steps, start=START, peak_at=PEAK_AT, end=END):
        self.peak, self.steps, self.start, self.peak_at, self.end = peak, steps, start, peak_at, end

    def __call__(self, step):
        """The learning rate at `step` (from 0): a float32 scalar."""
        progress = ops.cast(step, "float32") / self.steps
        up = self.start + (1 - self.start) * progress / self.peak_at
        down = 1 - (1 - self.end) * (progress - self.peak_at) / (1 - self.peak_at)
        return self.peak * ops.maximum(ops.minimum(up, down), 0.0)

    def get_config(self):
        names = ("peak", "steps", "start", "peak_at", "end")
        return {name: getattr(self, name) for name in names}
