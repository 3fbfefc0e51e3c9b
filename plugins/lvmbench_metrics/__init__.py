"""The built-in metrics, each tested against a reference that is not itself."""

from lvmbench import Entry, hookimpl

_METRICS = {  # by the module that holds them: name and summary
    "likelihood": {
        "elbo": "evidence lower bound on log p(x), nats",
        "iw-bound": "importance-weighted bound on log p(x) at K draws, nats",
        "log-likelihood": "exact log p(x), nats",
        "bits-per-dim": "exact likelihood or bound, in bits per pixel value",
        "rate": "information that q(z|x) carries beyond the prior, nats",
        "distortion": "what z leaves untold of the picture, nats",
    },
    "annealed": {
        "ais": "annealed lower bound on log p(x) of some test rows, nats",
        "ais-lower": "annealed lower bound on pictures that the model drew, nats",
        "ais-upper": "annealed upper bound on the same pictures, nats",
        "ais-importance": "importance-weighted bound on the same pictures, nats",
    },
    "reconstruction": {
        "mse": "squared error of the decoded posterior mean, per pixel value",
        "psnr": "peak signal-to-noise ratio of the reconstruction, dB",
        "ssim": "structural similarity of the reconstruction",
    },
    "latents": {
        "active-units": "latent dimensions whose posterior mean moves with the picture",
    },
    "aggregate_posterior": {
        "total-correlation": "how far the dimensions of z hang together, nats",
        "index-code-mi": "how well z tells which row it came from, at most log N, nats",
        "dimwise-kl": "how far each dimension of z is from its prior, nats",
        "gaussian-tc": "total correlation of the codes' covariance, nats",
    },
    "probes": {
        "auroc": "area under the ROC curve of a linear probe of z",
        "balanced-accuracy": "mean recall over classes of a linear probe of z",
        "r2": "share of a number's variance that a linear probe of z predicts",
        "spearman": "rank correlation of a linear probe of z with numbers and ordered classes",
        "average-precision": "area under precision over recall, for rare classes",
        "within-gender-auroc": "AUROC within each class of Male, or another attribute",
    },
    "usable": {
        "usable-information": "share of the label entropy that a linear probe of z saves",
        "usable-bits": "bits a row that a linear probe of z saves",
    },
    "calibration": {
        "ece": "how far p(attribute|z) is from the share of rows that have it",
    },
    "mlp": {
        "mlp-auroc": "AUROC of a probe with a hidden layer",
        "mlp-gap": "AUROC of a probe with a hidden layer beyond the linear one's",
    },
    "neighbours": {
        "knn-balanced-accuracy": "mean recall over classes of 20 neighbours in z",
    },
    "few": {
        "auroc-100": "AUROC of a linear probe that saw 100 labels",
    },
    "codelength": {
        "codelength": "bits a label to send the training labels, given z",
    },
    "dimensions": {
        "best-dimension": "AUROC of the best single dimension of z",
        "dimension-gap": "AUROC of the best single dimension beyond the second",
        "best-dimension-spearman": "rank correlation of a number with the best single dimension of z",
    },
    "prevalence": {
        "prevalence": "share of the second of two classes, of the commonest of several",
        "label-entropy": "entropy of an attribute's labels, bits",
    },
    "clusters": {
        "purity": "share of test rows in the majority class of their cluster",
        "majority-share": "share of the commonest class: the purity of no clusters",
        "adjusted-purity": "purity beyond that of permuted labels, 1 is perfect",
        "nmi": "normalised mutual information, which rises with the number of clusters",
        "ami": "adjusted mutual information of clusters and classes",
        "rand-index": "share of pairs of rows on which clusters and classes agree",
        "ari": "adjusted Rand index of clusters and classes",
    },
    "naming": {
        "named-clusters": "share of test rows in clusters whose name holds",
        "gmm-clusters": "components that explain the codes of unseen pictures best",
    },
    "densities": {
        "density-bits": "information on a value that the densities p(z|value) hold",
    },
    "generation": {
        "generated-share": "pictures drawn for a value that bear it",
        "generated-lift": "the same beyond draws of the density of all codes",
        "reconstructed-share": "reconstructions that bear the picture's value",
        "judge-accuracy": "test pictures that the judge is right about",
    },
    "edits": {
        "edit-success": "pictures edited in z that bear the value asked for",
        "edit-specificity": "other values that stay as they were after an edit",
    },
    "disentanglement": {
        "mig-quantile20": "mutual information gap, 20 bins of equally many rows",
        "mig-width20": "mutual information gap, 20 bins of equal width",
        "mig-sup-quantile20": "the gap between attributes of a dimension",
        "modularity-quantile20": "whether a dimension tells of one attribute only",
        "dcimig-quantile20": "lead of the dimensions of all attributes",
    },
    "axes": {
        "sap-auroc": "lead of the best single dimension over the next, in |2 AUROC - 1|",
        "tad": "total lead in AUROC of the best single dimensions",
        "explicitness": "mean over attributes of the linear probe's AUROC, 0 is chance",
    },
    "dci": {
        "dci-disentanglement-logistic": "whether a dimension matters to one attribute only, by sparse linear readers",
        "dci-completeness-logistic": "whether one dimension only matters to an attribute, by sparse linear readers",
        "dci-informativeness-logistic": "what sparse linear readers find, 0 is chance",
        "dci-disentanglement-gbt": "whether a dimension matters to one attribute only, by gradient-boosted trees",
        "dci-completeness-gbt": "whether one dimension only matters to an attribute, by gradient-boosted trees",
        "dci-informativeness-gbt": "what gradient-boosted trees find, 0 is chance",
    },
    "interventions": {
        "beta-vae-score": "whether a factor that pairs of pictures share can be told from their codes' differences",
        "factor-vae-score": "whether the dimension that varies least names the factor that is held",
        "irs": "how little a dimension moves while its factor is held",
    },
}
_BY_NAME = {  # they cost too much
    "gmm-clusters",
    "edit-success",
    "edit-specificity",
    "dci-disentanglement-gbt",
    "dci-completeness-gbt",
    "dci-informativeness-gbt",
    "beta-vae-score",
    "factor-vae-score",
    "irs",
    "ais",
    "ais-lower",
    "ais-upper",
    "ais-importance",
}
_BY_DEFAULT = {
    "elbo", "iw-bound", "log-likelihood", "bits-per-dim", "rate", "distortion", "mse", "psnr", "ssim", "active-units",
    "auroc", "balanced-accuracy", "r2", "average-precision", "within-gender-auroc", "spearman", "usable-information",
    "usable-bits", "prevalence", "label-entropy", "purity", "majority-share", "adjusted-purity", "ami", "ari",
    "generated-share", "generated-lift", "reconstructed-share", "judge-accuracy",
}  # fmt: skip
_EXPLANATIONS = {
    "drawing": "What the model draws",
    "traversals": "Traversals",
    "clusters": "Clusters and their names",
    "reading": "Reading an attribute",
    "generation": "Generating an attribute",
    "editing": "Editing an attribute",
    "map": "A map of z",
}
_OTHER_K = ({"k": "classes"}, {"k": 64}, {"k": "codebook"})
_ALSO = {
    **dict.fromkeys(("purity", "adjusted-purity", "ami", "ari"), _OTHER_K),
    "named-clusters": ({"k": "likelihood"},),
}


@hookimpl
def lvmbench_metrics() -> dict[str, Entry]:
    """Return the metrics by name, each imported when it is first asked for."""
    return {name: _entry(module, name) for module, names in _METRICS.items() for name in names}


def _entry(module: str, name: str) -> Entry:
    return Entry(
        f"lvmbench_metrics.{module}:{name.replace('-', '_')}",
        summary=_METRICS[module][name],
        taken="by default" if name in _BY_DEFAULT else "by name" if name in _BY_NAME else "in full",
        also=_ALSO.get(name, ()),
    )


@hookimpl
def lvmbench_explanations() -> dict[str, Entry]:
    """Return the parts of the page of a fit by name, in their order."""
    return {
        name: Entry(f"lvmbench_metrics.pages.{name}:section", summary=title)
        for name, title in _EXPLANATIONS.items()
    }
