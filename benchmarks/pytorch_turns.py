"""The assignment's CNN in PyTorch, with fused Adam: a process that trains one epoch per line of input.

It is a separate process because the compilers of PyTorch and TensorFlow do not work in one process.
Started as `python -m benchmarks.pytorch_turns IMAGES BATCH_SIZE WAY`, where WAY is a key of WAYS; it prints
PyTorch's version when it is ready, and an empty line after each epoch.
"""

import sys

import torch
from torch import nn

from cnnlab.data import load_cifar10
from cnnlab.machine import usable_cores

# Way: (precision of convolutions and matrix products, whether to use torch.compile).
WAYS = {
    "eager, float32": (torch.float32, False),
    "eager, bfloat16": (torch.bfloat16, False),
    "compiled, bfloat16": (torch.bfloat16, True),
}


def network():
    """The layers of `cnnlab.training.build("cnn")`, except that `train` rescales the pixels here."""
    widths = (3, 32, 64, 128)
    blocks = []
    for index, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        blocks += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        blocks += [nn.MaxPool2d(2)] if index < 2 else []
    layers = [*blocks, nn.Flatten(), nn.Linear(8 * 8 * 128, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def train(model, optimizer, pixels, answers, batch_size, precision):
    """Train one epoch in a new order: `pixels` uint8 (n, 3, height, width), `answers` int64 (n,)."""
    loss, order = nn.CrossEntropyLoss(), torch.randperm(len(pixels))
    for start in range(0, len(pixels) - batch_size + 1, batch_size):
        chosen = order[start : start + batch_size]
        batch = (pixels[chosen].float() / 255).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            logits = model(batch)
        loss(logits.float(), answers[chosen]).backward()
        optimizer.step()


def main():
    torch.set_num_threads(usable_cores())  # Some builds start with one thread.
    (count, batch_size), (precision, compiled) = map(int, sys.argv[1:3]), WAYS[sys.argv[3]]
    images, labels = load_cifar10(progress=False).split("train", count)
    pixels, answers = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels.astype("int64"))
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    if compiled:
        model = torch.compile(model)
    train(model, optimizer, pixels[:batch_size], answers[:batch_size], batch_size, precision)  # compiling ends here
    print(torch.__version__, flush=True)
    for _ in sys.stdin:
        train(model, optimizer, pixels, answers, batch_size, precision)
        print(flush=True)


if __name__ == "__main__":
    main()
