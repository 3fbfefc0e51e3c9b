"""pythae's side: its models, nets in its own style, and its own trainer, used as its documentation shows."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from typing import Any

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST, Encoder_Conv_VAE_MNIST
from pythae.models.nn.default_architectures import Decoder_AE_MLP, Encoder_VAE_MLP
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

from peers.window import Timing, Window
from peers.workloads import Workload, pictures

LEARNING_RATE = 1e-3


class EncoderBurda(BaseEncoder):
    """784-200-200 tanh, and a head each for mean and log variance."""

    def __init__(self, args: Any) -> None:
        BaseEncoder.__init__(self)
        self.layers = nn.Sequential(nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh())
        self.embedding = nn.Linear(200, args.latent_dim)
        self.log_var = nn.Linear(200, args.latent_dim)

    def forward(self, x: Tensor) -> ModelOutput:
        """Return mean and log variance: [B, D] each."""
        h = self.layers(x.reshape(x.shape[0], -1))
        return ModelOutput(embedding=self.embedding(h), log_covariance=self.log_var(h))


class DecoderBurda(BaseDecoder):
    """The mirror of the encoder."""

    def __init__(self, args: Any) -> None:
        BaseDecoder.__init__(self)
        self.layers = nn.Sequential(
            nn.Linear(args.latent_dim, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(),
            nn.Linear(200, 784), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, z: Tensor) -> ModelOutput:
        """Return the mean picture: [B, 1, 28, 28]."""
        return ModelOutput(reconstruction=self.layers(z).reshape(-1, 1, 28, 28))


class EncoderBurgess(BaseEncoder):
    """Four convolutions, a layer of 256, and two heads; the activations are those of lvmbench's ``conv``."""

    def __init__(self, args: Any) -> None:
        BaseEncoder.__init__(self)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 4, 2, padding=1), nn.SiLU(),
            nn.Conv2d(32, 32, 4, 2, padding=1), nn.SiLU(),
            nn.Conv2d(32, 64, 4, 2, padding=1), nn.SiLU(),
            nn.Conv2d(64, 64, 4, 2, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(1024, 256), nn.SiLU(),
        )  # fmt: skip
        self.embedding = nn.Linear(256, args.latent_dim)
        self.log_var = nn.Linear(256, args.latent_dim)

    def forward(self, x: Tensor) -> ModelOutput:
        """Return mean and log variance: [B, D] each."""
        h = self.layers(x)
        return ModelOutput(embedding=self.embedding(h), log_covariance=self.log_var(h))


class DecoderBurgess(BaseDecoder):
    """The mirror of the encoder."""

    def __init__(self, args: Any) -> None:
        BaseDecoder.__init__(self)
        self.layers = nn.Sequential(
            nn.Linear(args.latent_dim, 256), nn.SiLU(), nn.Linear(256, 1024), nn.Unflatten(1, (64, 4, 4)), nn.SiLU(),
            nn.ConvTranspose2d(64, 64, 4, 2, padding=1), nn.SiLU(),
            nn.ConvTranspose2d(64, 32, 4, 2, padding=1), nn.SiLU(),
            nn.ConvTranspose2d(32, 32, 4, 2, padding=1), nn.SiLU(),
            nn.ConvTranspose2d(32, 3, 4, 2, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, z: Tensor) -> ModelOutput:
        """Return the mean picture: [B, 3, 64, 64]."""
        return ModelOutput(reconstruction=self.layers(z))


NETS = {
    "peers.mlp": (Encoder_VAE_MLP, Decoder_AE_MLP),
    "burda": (EncoderBurda, DecoderBurda),
    "conv": (EncoderBurgess, DecoderBurgess),
    "peers.mnist_conv": (Encoder_Conv_VAE_MNIST, Decoder_Conv_AE_MNIST),
}


def made(workload: Workload, seed: int) -> VAE:
    """Return pythae's model of a workload."""
    torch.manual_seed(seed)
    loss = "bce" if workload.pixels == "bernoulli" else "mse"
    asked = {
        "input_dim": workload.shape,
        "latent_dim": workload.latent_dim,
        "reconstruction_loss": loss,
    }
    config = VAEConfig(**asked) if workload.k == 1 else IWAEConfig(**asked, number_samples=workload.k)
    encoder, decoder = (net(config) for net in NETS[workload.net])
    return (VAE if workload.k == 1 else IWAE)(config, encoder=encoder, decoder=decoder)


def run(workload: Workload, images: int, seeds: list[int], device: str) -> Timing:
    """Train one seed after another on so many images each, and return what it took."""
    total = Timing()
    for seed in seeds:
        model, clock = made(workload, seed), _Clock(device)
        rows = min(images, workload.rows)
        with tempfile.TemporaryDirectory() as folder:
            config = BaseTrainerConfig(
                output_dir=folder,
                per_device_train_batch_size=workload.batch,
                num_epochs=max(1, round(images / rows)),
                learning_rate=LEARNING_RATE,
                seed=seed,
                no_cuda=not device.startswith("cuda"),
            )
            BaseTrainer(model, _data(workload, rows), training_config=config, callbacks=[clock]).train()
        total += clock.window.timing(workload.batch)
    return total


def nll(workload: Workload, images: int, seeds: list[int], device: str) -> Timing:
    """Estimate the likelihood of so many pictures by 5,000 draws each, in batches of pythae's own choice."""
    from peers.likelihood import DRAWS

    model, window = made(workload, seeds[0]).to(device).eval(), Window(device)
    x = (pictures(workload)[:images] / 255).to(device)
    with torch.no_grad():
        model.get_nll(x[:1], n_samples=100)
        window.step()
        model.get_nll(x, n_samples=DRAWS)
    window.step()
    return window.timing(images)


class _Clock(TrainingCallback):
    """Hears of each step; of epochs, nothing: copying the best model is not counted."""

    def __init__(self, device: str) -> None:
        self.window = Window(device)

    def on_train_step_end(self, training_config: Any, **_: Any) -> None:
        self.window.step()


@lru_cache(1)
def _whole(workload: Workload) -> Tensor:
    return pictures(workload) / 255


def _data(workload: Workload, rows: int) -> BaseDataset:
    return BaseDataset(_whole(workload)[:rows], torch.zeros(rows))
