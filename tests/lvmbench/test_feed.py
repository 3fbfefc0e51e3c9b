import threading

import pytest
import torch
from torch import nn

from lvmbench import feed as feeds
from lvmbench.api import Budget
from lvmbench.data import Schema, Split
from lvmbench.feed import AHEAD, Resident, Streamed, feed
from lvmbench.training import fit

CPU = torch.device("cpu")


def split(n=40):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(n).float()[:, None], torch.arange(n))


def rows(count=12, batch=5):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randint(40, (batch,), generator=generator)


@pytest.mark.parametrize("kind", [Resident, Streamed])
def test_a_batch_is_the_pictures_and_labels_of_its_rows_in_the_order_of_the_rows(kind):
    data = split()
    found = list(kind(data, CPU).batches(rows()))
    assert len(found) == 12
    for batch, (images, labels) in zip(rows(), found, strict=True):
        assert torch.equal(images, data.images[batch])
        assert torch.equal(labels, data.labels[batch])


def test_pictures_are_streamed_where_they_do_not_fit(monkeypatch):
    data = split()
    monkeypatch.setattr(feeds, "_room", lambda device: data.images.numel())
    assert isinstance(feed(data, "cpu"), Resident)
    monkeypatch.setattr(feeds, "_room", lambda device: data.images.numel() - 1)
    assert isinstance(feed(data, "cpu"), Streamed)


def test_a_stream_gathers_only_a_little_ahead_and_stops_with_its_reader():
    asked = []

    def counted():
        for batch in rows(count=100):
            asked.append(batch)
            yield batch

    before = threading.active_count()
    batches = Streamed(split(), CPU).batches(counted())
    next(batches)
    assert len(asked) == AHEAD + 1
    batches.close()
    assert threading.active_count() == before


class Mean(nn.Module):
    """Learns the mean picture, with noise; says what it was started with."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1, 4, 4))

    def start(self, train):
        self.started = len(train)

    def loss(self, x):
        return (x - self.mean + 0.01 * torch.randn_like(x)).square().sum((1, 2, 3))


def test_a_fit_comes_to_the_same_numbers_whether_its_pictures_fit_or_stream(monkeypatch):
    def fitted():
        model = Mean()
        schema, budget = Schema((1, 4, 4), "gaussian"), Budget(images=400, batch=8, learning_rate=0.1)
        history = fit(model, split(), split(20), budget, schema, seed=3)
        return model, history

    whole, expected = fitted()
    monkeypatch.setattr(feeds, "_room", lambda device: 10 * 16)
    streamed, found = fitted()
    assert found == expected
    assert torch.equal(streamed.mean, whole.mean)
    assert whole.started == streamed.started == 40


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_a_stream_gives_what_lies_there(monkeypatch):
    cuda = torch.device("cuda")
    resident, streamed = Resident(split(), cuda), Streamed(split(), cuda)
    on_device = (batch.to(cuda) for batch in rows())
    for (x, y), (u, v) in zip(resident.batches(on_device), streamed.batches(rows()), strict=True):
        assert x.device.type == u.device.type == "cuda"
        assert torch.equal(x, u)
        assert torch.equal(y, v)
