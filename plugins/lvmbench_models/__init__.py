"""The built-in models: the four of the question, and the controls that give their figures a meaning."""

from collections.abc import Mapping

import lvmbench


@lvmbench.hookimpl
def lvmbench_models() -> Mapping[str, lvmbench.Entry]:
    """Return the models by name, each imported only when it is asked for."""
    return {
        "vae": lvmbench.Entry("lvmbench_models.vae:VAE", "continuous z, the reference"),
        "beta-vae": lvmbench.Entry("lvmbench_models.vae:BetaVAE", "the VAE with a weighted rate"),
        "iwae": lvmbench.Entry("lvmbench_models.vae:IWAE", "the VAE fitted to the bound of k draws"),
        "discrete": lvmbench.Entry(
            "lvmbench_models.discrete:Discrete", "categorical variables in place of z"
        ),
        "pca": lvmbench.Entry("lvmbench_models.pca:PCA", "probabilistic PCA, exact log p(x)", role="floor"),
        "random-encoder": lvmbench.Entry(
            "lvmbench_models.controls:RandomEncoder", "the VAE's encoder before training", role="floor"
        ),
        "supervised": lvmbench.Entry(
            "lvmbench_models.controls:Supervised", "a classifier that sees the labels", role="ceiling"
        ),
    }
