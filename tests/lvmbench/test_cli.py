import json
import os
import re
import signal

import pytest
from click.testing import CliRunner

from lvmbench import cli
from lvmbench.errors import ExitCode


@pytest.fixture
def lvmbench(strangers, tmp_path, monkeypatch, capfd):
    """Type a command; returns exit code, standard output and standard error."""
    monkeypatch.setenv("LVMBENCH_RESULTS", str(tmp_path / "runs"))
    (tmp_path / "tiny.toml").write_text(
        "images=64\nbatch=32\ntrain=128\nval=32\ntest=64\ndraws=4\ndensity_rows=16\n"
    )

    def typed(*words):
        capfd.readouterr()
        code = 0
        try:
            cli.main([str(w) for w in words])
        except SystemExit as leave:
            code = leave.code or 0
        out, err = capfd.readouterr()
        return code, out, err

    typed.path = tmp_path
    return typed


@pytest.fixture
def run(lvmbench):
    budget = lvmbench.path / "tiny.toml"
    common = ("--dataset", "stripes", "--metrics", "auroc", "--seeds", 1, "--budget", budget, "--jobs", 0)
    return lambda *words: lvmbench("run", *common, *words)


def test_a_run_prints_its_tables_and_says_in_the_last_line_how_it_went(run):
    code, out, err = run("--models", "means", "--no-controls")
    assert code == ExitCode.OK
    assert re.search(r"^means", out, re.M)
    assert re.search(r"^Upright\s+auroc", out, re.M)
    assert "1 of 1 cells computed" in err.splitlines()[-1]
    again = run("--models", "means", "--no-controls")
    assert again[1] == out
    assert "all 1 cells were there" in again[2].splitlines()[-1]


def test_a_run_adds_its_controls(run):
    _, out, _ = run("--models", "vae(net=mlp)")
    for label in ("pca (floor)", "random-encoder(net=mlp) (floor)", "supervised"):
        assert label in out


def test_a_failed_cell_shows_in_table_last_line_and_exit_code(run):
    code, out, err = run("--models", "raises,means", "--no-controls")
    assert code == ExitCode.CELLS_FAILED
    assert "failed: raises: every metric: RuntimeError: seed 0 is not to my taste" in out
    assert "1 of 2 cells failed" in err
    assert "Its log:" in err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--models", "bvae"], ExitCode.USAGE, "No model 'bvae'"),
        (["--models", "vae(lattent_dim=2)"], ExitCode.USAGE, "Did you mean 'latent_dim'"),
        (["--models", "iwae"], ExitCode.PLUGIN, "Two plugins give the model 'iwae'"),
        (["--models", "lvmbench-broken-import:x"], ExitCode.PLUGIN, "is not loaded: ModuleNotFoundError"),
        (["--models", "lvmbench-misspelt-hook:never-seen"], ExitCode.PLUGIN, "lvmbench_model"),
        (["--models", "vae", "--seeds", "many"], ExitCode.USAGE, "'many'"),
        (["--models", "vae", "--device", "gpu"], ExitCode.USAGE, "No device 'gpu'"),
        (["--models", "vae", "--jobs", "-1"], ExitCode.USAGE, "--jobs"),
        (["--modles", "vae"], ExitCode.USAGE, "--models"),
        (["nowhere.toml"], ExitCode.USAGE, "nowhere.toml: No such file"),
        (["--models", "vae", "--format", "cvs"], ExitCode.USAGE, "Did you mean 'csv'"),
        ([], ExitCode.USAGE, "No model was asked for"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(run, lvmbench, words, code, told):
    found, out, err = run(*words)
    assert found == code
    assert told in err
    assert not out
    assert not list((lvmbench.path / "runs").rglob("*.json*")) or not list(
        (lvmbench.path / "runs").rglob("fit")
    )


def test_broken_plugins_are_listed_and_hurt_no_run_that_does_not_ask_for_them(lvmbench, run):
    code, out, _ = lvmbench("list", "plugins")
    assert code == ExitCode.OK
    assert "broken: ModuleNotFoundError" in out
    assert "broken: PluginValidationError" in out
    assert run("--models", "vae(net=mlp)", "--no-controls")[0] == ExitCode.OK
    assert run("--models", "lvmbench:iwae(net=mlp)", "--no-controls")[0] == ExitCode.OK


def test_a_spec_file_and_the_words_mean_the_same(lvmbench, run):
    (lvmbench.path / "spec.toml").write_text('models = "means"\ncontrols = false\nseeds = 9\n')
    words = run("--models", "means", "--no-controls")
    spec = run(lvmbench.path / "spec.toml")
    assert spec[:2] == words[:2]
    assert "all 1 cells were there" in spec[2]


def test_stored_results_are_printed_again(lvmbench, run):
    _, out, _ = run("--models", "means", "--no-controls")
    assert lvmbench("table")[1] == out
    lines = json.loads(lvmbench("table", "--format", "json", "--by", "attribute")[1])
    assert [line["attribute"] for line in lines] == ["Upright"]
    assert lvmbench("table", "--format", "csv")[1].startswith("dataset,")


def test_a_folder_without_results_says_what_to_do(lvmbench):
    code, _, err = lvmbench("table", "--results", lvmbench.path / "none")
    assert code == ExitCode.USAGE
    assert "no results here" in err


def test_a_dry_run_prints_plan_and_cost_and_leaves_nothing(lvmbench, run):
    code, out, _ = run("--models", "vae(net=mlp),means", "--dry-run")
    assert code == ExitCode.OK
    assert re.search(r"^vae\(net=mlp\)\s+model", out, re.M)
    assert re.search(r"^supervised", out, re.M)
    assert "about" in out
    assert not (lvmbench.path / "runs").exists()


@pytest.mark.parametrize(
    ("noun", "name"), [("models", "beta-vae"), ("metrics", "auroc"), ("datasets", "faces"), ("executors", "")]
)
def test_names_are_listed_with_their_origin(lvmbench, noun, name):
    code, out, _ = lvmbench("list", noun)
    assert code == ExitCode.OK
    assert name in out
    assert not name or re.search(rf"^{name}\s.*lvmbench \d", out, re.M)


def test_a_page_tells_options_capabilities_and_paper(lvmbench):
    _, out, _ = lvmbench("show", "beta-vae")
    assert re.search(r"^beta\s+float.*4\.0$", out, re.M)
    assert "Higgins et al. 2017" in out
    assert "log_weights" in out
    _, out, _ = lvmbench("show", "hvae")
    assert re.search(r"^latent_dims\s+2 or more of int ≥ 1\s+\(12, 4\)$", out, re.M)
    assert re.search(r"^net\s+conv \| resnet \| mlp \| burda \| your.module\s+conv$", out, re.M)
    _, out, _ = lvmbench("show", "auroc")
    assert "needs: codes" in out
    _, out, _ = lvmbench("show", "stripes")
    assert "Upright" in out


def test_a_metric_that_no_run_takes_by_itself_is_listed_as_such(lvmbench):
    told = lvmbench("list", "metrics")[1]
    assert re.search(r"^ais\s.*\n?.*\(by name\)", told, re.M)
    assert re.search(r"^mlp-auroc\s.*\n?.*\(in full\)", told, re.M)


def test_an_unknown_page_names_the_nearest(lvmbench):
    code, _, err = lvmbench("show", "fases")
    assert code == ExitCode.USAGE
    assert "Did you mean 'faces'" in err


def test_a_contact_sheet_is_drawn(lvmbench):
    path = lvmbench.path / "sheet.png"
    assert lvmbench("show", "faces(size=32)", "--grid", path)[0] == ExitCode.OK
    assert path.read_bytes()[:4] == b"\x89PNG"
    code, _, err = lvmbench("show", "stripes", "--grid", path)
    assert code == ExitCode.PLUGIN
    assert "draws no contact sheet" in err
    code, _, err = lvmbench("show", "faces", "--grid", lvmbench.path / "none" / "sheet.png")
    assert code == ExitCode.USAGE


@pytest.fixture
def _apart(tmp_path, monkeypatch):
    """Keep the cache and what commands hand on to their workers to one test."""
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LVMBENCH_DOWNLOAD", "")
    monkeypatch.setenv("LVMBENCH_DATA", os.environ.get("LVMBENCH_DATA", ""))


@pytest.mark.usefixtures("_apart")
def test_a_data_set_is_examined_and_drawn(lvmbench):
    sheet = lvmbench.path / "sheet.png"
    code, out, err = lvmbench("data", "check", "stained", "--limit", 20, "--sheet", sheet)
    assert code == ExitCode.OK
    assert re.search(r"^train +20$", out, re.M)
    assert re.search(r"^Upright +binary +yes +50.0 %", out, re.M)
    assert "looked at the first 20 of each split" in out
    assert "left out: row without a picture: 2\n  a.csv, line 3: 'x3.png'\n" in out
    assert "equal pictures within a split: 18\n  train row 2 = train row 0\n" in out
    assert "and 13 more (--all)" in out
    assert err.splitlines() == ["data: stained: 60 pictures made in 0 s", f"wrote {sheet}"]
    assert sheet.read_bytes()[:4] == b"\x89PNG"
    code, out, err = lvmbench("data", "check", "stained", "--limit", 20, "--format", "json", "--strict")
    assert code == ExitCode.USAGE
    assert len(json.loads(out)["findings"]) == 5
    assert err == "lvmbench: stained: not all is as it should be (--strict).\n"


@pytest.mark.usefixtures("_apart")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["stained(fault=data)"], "pictures.zip ends within a picture. Fetch it again."),
        (["stane"], "Did you mean 'stained'"),
        (["stained,stripes"], "asks for 2 data sets. Name one."),
        (["stripes", "--drop-duplicates"], "stripes has no option drop_duplicates"),
        (["stained(drop_duplicate=true)"], "Did you mean 'drop_duplicates'"),
        (["images"], "images needs the option 'root': images(root=...)."),
        (["/tmp"], "It is a path: images(/tmp) reads it."),
        (["/no/such/path"], "'/no/such/path' is not a name"),
        (["stained(fault=data)", "--sheet", "s.pgn"], "'.pgn' is the ending of no picture"),
        (["stained(fault=data)", "--sheet", "/nowhere/s.png"], "there is no folder /nowhere"),
    ],
)
def test_what_cannot_be_examined_is_told(lvmbench, words, told):
    code, out, err = lvmbench("data", "check", *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert told in err


@pytest.mark.usefixtures("_apart")
def test_the_first_split_that_has_pictures_is_drawn(lvmbench, monkeypatch):
    from lvmbench_misbehaving import Stained

    whole = Stained.split
    monkeypatch.setattr(
        Stained, "split", lambda self, name, limit: whole(self, name, 5).head(5 * (name == "test"))
    )
    drawn = []
    monkeypatch.setattr("lvmbench.contact_sheet.write_sheet", lambda *told: drawn.append(told))
    lvmbench("data", "check", "stained", "--limit", 5, "--sheet", lvmbench.path / "sheet.png")
    ((title, _, shown, _),) = drawn
    assert (title, len(shown)) == ("stained, test", 5)


@pytest.mark.usefixtures("_apart")
def test_data_sets_are_listed_with_what_they_lack(lvmbench, monkeypatch):
    code, out, _ = lvmbench("data", "list", "--data-root", lvmbench.path / "nowhere")
    assert code == ExitCode.OK
    assert re.search(r"^faces +ready +needs no files$", out, re.M)
    assert re.search(r"^fairface +missing +FairFace: no ", out, re.M)
    assert "licence CC BY 4.0" in " ".join(out.split())


@pytest.mark.usefixtures("_apart")
def test_findings_stand_under_the_tables_and_end_a_strict_run(run):
    asked = ("--models", "means", "--dataset", "stained", "--no-controls")
    code, out, err = run(*asked, "--strict")
    assert code == ExitCode.USAGE
    assert "5 findings, and a strict run allows none" in err
    code, out, err = run(*asked, "--drop-duplicates", "--jobs", 1)
    assert code == ExitCode.OK
    assert out.splitlines()[-3:] == [
        "data, left out: row without a picture (2)",
        "data, changed: alpha (3)",
        "data: each is named by: lvmbench data check 'stained(drop_duplicates=True)' --all",
    ]


@pytest.mark.usefixtures("_apart")
def test_a_download_is_asked_of_this_process_and_its_workers(lvmbench, monkeypatch):
    assert not os.environ["LVMBENCH_DOWNLOAD"]
    lvmbench("data", "check", "stripes", "--limit", 2)
    assert not os.environ["LVMBENCH_DOWNLOAD"]
    lvmbench("data", "check", "stripes", "--limit", 2, "--download")
    assert os.environ["LVMBENCH_DOWNLOAD"] == "1"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(lvmbench, shell):
    code, out, _ = lvmbench("completion", shell)
    assert code == ExitCode.OK
    assert "_LVMBENCH_COMPLETE" in out


def test_names_are_completed_after_a_comma(strangers):
    command = {
        "COMP_WORDS": "lvmbench run --models vae,be",
        "COMP_CWORD": "3",
        "_LVMBENCH_COMPLETE": "bash_complete",
    }
    found = CliRunner().invoke(cli.lvmbench, prog_name="lvmbench", env=command)
    assert "vae,beta-vae" in found.output


def test_ctrl_c_is_130(lvmbench, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lvmbench.runner.answer", interrupted)
    code, _, err = lvmbench("run", "--models", "means")
    assert code == ExitCode.INTERRUPTED
    assert "interrupted" in err


def test_every_command_has_help(lvmbench):
    data = (["data"], ["data", "check"], ["data", "list"])
    for words in ([], ["run"], ["score"], ["list"], ["show"], ["table"], ["completion"], *data):
        code, out, _ = lvmbench(*words, "--help")
        assert code == ExitCode.OK
        assert "Usage" in out
        assert max(map(len, out.splitlines())) <= 100


def test_help_says_which_duplicates_are_dropped_and_what_is_refused(lvmbench):
    for words in (["run"], ["data", "check"]):
        told = " ".join(lvmbench(*words, "--help")[1].split())
        assert "files that are equal byte for byte" in told
    assert "what only the pictures show: equal pixels, people in two splits" in told


@pytest.fixture
def _handlers():
    """Leave the handlers of signals as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_cleaning_up_turned_into_another_error_is_still_an_interrupt(
    number, monkeypatch, capsys
):
    def struck(**_):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise ValueError("a lock released too many times") from None

    monkeypatch.setattr(cli.lvmbench, "main", struck)
    with pytest.raises(SystemExit) as left:
        cli.main([])
    assert left.value.code == ExitCode.INTERRUPTED
    assert "interrupted; finished cells and pictures are kept" in capsys.readouterr().err


@pytest.mark.usefixtures("_handlers")
def test_a_bug_keeps_its_traceback(monkeypatch):
    def wrong(**_):
        raise ValueError("a bug")

    monkeypatch.setattr(cli.lvmbench, "main", wrong)
    with pytest.raises(ValueError, match="a bug"):
        cli.main([])


def test_explain_prints_the_path_of_the_page_and_says_in_its_exit_code_how_it_went(run, lvmbench):
    run("--models", "vae(net=mlp,latent_dim=2)", "--no-controls")
    code, out, err = lvmbench(
        "explain", "vae(latent_dim=2,net=mlp)", "--only", "map", "--out", lvmbench.path / "page"
    )
    assert (code, out.strip()) == (ExitCode.OK, str(lvmbench.path / "page" / "page.md"))
    assert "lvmbench: map ..." in err
    code, _, err = lvmbench("explain", "vea(latent_dim=2,net=mlp)")
    assert code == ExitCode.USAGE
    assert "Did you mean 'vae(latent_dim=2,net=mlp)'" in err
    code, _, err = lvmbench("explain", "vae", "--results", lvmbench.path / "nowhere")
    assert code == ExitCode.USAGE
    assert "no results here" in err
