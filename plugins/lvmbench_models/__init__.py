"""The built-in models, a family a file, and the controls that give their figures a meaning."""

from collections.abc import Mapping

from lvmbench import Entry, hookimpl

_MODELS = {
    "vae": ("vae:VAE", "continuous z, the reference"),
    "beta-vae": ("vae:BetaVAE", "the VAE with a weighted rate"),
    "annealed-vae": ("vae:AnnealedVAE", "the VAE whose rate is held at a capacity that grows"),
    "sigma-vae": ("vae:SigmaVAE", "the VAE whose pixel scale is the best for each batch"),
    "iwae": ("importance:IWAE", "the VAE fitted to the bound of k draws; gradients iwae, dreg, stl"),
    "miwae": ("importance:MIWAE", "the VAE fitted to the mean of m bounds of k draws"),
    "piwae": ("importance:PIWAE", "MIWAE for the encoder, IWAE for the decoder"),
    "ciwae": ("importance:CIWAE", "the VAE fitted to a blend of ELBO and bound"),
    "beta-tcvae": ("correlation:BetaTCVAE", "the VAE with a weighted total correlation"),
    "factor-vae": ("correlation:FactorVAE", "the total correlation as a discriminator sees it"),
    "dip-vae-i": ("moments:DIPVAE1", "the covariance of the posterior means held to the identity"),
    "dip-vae-ii": ("moments:DIPVAE2", "the covariance of z held to the identity"),
    "info-vae": ("discrepancy:InfoVAE", "MMD from the prior in place of the rate"),
    "wae": ("discrepancy:WAE", "Wasserstein autoencoder, by MMD; no density of z"),
    "vamp-vae": ("priors:VampVAE", "the VAE whose prior is a mixture of posteriors"),
    "vade": ("priors:VaDE", "the VAE whose prior is a mixture of Gaussians: clusters"),
    "gmvae": ("gmvae:GMVAE", "the VAE with a categorical variable above z"),
    "hvae": ("hierarchical:HVAE", "several stochastic layers"),
    "vq-vae": ("vq:VQVAE", "the nearest entries of a codebook in place of z"),
    "discrete": ("discrete:Discrete", "categorical variables in place of z"),
    "autoencoder": ("vae:Autoencoder", "a code without a density"),
    "factor-analysis": ("factor_analysis:FactorAnalysis", "linear, a noise for each pixel, exact log p(x)"),
    "gaussian-mixture": ("mixture:GaussianMixture", "clusters of pixels, exact log p(x)"),
    "made": ("autoregressive:MADE", "autoregressive, exact log p(x), and no z"),
}
_CONTROLS = {
    "pixels": Entry("lvmbench_models.naive:Pixels", "raw pixels, averaged down", role="control"),
    "gender-only": Entry("lvmbench_models.naive:AttributeOnly", "what gender alone tells", role="control"),
    "majority": Entry("lvmbench_models.naive:Majority", "nothing: the commonest class", role="control"),
    "pca": Entry("lvmbench_models.pca:PCA", "probabilistic PCA, exact log p(x)", role="floor"),
    "random-encoder": Entry(
        "lvmbench_models.controls:RandomEncoder", "the VAE's encoder before training", role="floor"
    ),
    "supervised": Entry(
        "lvmbench_models.controls:Supervised", "a classifier that sees the labels", role="ceiling"
    ),
}


@hookimpl
def lvmbench_models() -> Mapping[str, Entry]:
    """Return the models by name, each imported only when it is asked for."""
    models = {name: Entry(f"lvmbench_models.{place}", told) for name, (place, told) in _MODELS.items()}
    return models | _CONTROLS
