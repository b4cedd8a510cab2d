"""The optimizers of the recipes."""

import keras
from keras import ops

from cnnlab.adam import adam
from cnnlab.recipes.schedules import Triangular


def make_optimizer(recipe, steps):
    """The optimizer of `recipe` (a `recipe.Recipe`) for a training of `steps` steps."""
    rate = recipe.learning_rate
    if recipe.schedule == "triangular":
        rate = Triangular(rate, steps)
    if recipe.optimizer == "adam":
        return adam(rate)
    return NesterovSGD(rate, recipe.momentum, recipe.weight_decay, recipe.bias_scale)


class NesterovSGD(keras.optimizers.Optimizer):
    """SGD with Nesterov momentum, whose learning rate differs for the biases of normalisations.

    With gradient g of weight w: g += decay x w; v = momentum x v + g; w -= rate x (g + momentum x v).
    The velocity v holds gradients and not steps, so that a falling rate acts on all of the past
    (the form of Sutskever et al., ICML 2013, as PyTorch has it; Keras's multiplies the rate in
    first, which is the same at a constant rate).

    `learning_rate`: a number or schedule; `momentum`, 0 to 1; `l2`: the decay, an L2 coefficient;
    `bias_scale`: factor on the rate of every variable named "beta". Their decay is divided by it,
    so that it pulls as hard as elsewhere.
    """

    def __init__(self, learning_rate, momentum, l2=0.0, bias_scale=1.0, name="nesterov_sgd", **options):
        super().__init__(learning_rate=learning_rate, name=name, **options)
        self.momentum, self.l2, self.bias_scale = momentum, l2, bias_scale

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
        # Asked here, for `update_step` is given TensorFlow's variables, which have other names.
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
