"""The engine against a closed form: a linear VAE's optimum is probabilistic PCA (Lucas et al. 2019)."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

import lvmbench
from lvmbench import Budget, Schema, Split, build, fit, gaussian

SCHEMA = Schema((1, 4, 5), "gaussian")
ROWS, D, Q = 2_000, 20, 3
CENTRE, SPREAD = 0.5, 0.1  # about the mean of a pixel and its spread
BUDGET = Budget(images=600_000, batch=200, learning_rate=0.01, train=ROWS, val=ROWS)


class LinearVAE(lvmbench.VAE):
    """p(x|z) = N(W z + c, s² I) and q(z|x) = N(A x + b, diag t²), with a t that is the same for all x."""

    def __init__(self, schema):
        super().__init__(schema, latent_dim=Q, net="mlp")
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(D, Q))
        self.decoder = nn.Linear(Q, D)
        self.log_t = nn.Parameter(torch.zeros(Q))

    def start(self, train):
        pass

    def posterior(self, x):
        return Independent(Normal(self.encoder((x - CENTRE) / SPREAD), self.log_t.exp()), 1)

    def decode(self, z):
        mean = CENTRE + SPREAD * self.decoder(z)
        return gaussian(mean.unflatten(-1, SCHEMA.shape), self.scale().exp())


def images():
    """Three directions of falling strength in noise, in grey levels; no two eigenvalues are near each other."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(D, D, generator=generator)).Q[:, :Q]
    z = torch.randn(ROWS, Q, generator=generator) * torch.tensor([60.0, 40.0, 25.0])
    noise = 5 * torch.randn(ROWS, D, generator=generator)
    return (128 + z @ axes.T + noise).round().clamp(0, 255).to(torch.uint8).reshape(ROWS, *SCHEMA.shape)


@pytest.fixture(scope="module")
def moments():
    """Mean and covariance of x = (v + u) / 256 over the rows and u, exactly."""
    v = images().flatten(1).double()
    cov = torch.cov(v.T, correction=0) / 256**2 + torch.eye(D).double() / (12 * 256**2)
    return (v.mean(0) + 0.5) / 256, cov


@pytest.fixture(scope="module")
def trained():
    split = Split(images(), torch.zeros(ROWS, 0), torch.arange(ROWS))
    model = build(LinearVAE, SCHEMA, {}, seed=0)
    fit(model, split, split, BUDGET, SCHEMA, seed=0)
    return model.double()


def mean_elbo(model, mean, cov):
    """Return the ELBO's mean over x of this mean and covariance, in closed form."""
    (_, first), last = model.encoder, model.decoder
    a, w = first.weight / SPREAD, SPREAD * last.weight
    b, c = first.bias - a @ torch.full((D,), CENTRE).double(), CENTRE + SPREAD * last.bias
    t2, s2 = (2 * model.log_t).exp(), (2 * model.scale()).exp()
    z, left = a @ mean + b, torch.eye(D).double() - w @ a
    off = left @ mean - w @ b - c
    error = (left @ cov @ left.T).trace() + off @ off + (w * w * t2).sum()
    rate = 0.5 * (t2 + (a @ cov @ a.T).diag() + z**2 - 1 - t2.log()).sum()
    return float(-D / 2 * torch.log(2 * math.pi * s2) - error / (2 * s2) - rate)


def ppca_optimum(cov):
    """Return the greatest mean log-likelihood of probabilistic PCA (Tipping & Bishop 1999)."""
    values = torch.linalg.eigvalsh(cov).flip(0)
    noise = values[Q:].mean()
    return float(-0.5 * (D * math.log(2 * math.pi) + values[:Q].log().sum() + (D - Q) * noise.log() + D))


def test_the_linear_vae_reaches_the_likelihood_of_probabilistic_pca(trained, moments):
    with torch.no_grad():
        found = mean_elbo(trained, *moments)
    best = ppca_optimum(moments[1])
    assert best - 0.05 < found <= best + 1e-6


def test_the_linear_vae_finds_the_principal_subspace_to_a_degree(trained, moments):
    vectors = torch.linalg.eigh(moments[1]).eigenvectors[:, -Q:]
    basis = torch.linalg.qr(trained.decoder.weight.detach()).Q
    cosines = torch.linalg.svdvals(vectors.T @ basis)
    assert math.degrees(math.acos(min(1.0, float(cosines.min())))) < 1
