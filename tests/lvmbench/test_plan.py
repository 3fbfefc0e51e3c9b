import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.data import Attribute, Schema
from lvmbench.errors import UsageError
from lvmbench.plan import plan
from lvmbench.spec import BUDGETS, Spec
from tests_support import catalog_of, plugin


@pytest.fixture
def catalog(strangers):
    return Catalog.discover()


def spec(**changes):
    return Spec(**{"models": "vae", "dataset": "stripes", "seeds": 1, "metrics": "elbo", **changes})


def labels(planned):
    return list(dict.fromkeys(cell.label for cell in planned.cells))


def test_a_grid_of_models_and_seeds_gives_a_cell_each(catalog):
    planned = plan(spec(models="vae,beta-vae(beta=1,4,16)", seeds=2, controls=False), catalog)
    assert labels(planned) == ["vae", "beta-vae(beta=1)", "beta-vae", "beta-vae(beta=16)"]
    assert len(planned.cells) == 8
    assert len({cell.fit_key for cell in planned.cells}) == 8


def test_controls_take_over_the_size_of_the_models(catalog):
    planned = plan(spec(models="vae(latent_dim=4),vae(latent_dim=8)"), catalog)
    floors = {(c.model, c.model_options["latent_dim"]) for c in planned.cells if c.role == "floor"}
    assert floors == {(f"lvmbench:{m}", d) for m in ("pca", "random-encoder") for d in (4, 8)}
    assert sum(c.role == "ceiling" for c in planned.cells) == 1


def test_floors_have_as_many_numbers_as_the_code_has_variables(catalog):
    planned = plan(spec(models="discrete(groups=5,classes=3)"), catalog)
    floors = {(c.model, c.model_options["latent_dim"]) for c in planned.cells if c.role == "floor"}
    assert floors == {("lvmbench:pca", 5), ("lvmbench:random-encoder", 5)}


def test_the_first_model_is_scored_once_more_on_permuted_labels_by_what_reads_labels(catalog):
    planned = plan(spec(models="made,vae,beta-vae", metrics="elbo,auroc,judge-accuracy"), catalog)
    (told,) = {(c.label, c.role) for c in planned.cells if c.labels == "permuted"}
    assert told == ("vae, labels permuted", "control")
    cell = next(c for c in planned.cells if c.labels == "permuted")
    base = next(c for c in planned.cells if c.label == "vae")
    assert cell.fit_key == base.fit_key  # nothing is trained for it
    assert [m.label for m in planned.measures_of(cell)] == ["auroc"]
    assert [m.label for m in planned.measures_of(base)] == ["elbo", "auroc", "judge-accuracy"]
    auroc = planned.measures[1]
    assert auroc.key(cell) != auroc.key(base)


def test_without_a_metric_that_reads_labels_there_is_nothing_to_permute(catalog):
    planned = plan(spec(models="vae", metrics="elbo"), catalog)
    assert {c.labels for c in planned.cells} == {"given"}


def test_a_control_that_the_data_do_not_allow_is_left_out(catalog):
    def models(dataset):
        return {c.model for c in plan(spec(models="vae(net=mlp)", dataset=dataset), catalog).cells}

    assert models("faces") - models("stripes") == {"lvmbench:gender-only"}


def test_raw_pixels_have_their_size_in_their_name(catalog):
    assert "pixels(size=8)" in labels(plan(spec(models="vae"), catalog))


def test_a_model_that_no_seed_changes_has_one_cell(catalog):
    planned = plan(spec(models="vae", seeds=[3, 7]), catalog)
    seeds = {
        m: [c.seed for c in planned.cells if c.model == f"lvmbench:{m}"] for m in ("pca", "random-encoder")
    }
    assert seeds == {"pca": [3], "random-encoder": [3, 7]}


def test_in_full_a_metric_is_taken_with_its_further_options_too(catalog):
    item = catalog.get("metric", "lvmbench:ami")
    also = replace(item, entry=replace(item.entry, also=({"k": 5},)))
    known = SimpleNamespace(
        items=lambda noun: [also] if noun == "metric" else catalog.items(noun),
        get=lambda noun, name: also if noun == "metric" else catalog.get(noun, name),
    )
    planned = plan(spec(models="vae", metrics="full", controls=False), known)
    assert [(m.label, m.options["k"]) for m in planned.measures] == [("ami", 16), ("ami(k=5)", 5)]


def test_a_control_that_is_asked_for_is_not_added_again(catalog):
    planned = plan(spec(models="vae,pca(latent_dim=3)"), catalog)
    assert [c.model_options["latent_dim"] for c in planned.cells if c.model == "lvmbench:pca"] == [3]


def test_the_same_model_asked_twice_is_one(catalog):
    assert len(plan(spec(models="vae,vae(latent_dim=16)", controls=False), catalog).cells) == 1


def test_a_strangers_model_metric_and_data_set_work_as_the_built_in_ones(catalog):
    planned = plan(spec(models="free-bits(nats=0.5,latent_dim=4)", metrics="code-norm"), catalog)
    assert planned.cells[0].model_options == {"nats": 0.5, "latent_dim": 4, "net": "conv"}
    assert [m.label for m in planned.measures] == ["code-norm"]


def test_all_models_are_every_model_that_is_installed_and_no_control(catalog):
    whole = Catalog([p for p in catalog.plugins if p.dist in ("lvmbench", "lvmbench-stranger")])
    planned = plan(spec(models="all", controls=False), whole)
    asked = {(c.model, c.role) for c in planned.cells}
    assert {("lvmbench:vae", "model"), ("lvmbench-stranger:free-bits", "model")} <= asked
    assert {role for _, role in asked} == {"model"}
    with pytest.raises(UsageError, match=r"'all\(latent_dim=8\)': models have options each of their own"):
        plan(spec(models="all(latent_dim=8)"), whole)
    both = plan(spec(models="all,beta-vae(beta=2)", controls=False), whole)
    assert len(both.cells) == len(planned.cells) + 1


def test_a_constructor_may_refuse_options_that_go_ill_together_before_anything_is_trained(catalog):
    with pytest.raises(UsageError, match=r"info-vae\(lam=0.5\): alpha=0 and lam=0.5 weigh"):
        plan(spec(models="vae,info-vae(lam=0.5)"), catalog)
    with pytest.raises(UsageError, match="there are more groups than dimensions"):
        plan(spec(models="vq-vae(groups=8,latent_dim=4)"), catalog)


def test_a_constructor_that_cannot_work_for_another_reason_is_left_to_its_cell(catalog):
    assert plan(spec(models="sigma-vae", controls=False), catalog).cells  # of bernoulli pixels


def test_a_run_takes_its_default_metrics_all_in_full_and_the_costly_ones_only_by_name(catalog):
    default, full = ({m.label for m in plan(spec(metrics=m), catalog).measures} for m in ("default", "full"))
    assert "auroc" in default & full
    assert {"mlp-auroc", "ami(k=64)"} <= full - default
    assert not {"ais", "ais-lower"} & full
    assert [m.label for m in plan(spec(metrics="ais"), catalog).measures] == ["ais"]
    both = plan(spec(metrics="default,ais"), catalog).measures
    assert {m.label for m in both} == default | {"ais"}


def test_default_metrics_are_those_of_lvmbench_alone(catalog):
    names = {m.label for m in plan(spec(metrics="default"), catalog).measures}
    assert {"elbo", "auroc"} <= names
    assert not {"raises", "code-norm"} & names


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"models": "bvae"}, "No model 'bvae'"),
        ({"models": ""}, "No model was asked for. Known: vae"),
        ({"models": "vae(lattent_dim=3)"}, r"no option 'lattent_dim'. Did you mean 'latent_dim'\?"),
        ({"models": "lvmbench:iwae(k=0)"}, "k = 0"),
        ({"metrics": "elbow"}, r"No metric 'elbow'. Did you mean 'elbo'\?"),
        ({"dataset": "face"}, "No data ?set 'face'|No dataset 'face'. Did you mean 'faces'"),
        ({"budget": "quik"}, r"No budget 'quik'. Did you mean 'quick'\?"),
        ({"seeds": 0}, "seeds = 0"),
        ({"seeds": [1, 1]}, r"seeds = \[1, 1\]"),
    ],
)
def test_what_does_not_exist_is_refused_with_a_remedy(catalog, changes, told):
    with pytest.raises(UsageError, match=told):
        plan(spec(**changes), catalog)


def key(catalog, **changes):
    return plan(spec(controls=False, **changes), catalog).cells[0].fit_key


def test_what_decides_the_weights_changes_the_fit_key(catalog):
    quick = BUDGETS["quick"]
    variants = [
        {},
        {"models": "vae(latent_dim=3)"},
        {"models": "beta-vae"},
        {"seeds": [5]},
        {"dataset": "faces(size=32)"},
        {"budget": replace(quick, images=quick.images + 64)},
        {"budget": replace(quick, learning_rate=3e-3)},
    ]
    assert len({key(catalog, **v) for v in variants}) == len(variants)
    assert plan(spec(), catalog, "cuda").cells[0].fit_key != key(catalog)


def test_what_does_not_decide_the_weights_leaves_the_fit_key(catalog):
    quick = BUDGETS["quick"]
    assert key(catalog) == key(catalog, models="vae(latent_dim=16,net=conv)")
    assert key(catalog) == key(catalog, budget=replace(quick, name="other", test=100, draws=7))


def folder_of(content="a", title=""):
    """Return a data set that lies in some folder, where nothing but its content tells one from another."""

    class Folder:
        schema = Schema((1, 4, 4), "bernoulli", (Attribute("Upright", "binary"),))
        fingerprint = content

        def __init__(self, *, root="here"):
            self.title = title

    return Folder


def folders(dataset, **made):
    models = {"means": SimpleNamespace}
    return plan(Spec("means", dataset, "", 1, controls=False), catalog_of(models=models, datasets=made))


def test_a_judge_is_of_the_same_data_set_though_another_has_equal_content(catalog):
    known = Catalog(
        [*catalog.plugins, plugin("mine", datasets={"same": catalog.get("dataset", "stripes").load()})]
    )
    cells = plan(spec(dataset="stripes,same"), known).cells
    assert len({cell.fingerprint for cell in cells}) == 1
    own = {cell.dataset: cell.fit_key for cell in cells if cell.role == "ceiling"}
    assert len(set(own.values())) == 2
    assert all(cell.judge == own[cell.dataset] for cell in cells)


def test_data_that_moved_keep_their_results():
    first, second = (folders(d, a=folder_of()).cells[0] for d in ("a(root=here)", "a(root=there)"))
    assert first.dataset_options != second.dataset_options
    assert first.fit_key == second.fit_key
    assert folders("a", a=folder_of("b")).cells[0].fit_key != first.fit_key


def test_the_same_content_under_two_options_is_one_data_set():
    (cell,) = folders("a(root=here,there)", a=folder_of()).cells
    assert cell.dataset_options == {"root": "here"}


def test_a_title_stands_for_the_name_and_the_options_of_a_data_set():
    assert folders("a(root=there)", a=folder_of()).cells[0].dataset_label == "a(root=there)"
    assert folders("a(root=there)", a=folder_of(title="faces-64")).cells[0].dataset_label == "faces-64"


def test_how_finely_a_fit_is_scored_changes_the_score_key_alone(catalog):
    quick = BUDGETS["quick"]
    plans = [plan(spec(budget=b), catalog) for b in (quick, replace(quick, draws=7))]
    first, second = (p.measures[0].key(p.cells[0]) for p in plans)
    assert first != second


def test_a_budget_chooses_the_size_of_the_pictures_unless_they_were_asked_for(catalog):
    def size(**changes):
        return plan(spec(dataset="faces", **changes), catalog).cells[0].dataset_options["size"]

    assert size() == 32
    assert size(budget="standard") == 64
    cell = plan(spec(dataset="faces(size=128)"), catalog).cells[0]
    assert cell.dataset_options["size"] == 128


def test_a_toml_file_means_the_same_as_the_words(catalog, tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(
        'models = ["vae", "beta-vae(beta=1,4)"]\ndataset = "stripes"\nseeds = [0, 2]\nmetrics = "elbo"\n'
    )
    words = spec(models="vae,beta-vae(beta=1,4)", seeds=[0, 2])
    assert plan(Spec.read(path), catalog) == plan(words, catalog)


def test_a_budget_stands_in_a_file_or_in_the_spec(catalog, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("images = 128\nbatch = 32\n")
    assert spec(budget=str(path)).budget_of() == Budget("mine", images=128, batch=32)
    whole = tmp_path / "spec.toml"
    whole.write_text('models = "vae"\n[budget]\nimages = 128\n')
    assert Spec.read(whole).budget_of().images == 128


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modles = 'vae'", r"no key 'modles'. Did you mean 'models'\?"),
        ("models = 3", "models"),
        ("seeds = 'many'", "seeds"),
        ("models = [", "not a TOML file"),
        ("budget = {images = 0}", r"images = 0 must be greater than 0"),
    ],
)
def test_a_faulty_file_is_refused_by_its_name(tmp_path, text, told):
    path = tmp_path / "spec.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=told):
        Spec.read(path)


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path):
    with pytest.raises(UsageError, match=r"none.toml: No such file"):
        Spec.read(tmp_path / "none.toml")


def test_a_precision_of_gpus_is_refused_on_a_processor(catalog):
    asked = Spec("vae", "stripes", precision="tfloat32")
    with pytest.raises(
        UsageError, match="'tfloat32' is one of GPUs. Use bfloat16 or float32, or --device cuda"
    ):
        plan(asked, catalog, "cpu")
    assert {c.precision for c in plan(asked, catalog, "cuda").cells if c.model == "lvmbench:vae"} == {
        "tfloat32"
    }


def test_planning_loads_no_compiler():
    told = """
import sys
from lvmbench.catalog import Catalog
from lvmbench.plan import plan
from lvmbench.spec import Spec
assert plan(Spec("vae,discrete"), Catalog.discover()).cells
print("torch._dynamo" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
