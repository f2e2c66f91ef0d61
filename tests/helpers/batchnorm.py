"""Networks with BatchNorm that are trained on halves of the digits, and the task of all digits."""

import functools

import torch
from torch import nn

from m2n2lab import tasks


def network():
    """Return an untrained network."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64, 10),
    )


@functools.cache
def images():
    """Return images and labels to train on, and those held out."""
    data = tasks.digits()
    return tuple((X.view(-1, 1, 8, 8), y) for X, y in (data.training, data._test))


@functools.cache
def _trained_state(half):
    (X, y), _ = images()
    chosen = (y < 5) if half == 0 else (y >= 5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = network().train()
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        X, y = X[chosen] * (1 if half == 0 else 2), y[chosen]
        for start in range(0, 600, 50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(
                model(X[start : start + 50]), y[start : start + 50]
            ).backward()
            optimizer.step()
    return model.state_dict()


def trained(half):
    """Return a network that was trained on digits 0-4 or 5-9, still in train mode."""
    model = network()
    model.load_state_dict(_trained_state(half))
    return model.train()


def accuracy(model, held_out=False):
    """Return a model's share of right answers, as it is."""
    X, y = images()[int(held_out)]
    with torch.no_grad():
        return float((model(X).argmax(1) == y).float().mean(dtype=torch.float64))


@functools.cache
def task():
    """Return the task of all digits."""
    (X, y), _ = images()

    def right(model, indices):
        with torch.no_grad():
            return model(X[indices]).argmax(1) == y[indices]

    return tasks.from_function(right, len(y), held_out=lambda m: accuracy(m, held_out=True))
