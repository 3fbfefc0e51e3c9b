"""Models and metrics that do what no plugin should."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Literal

import torch

import lvmbench
from lvmbench import Attribute, Budget, DataError, Evaluation, Finding, Schema, Split, cached
from lvmbench.checkpoints import Checkpoints


class Means:
    """Encodes the mean of each row of pixels; learns nothing."""

    def __init__(self, schema: Schema) -> None:
        pass

    def encode(self, x):
        return x.mean(dim=(1, 3))

    def state_dict(self):
        return {}

    def load_state_dict(self, weights):
        pass

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        pass


class Raises(Means):
    def fit(self, train, budget, seed):
        print("about to fail")
        raise RuntimeError(f"seed {seed} is not to my taste")


class Leaves(Means):
    def fit(self, train, budget, seed):
        sys.exit(0)


class Crashes(Means):
    def fit(self, train, budget, seed):
        os.kill(os.getpid(), signal.SIGSEGV)


class IsKilledOnce(Means):
    """Dies on its first attempt only, like a victim of somebody else's memory."""

    def __init__(self, schema: Schema, *, mark: str = "") -> None:
        self.mark = Path(mark)

    def fit(self, train, budget, seed):
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Hangs(Means):
    def fit(self, train, budget, seed):
        time.sleep(600)


class Babbles(Means):
    def fit(self, train, budget, seed):
        for _ in range(20_000):
            print("x" * 1000)


class NaNAtStep(lvmbench.VAE):
    """Its loss is no number from one step on."""

    def __init__(self, schema: Schema, *, step: int = 3) -> None:
        super().__init__(schema, latent_dim=2, net="mlp")
        self.step, self.calls = step, 0

    def loss(self, x):
        if self.training:
            self.calls += 1
        terms = super().loss(x)
        return {**terms, "rate": terms["rate"] * (float("nan") if self.calls > self.step else 1.0)}


class DiesInTraining(lvmbench.VAE):
    """Is kept after each step, which it notes in a file; dies at one of them, once, where a mark says so."""

    def __init__(self, schema: Schema, *, mark: str = "", step: int = 9) -> None:
        super().__init__(schema, latent_dim=2, net="mlp")
        self.mark, self.step, self.steps = Path(mark), step, 0

    def start(self, train):
        super().start(train)
        Checkpoints.due = lambda keep: True  # in this process, which is a worker

    def after_step(self):
        self.steps += 1
        with self.mark.with_suffix(".steps").open("a") as file:
            file.write(f"{self.steps}\n")
        if self.steps == self.step and self.mark.exists():
            whom = self.mark.read_text()
            self.mark.unlink()
            if whom == "main":
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)


@lvmbench.metric(better="higher")
def raises(ev: Evaluation) -> float:
    """Raise."""
    raise ValueError("no such luck")


@lvmbench.metric(better="higher")
def no_number(ev: Evaluation) -> float:
    """Return what is no number."""
    return float("nan")


class Stained:
    """Stripes that are upright or lie, kept in the cache, of files that are not as they should be."""

    schema = Schema((1, 28, 28), "bernoulli", (Attribute("Upright", "binary"),))

    def __init__(
        self, *, fault: Literal["no", "data", "other"] = "no", drop_duplicates: bool = False
    ) -> None:
        self.fault = fault
        self.fingerprint = f"stained {fault} {drop_duplicates}"
        self.findings = [
            Finding("row without a picture", f"a.csv, line {i}: 'x{i}.png'", "left out") for i in (3, 7)
        ]

    def split(self, name, limit=None):
        if self.fault == "data":
            raise DataError("stained: pictures.zip ends within a picture. Fetch it again.")
        if self.fault == "other":
            raise ZeroDivisionError("stained by zero")
        self.findings.append(Finding("alpha", f"pictures.zip: '{name}.png'", "changed", "laid on white"))
        n = min(limit or 64, 64)
        start = 1000 * ("train", "val", "test").index(name)
        images = cached(f"stained/{name}", n, _stripes)
        return Split(images, (torch.arange(n) % 2).float()[:, None], torch.arange(n) + start)


def _stripes(places):
    bars = (255 * (torch.arange(28) // 4 % 2)).to(torch.uint8).expand(len(places), 1, 28, 28)
    upright = torch.from_numpy(places % 2 == 1)[:, None, None, None]
    return torch.where(upright, bars, bars.transpose(2, 3))


@lvmbench.hookimpl
def lvmbench_datasets():
    return {"stained": Stained}


@lvmbench.hookimpl
def lvmbench_models():
    return {
        "means": Means,
        "raises": Raises,
        "leaves": Leaves,
        "crashes": Crashes,
        "is-killed-once": IsKilledOnce,
        "hangs": Hangs,
        "babbles": Babbles,
        "nan-at-step": NaNAtStep,
        "dies-in-training": DiesInTraining,
    }


@lvmbench.hookimpl
def lvmbench_metrics():
    return {"raises": raises, "no-number": no_number}
