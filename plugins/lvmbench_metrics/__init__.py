"""The built-in metrics, each tested against a reference that is not itself."""

from lvmbench import Entry, hookimpl

_SUMMARIES = {
    "elbo": ("likelihood:elbo", "evidence lower bound on log p(x), nats"),
    "iw-bound": ("likelihood:iw_bound", "importance-weighted bound on log p(x) at K draws, nats"),
    "log-likelihood": ("likelihood:log_likelihood", "exact log p(x), nats"),
    "bits-per-dim": ("likelihood:bits_per_dim", "exact likelihood or bound, in bits per pixel value"),
    "rate": ("likelihood:rate", "information that q(z|x) carries beyond the prior, nats"),
    "distortion": ("likelihood:distortion", "what z leaves untold of the picture, nats"),
    "mse": ("reconstruction:mse", "squared error of the decoded posterior mean, per pixel value"),
    "psnr": ("reconstruction:psnr", "peak signal-to-noise ratio of the reconstruction, dB"),
    "ssim": ("reconstruction:ssim", "structural similarity of the reconstruction"),
    "active-units": ("latents:active_units", "latent dimensions whose posterior mean moves with the picture"),
    "purity": ("clusters:purity", "share of test rows in the majority class of their cluster"),
    "majority-share": ("clusters:majority_share", "share of the commonest class: the purity of no clusters"),
    "adjusted-purity": ("clusters:adjusted_purity", "purity beyond that of permuted labels, 1 is perfect"),
    "nmi": ("clusters:nmi", "normalised mutual information, which rises with the number of clusters"),
    "ami": ("clusters:ami", "adjusted mutual information of clusters and classes"),
    "rand-index": ("clusters:rand_index", "share of pairs of rows on which clusters and classes agree"),
    "ari": ("clusters:ari", "adjusted Rand index of clusters and classes"),
    "auroc": ("probes:auroc", "area under the ROC curve of a linear probe of z"),
    "balanced-accuracy": ("probes:balanced_accuracy", "mean recall over classes of a linear probe of z"),
    "r2": ("probes:r2", "share of a number's variance that a linear probe of z predicts"),
    "spearman": (
        "probes:spearman",
        "rank correlation of a linear probe of z with numbers and ordered classes",
    ),
    "average-precision": ("probes:average_precision", "area under precision over recall, for rare classes"),
    "within-gender-auroc": (
        "probes:within_gender_auroc",
        "AUROC within each class of Male, or another attribute",
    ),
    "usable-information": (
        "usable:usable_information",
        "share of the label entropy that a linear probe of z saves",
    ),
    "usable-bits": ("usable:usable_bits", "bits a row that a linear probe of z saves"),
    "ece": ("calibration:ece", "how far p(attribute|z) is from the share of rows that have it"),
    "mlp-auroc": ("mlp:mlp_auroc", "AUROC of a probe with a hidden layer"),
    "mlp-gap": ("mlp:mlp_gap", "AUROC of a probe with a hidden layer beyond the linear one's"),
    "knn-balanced-accuracy": (
        "neighbours:knn_balanced_accuracy",
        "mean recall over classes of 20 neighbours in z",
    ),
    "best-dimension": ("dimensions:best_dimension", "AUROC of the best single dimension of z"),
    "dimension-gap": ("dimensions:dimension_gap", "AUROC of the best single dimension beyond the second"),
    "best-dimension-spearman": (
        "dimensions:best_dimension_spearman",
        "rank correlation of a number with the best single dimension of z",
    ),
    "auroc-100": ("few:auroc_100", "AUROC of a linear probe that saw 100 labels"),
    "codelength": ("codelength:codelength", "bits a label to send the training labels, given z"),
    "prevalence": (
        "prevalence:prevalence",
        "share of the second of two classes, of the commonest of several",
    ),
    "label-entropy": ("prevalence:label_entropy", "entropy of an attribute's labels, bits"),
    "named-clusters": ("naming:named_clusters", "share of test rows in clusters whose name holds"),
    "density-bits": ("densities:density_bits", "information on a value that the densities p(z|value) hold"),
    "generated-share": ("generation:generated_share", "pictures drawn for a value that bear it"),
    "generated-lift": ("generation:generated_lift", "the same beyond draws of the density of all codes"),
    "reconstructed-share": (
        "generation:reconstructed_share",
        "reconstructions that bear the picture's value",
    ),
    "judge-accuracy": ("generation:judge_accuracy", "test pictures that the judge is right about"),
    "mig-quantile20": (
        "disentanglement:mig_quantile20",
        "mutual information gap, 20 bins of equally many rows",
    ),
    "mig-width20": ("disentanglement:mig_width20", "mutual information gap, 20 bins of equal width"),
    "mig-sup-quantile20": ("disentanglement:mig_sup_quantile20", "the gap between attributes of a dimension"),
    "modularity-quantile20": (
        "disentanglement:modularity_quantile20",
        "whether a dimension tells of one attribute only",
    ),
    "dcimig-quantile20": ("disentanglement:dcimig_quantile20", "lead of the dimensions of all attributes"),
    "sap-auroc": ("axes:sap_auroc", "lead of the best single dimension over the next, in |2 AUROC - 1|"),
    "tad": ("axes:tad", "total lead in AUROC of the best single dimensions"),
    "explicitness": ("axes:explicitness", "mean over attributes of the linear probe's AUROC, 0 is chance"),
    "dci-disentanglement-logistic": (
        "dci:dci_disentanglement_logistic",
        "whether a dimension matters to one attribute only, by sparse linear readers",
    ),
    "dci-completeness-logistic": (
        "dci:dci_completeness_logistic",
        "whether one dimension only matters to an attribute, by sparse linear readers",
    ),
    "dci-informativeness-logistic": (
        "dci:dci_informativeness_logistic",
        "what sparse linear readers find, 0 is chance",
    ),
    "total-correlation": (
        "aggregate_posterior:total_correlation",
        "how far the dimensions of z hang together, nats",
    ),
    "index-code-mi": (
        "aggregate_posterior:index_code_mi",
        "how well z tells which row it came from, at most log N, nats",
    ),
    "dimwise-kl": ("aggregate_posterior:dimwise_kl", "how far each dimension of z is from its prior, nats"),
    "gaussian-tc": ("aggregate_posterior:gaussian_tc", "total correlation of the codes' covariance, nats"),
}
_ON_REQUEST = {
    "gmm-clusters": ("naming:gmm_clusters", "components that explain the codes of unseen pictures best"),
    "edit-success": ("edits:edit_success", "pictures edited in z that bear the value asked for"),
    "edit-specificity": ("edits:edit_specificity", "other values that stay as they were after an edit"),
    "dci-disentanglement-gbt": (
        "dci:dci_disentanglement_gbt",
        "whether a dimension matters to one attribute only, by gradient-boosted trees",
    ),
    "dci-completeness-gbt": (
        "dci:dci_completeness_gbt",
        "whether one dimension only matters to an attribute, by gradient-boosted trees",
    ),
    "dci-informativeness-gbt": (
        "dci:dci_informativeness_gbt",
        "what gradient-boosted trees find, 0 is chance",
    ),
    "beta-vae-score": (
        "interventions:beta_vae_score",
        "whether a factor that pairs of pictures share can be told from their codes' differences",
    ),
    "factor-vae-score": (
        "interventions:factor_vae_score",
        "whether the dimension that varies least names the factor that is held",
    ),
    "irs": ("interventions:irs", "how little a dimension moves while its factor is held"),
    "ais": ("annealed:ais", "annealed lower bound on log p(x) of some test rows, nats"),
    "ais-lower": ("annealed:ais_lower", "annealed lower bound on pictures that the model drew, nats"),
    "ais-upper": ("annealed:ais_upper", "annealed upper bound on the same pictures, nats"),
    "ais-importance": ("annealed:ais_importance", "importance-weighted bound on the same pictures, nats"),
}
_SEVERAL_K = ({"k": "classes"}, {"k": 64})
_ALSO = {"adjusted-purity": _SEVERAL_K, "ami": _SEVERAL_K, "named-clusters": ({"k": "likelihood"},)}


@hookimpl
def lvmbench_metrics() -> dict[str, Entry]:
    """Return the metrics by name, each imported when it is first asked for."""
    return {
        name: Entry(
            f"lvmbench_metrics.{target}",
            summary=summary,
            on_request=name in _ON_REQUEST,
            also=_ALSO.get(name, ()),
        )
        for name, (target, summary) in {**_SUMMARIES, **_ON_REQUEST}.items()
    }


_EXPLANATIONS = {
    "drawing": "What the model draws",
    "traversals": "Traversals",
    "clusters": "Clusters and their names",
    "reading": "Reading an attribute",
    "generation": "Generating an attribute",
    "editing": "Editing an attribute",
    "map": "A map of z",
}


@hookimpl
def lvmbench_explanations() -> dict[str, Entry]:
    """Return the parts of the page of a fit by name, in their order."""
    return {
        name: Entry(f"lvmbench_metrics.pages.{name}:section", summary=title)
        for name, title in _EXPLANATIONS.items()
    }
