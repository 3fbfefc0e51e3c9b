import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import lvmbench
from lvmbench import explanation, records, runner
from lvmbench.api import Budget, Entry, Section
from lvmbench.catalog import Catalog, Item, Plugin
from lvmbench.environment import Phases
from lvmbench.errors import LvmbenchError, NotApplicable, StoreError, UsageError
from lvmbench.explanation import choose, evaluation, explain, write
from lvmbench.fits import Workshop, stored
from lvmbench.plan import Cell
from lvmbench.records import TEMPORARY, Store
from lvmbench.spec import Spec

TINY = Budget("tiny", images=128, batch=32, train=128, val=32, test=64, draws=4, density_rows=16)
MLP = "vae(net=mlp,latent_dim=2)"


def dot(ev):
    return Section("A dot", "Look: ![a dot](dot.png)", {"dot.png": Image.new("RGB", (4, 4))})


def absent(ev):
    raise NotApplicable("the model gives no decoder")


def broken(ev):
    raise ValueError("no such luck")


def hollow(ev):
    return Section("Hollow", "![nothing](nothing.png)")


def astray(ev):
    return Section("Astray", "![x](../x.png)", {"../x.png": Image.new("RGB", (4, 4))})


def drawn(ev):
    return Section("Drawn", f"{float(torch.rand(()))}")


@pytest.fixture
def bench(strangers, tmp_path):
    def bench(models=MLP, **changes):
        asked = {
            "dataset": "stripes",
            "seeds": 1,
            "metrics": "active-units",
            "budget": TINY,
            "controls": False,
        }
        spec = Spec(models, **{**asked, **changes})
        return runner.answer(spec, Catalog.discover(), runner.Settings(tmp_path / "runs", jobs=0)).records

    return bench


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def viewed(store):
    """Return the view of a record's fit, with what may judge it."""

    def viewed(record, **changes):
        cell = Cell(**{**record.cell, "budget": Budget(**record.cell["budget"]), **changes})
        catalog = Catalog.discover()
        return evaluation(stored(cell, Workshop(catalog, store, "cpu", Phases("cpu"))), cell, store, catalog)

    return viewed


@pytest.fixture
def parts(monkeypatch):
    """Let the catalog hold these explanations and no others."""

    def parts(*functions):
        plugin = Plugin("test", "test", "1", "test")
        items = [Item("explanation", f.__name__, Entry(f, f"About {f.__name__}"), plugin) for f in functions]
        catalog = Catalog.discover()
        catalog._items["explanation"] = {item.name: [item] for item in items}
        monkeypatch.setattr(Catalog, "discover", lambda: catalog)
        return catalog

    return parts


def test_a_page_shows_its_parts_in_order_and_its_pictures_under_their_names(bench, store, parts, tmp_path):
    (record,) = bench()
    catalog = parts(dot, absent, drawn)
    found = write(record, store, catalog, out=tmp_path / "page")
    text = found.page.read_text()
    assert not found.failed
    assert text.startswith("# vae(latent_dim=2,net=mlp) on stripes\n")
    assert (
        "## A dot\n\nLook: ![a dot](dot-dot.png)\n\n## About absent\n\nNot for this model: the model gives"
        in text
    )
    with Image.open(tmp_path / "page" / "dot-dot.png") as image:
        assert image.size == (4, 4)
    assert {p.name for p in (tmp_path / "page").iterdir()} == {"page.md", "dot-dot.png"}


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (MLP, "Learned without labels from 512 pictures: 128 seen, repeats counted. Explained on 64 test"),
        ("factor-analysis(latent_dim=2)", "Learned without labels from 512 pictures. Explained"),
        ("supervised(net=mlp)", "Learned from the labels of 512 pictures: 384 seen, repeats counted."),
        ("random-encoder(net=mlp)", "budget tiny. A floor: what is to be had without training z. Explained"),
        ("majority", "budget tiny. A control: something to compare models with. Explained"),
    ],
)
def test_the_head_says_by_its_role_what_a_fit_learned_from(bench, store, parts, tmp_path, model, told):
    (record,) = bench(model, budget=replace(TINY, train=9_999, test=9_999))
    assert told in write(record, store, parts(dot), out=tmp_path / "page").page.read_text()


def test_two_pages_of_one_fit_are_the_same(bench, store, parts, tmp_path):
    (record,) = bench()
    pages = [write(record, store, parts(drawn), out=tmp_path / name).page.read_text() for name in ("a", "b")]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("part", "told"),
    [(broken, "ValueError: no such luck"), (hollow, "shows nothing.png"), (astray, "'../x.png' is no name")],
)
def test_a_part_that_fails_says_so_and_takes_no_other_along(bench, store, parts, tmp_path, part, told):
    (record,) = bench()
    found = write(record, store, parts(part, dot), out=tmp_path / "page")
    text = found.page.read_text()
    assert found.failed == (part.__name__,)
    assert f"## About {part.__name__}\n\n**This part failed**" in text
    assert told in text
    assert "## A dot" in text


def test_python_gives_the_path_and_raises_where_a_part_failed(bench, parts, tmp_path):
    (record,) = bench()
    parts(dot, broken)
    page = lvmbench.explain(record, results=tmp_path / "runs", only=["dot"])
    assert page == tmp_path / "runs/explain" / f"vae(latent_dim=2,net=mlp)-seed0-{record.fit_key[:8]}/page.md"
    with pytest.raises(LvmbenchError, match="these parts failed: broken"):
        explain(record, results=tmp_path / "runs", out=tmp_path / "page")


def test_a_page_that_cannot_be_written_leaves_what_was_there(bench, store, parts, tmp_path, monkeypatch):
    (record,) = bench()
    out = tmp_path / "page"
    write(record, store, parts(dot), out=out)
    before = (out / "page.md").read_text()

    def full(path, blob):
        raise OSError(28, "No space left on device")

    catalog = parts(drawn)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(StoreError, match="No space left"):
            write(record, store, catalog, out=out)

    calls, rename = [], Path.rename

    def fails_in_the_middle(path, target):
        calls.append(path)
        if len(calls) == 2:  # the old page is out of the way, the new one not yet in its place
            raise OSError(5, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fails_in_the_middle)
        with pytest.raises(StoreError, match="Input/output"):
            write(record, store, catalog, out=out)
    assert (out / "page.md").read_text() == before
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("calls_before", [1, 2])
def test_an_interrupt_at_any_moment_of_the_exchange_leaves_a_page(
    bench, store, parts, tmp_path, monkeypatch, calls_before
):
    (record,) = bench()
    out = tmp_path / "page"
    write(record, store, parts(dot), out=out)
    calls, rename = [], Path.rename

    def interrupted(path, target):
        calls.append(path)
        done = rename(path, target)
        if len(calls) == calls_before:
            raise KeyboardInterrupt
        return done

    catalog = parts(drawn)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(record, store, catalog, out=out)
    assert ("A dot" if calls_before == 1 else "Drawn") in (out / "page.md").read_text()


def test_what_a_killed_process_left_is_removed_and_what_others_write_is_not(bench, store, parts, tmp_path):
    (record,) = bench()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host, others = records._host(), []
    for name in (f"{host}-{os.getpid()}-a", f"another_{host}-{dead.pid}-b", f"{host}-x-c", "c"):
        others.append(tmp_path / f"{TEMPORARY}{name}")
        others[-1].mkdir()
    (tmp_path / f"{TEMPORARY}{host}-{dead.pid}-d").mkdir()
    write(record, store, parts(dot), out=tmp_path / "page")
    assert sorted(tmp_path.glob(f"{TEMPORARY}*")) == sorted(others)


def test_a_page_that_a_process_leaves_behind_is_known_as_its_own(bench, store, parts, tmp_path, monkeypatch):
    (record,) = bench()
    left = []
    monkeypatch.setattr(Path, "write_bytes", lambda path, blob: left.append(path.parent.name))
    write(record, store, parts(dot), out=tmp_path / "page")
    assert left[0].startswith(f"{TEMPORARY}{records._host()}-{os.getpid()}-")


def test_where_no_page_can_be_is_told_before_any_part_is_made(bench, store, parts, tmp_path, monkeypatch):
    (record,) = bench()
    heard = []
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for out, kind, told in [
        (tmp_path / "file" / "page", StoreError, "cannot be written"),
        (tmp_path / "runs", UsageError, "no page of lvmbench"),
        (Path(), UsageError, "the folder that you are in.*--out page"),
    ]:
        with pytest.raises(kind, match=told):
            write(record, store, parts(dot), out=out, heard=heard.append)
    mkdir = Path.mkdir

    def read_only(path, *args, **options):
        if path.name.startswith(TEMPORARY):
            raise OSError(30, "Read-only file system")
        mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(StoreError, match="Read-only"):
        write(record, store, parts(dot), out=tmp_path / "page", heard=heard.append)
    assert not heard


def test_a_page_beside_the_current_folder_can_be_named_from_it(bench, store, parts, tmp_path, monkeypatch):
    (record,) = bench()
    (tmp_path / "here" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "deeper")
    page = write(record, store, parts(dot), out=Path("../../page")).page
    assert page == tmp_path / "page" / "page.md"
    assert page.exists()


def test_an_older_page_is_replaced_whole_and_nothing_else_is(bench, store, parts, tmp_path):
    (record,) = bench()
    out = tmp_path / "page"
    write(record, store, parts(dot), out=out)
    write(record, store, parts(drawn), out=out)
    assert [p.name for p in out.iterdir()] == ["page.md"]
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))
    (out / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="no page of lvmbench"):
        write(record, store, parts(drawn), out=out)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--out"):
        write(record, store, parts(drawn), out=tmp_path / "file")


def test_a_run_is_found_by_label_key_or_path(bench, store):
    (record,) = bench()
    assert choose("vae(latent_dim=2,net=mlp)", store)[0] == record
    assert choose(record.fit_key[:6], store)[0] == record
    stored = store.read().stored[0]
    found, home = choose(str(stored.path), Store(Path("elsewhere")))
    assert (found, home.path) == (record, store.path)


def test_a_record_is_found_from_inside_its_folder_and_nowhere_but_in_its_store(
    bench, store, tmp_path, monkeypatch
):
    (record,) = bench()
    path = store.read().stored[0].path
    monkeypatch.chdir(path.parent)
    found, home = choose(path.name, Store(Path("elsewhere")))
    assert (found, home.path) == (record, store.path)
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match="in no folder of results"):
        choose(str(copy), store)


def test_a_record_that_is_not_whole_is_passed_over_and_told_where_it_is_asked_for(bench, store, parts):
    (record,) = bench()
    cut = replace(record, cell={k: v for k, v in record.cell.items() if k != "label"})
    store.write(store.attempt(record.fit_key), cut)
    assert choose("vae(latent_dim=2,net=mlp)", store)[0] == record
    with pytest.raises(StoreError, match="tells no whole cell .label"):
        write(cut, store, parts(dot))


def test_a_wrong_name_is_told_with_the_nearest(bench, store):
    bench("vae(net=mlp)")
    with pytest.raises(UsageError, match=r"No run 'vae\(net=mpl\)'.*Did you mean 'vae\(net=mlp\)'"):
        choose("vae(net=mpl)", store)
    with pytest.raises(UsageError, match="this seed and data set"):
        choose("vae(net=mlp)", store, seed=7)
    with pytest.raises(UsageError, match="Known: none"):
        choose("vae", Store(store.path / "nowhere"))


def test_different_cells_of_one_name_are_listed_with_how_to_choose(bench, store):
    first = bench()[0]
    second = bench(budget=replace(TINY, name="other", images=96))[0]
    with pytest.raises(UsageError, match="first letters") as told:
        choose("vae(latent_dim=2,net=mlp)", store)
    assert first.fit_key[:8] in str(told.value)
    assert "budget other, seed 0" in str(told.value)
    assert choose(second.fit_key[:8], store)[0] == second


def test_the_lowest_seed_is_taken_or_the_one_that_is_asked_for(bench, store):
    bench(seeds=[3, 1])
    assert choose("vae(latent_dim=2,net=mlp)", store)[0].cell["seed"] == 1
    assert choose("vae(latent_dim=2,net=mlp)", store, seed=3)[0].cell["seed"] == 3


def test_the_data_set_chooses_between_runs(bench, store):
    bench()
    assert choose("vae(latent_dim=2,net=mlp)", store, dataset="stripes")[0].cell["dataset_label"] == "stripes"
    with pytest.raises(UsageError, match="this seed and data set"):
        choose("vae(latent_dim=2,net=mlp)", store, dataset="faces")


def test_a_run_whose_weights_are_gone_is_told(bench, store, parts):
    import shutil

    (record,) = bench()
    shutil.rmtree(store.fit(record.fit_key))
    with pytest.raises(StoreError, match="no weights of vae"):
        write(record, store, parts(dot))


def test_no_explanation_of_that_name_is_told_before_anything_is_read(bench, store, parts):
    (record,) = bench()
    with pytest.raises(UsageError, match="No explanation 'dott'. Did you mean 'dot'"):
        write(record, store, parts(dot), only=["dott"])


def test_the_ceiling_of_the_same_data_and_budget_judges(bench, viewed):
    (record,) = bench()
    assert "judge" not in viewed(record).capabilities
    bench("supervised(net=mlp)", budget=replace(TINY, images=96))
    assert "judge" not in viewed(record).capabilities
    bench("supervised(net=mlp)")
    ev = viewed(record)
    answers = ev.judge.answers(next(ev.batches("test")))
    assert answers["Upright"].shape == (64, 2)


def test_the_judge_of_its_own_run_is_taken_before_a_newer_one(bench, viewed):
    (record,) = bench()
    (own,) = bench("supervised(net=mlp,features=8)")
    bench("supervised(net=mlp)")
    assert viewed(record, judge=own.fit_key).judge.centre.shape == (1,)
    assert viewed(record, judge=own.fit_key).judge.head.in_features == 8
    assert viewed(record).judge.head.in_features == 64


def test_a_ceiling_that_is_not_installed_or_whose_record_is_not_whole_judges_nothing(bench, store, viewed):
    (record,) = bench()
    (ceiling,) = bench("supervised(net=mlp)")
    cut = {name: value for name, value in ceiling.cell.items() if name != "seed"}
    naught = {**ceiling.cell, "budget": {**ceiling.cell["budget"], "images": 0}}
    for cell in ({**ceiling.cell, "model": "gone:judge"}, cut, naught):
        store.write(store.attempt(ceiling.fit_key), replace(ceiling, cell=cell))
    assert viewed(record).judge.head.in_features == 64


def test_the_built_in_parts_explain_a_model_of_other_pictures(bench, store, tmp_path):
    records = bench(MLP, controls=True)
    found = write(records[0], store, Catalog.discover(), out=tmp_path / "page")
    assert not found.failed
    text = found.page.read_text()
    assert "## Generating an attribute" in text
    assert "| Upright |" in text
    assert explanation.PAGE in {p.name for p in (tmp_path / "page").iterdir()}
