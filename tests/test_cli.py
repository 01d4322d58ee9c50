"""The command line: what it does, and what it says to every mistake in one line."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import small_run

from albert_jax.cli import main, pretraining
from albert_jax.interop.pretrained import from_pretrained

TESTS = Path(__file__).parent
EXPERIMENTS = TESTS.parent / "experiments"

EXPERIMENT = '''"""Small: a run of seconds."""
import sys
sys.path.insert(0, {tests!r})
import small_run
from pathlib import Path
small = small_run.experiment(Path("prepared"), Path("corpus.txt"))
EXPERIMENTS = {{"first": small, "second": small}}
'''


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working directory with an experiment of two arms and its corpus."""
    (tmp_path / "experiments").mkdir()
    file = tmp_path / "experiments" / "small.py"
    file.write_text(EXPERIMENT.format(tests=str(TESTS)))
    small_run.write_corpus(tmp_path / "corpus.txt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("albert_jax.programs.keep_programs", lambda report: None)
    return tmp_path


def fails(capsys, *arguments: str) -> str:
    """The one line that a mistaken command says."""
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("albert-jax: ") and said.count("\n") == 1
    return said


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "albert_jax", *arguments]


def test_from_text_to_answers(home, capsys, monkeypatch):
    spec = "experiments/small.py:first"
    assert main(["prepare", spec, "--processes", "1"]) == 0
    assert "documents" in capsys.readouterr().out
    assert main(["pretrain", spec, "--steps", "4", "--processes", "1"]) == 0
    said = capsys.readouterr().out
    assert "times the unigram baseline" in said and "runs/small" in said
    assert "attention: our own, as the device is a cpu" in said
    assert (home / "runs/small/curves.png").read_bytes().startswith(b"\x89PNG")
    assert main(["fill-mask", "runs/small", "River [MASK] winter.", "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "River [MASK] winter." and lines[1].count("%") == 3
    assert main(["fill-mask", "runs/small", "--sentences", "2"]) == 0
    assert capsys.readouterr().out.count("  was: ") == 2
    # Others load it, and so do we.
    assert main(["convert", "runs/small", "converted"]) == 0
    said = capsys.readouterr()
    assert "AlbertForPreTraining" in said.out and "model.safetensors" in said.out
    files = {
        "config.json",
        "model.safetensors",
        "spiece.model",
        "tokenizer_config.json",
    }
    assert {path.name for path in (home / "converted").iterdir()} == files
    run, folder = (
        from_pretrained(s, report=pytest.fail) for s in ("runs/small", "converted")
    )
    jax.tree.map(np.testing.assert_array_equal, run.variables, folder.variables)
    assert run.tokenizer.fingerprint == folder.tokenizer.fingerprint
    encoder = from_pretrained("runs/small", "AlbertModel", report=[].append)
    ours = run.variables["params"]["albert"]
    jax.tree.map(np.testing.assert_array_equal, encoder.variables["params"], ours)
    for source in ("runs/small", "converted"):
        assert main(["fill-mask", source, "River [MASK] winter."]) == 0
    answers = capsys.readouterr().out.splitlines()
    assert answers[:2] == answers[2:]
    assert "converted is not a run" in fails(capsys, "fill-mask", "converted")
    assert "converted exists already" in fails(capsys, "convert", "none", "converted")
    line = fails(capsys, "convert", "converted", "new", "--form", "offical")
    assert "did you mean 'official'" in line
    line = fails(capsys, "convert", "converted", "new", "--head", "AlbertForMaskLM")
    assert "did you mean 'AlbertForMaskedLM'" in line
    assert main(["fill-mask", "runs/small", "--sentences", "0"]) == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("sys.stdin", io.StringIO("A [MASK].\n\nThe [MASK] [MASK].\n"))
    assert main(["fill-mask", "runs/small", "One [MASK].", "-"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [x for x in lines if x[0] != " "] == [
        "One [MASK].",
        "A [MASK].",
        "The [MASK] [MASK].",
    ]
    assert len(lines) == 3 + 4
    # A run is its own experiment: other settings do not fit it, whatever its state.
    line = fails(capsys, "pretrain", spec, "--steps", "6", "--processes", "1")
    assert "steps: 4 -> 6" in line
    line = fails(capsys, "fill-mask", "runs/small", "no mask")
    assert "no [MASK]" in line
    long = "river " * 40 + "[MASK]"
    assert "32 positions" in fails(capsys, "fill-mask", "runs/small", long)


def test_list_names_a_broken_file_and_shows_the_others(home, capsys):
    broken = home / "experiments" / "broken.py"
    broken.write_text('"""Broken."""\nEXPERIMENTS = {"one": missing}\n')
    try:
        assert main(["list"]) == 2
    finally:
        broken.unlink()
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == [
        "experiments/small.py:first",
        "experiments/small.py:second",
    ]
    [line] = said.err.splitlines()
    assert "broken.py, line 2: NameError: name 'missing'" in line


def test_list_and_inspect_print_json_and_nothing_else(home, capsys):
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    specs = [row["experiment"] for row in rows]
    assert specs == ["experiments/small.py:first", "experiments/small.py:second"]
    assert rows[0]["summary"] == "Small: a run of seconds."
    arguments = ["inspect", specs[0], "--json", "--model.share", "none"]
    assert main([*arguments, "--figure", "sharing.png"]) == 0
    document = json.loads(capsys.readouterr().out)
    parameters = document["parameters"]
    assert parameters["total"] == sum(parameters.values()) - parameters["total"]
    flops = document["flops_per_step"]
    assert flops["forward"] == 8 * sum(document["forward_flops_per_row"].values())
    assert flops["backward"] == 2 * flops["forward"]
    assert document["mesh"] == {"data": 1, "fsdp": 1, "tensor": 1}
    held = document["bytes_per_device"]
    assert held["parameters"] == 4 * parameters["total"]
    assert held["moments"] - 2 * held["parameters"] < 100  # counters
    assert (home / "sharing.png").exists()
    assert not (home / "prepared").exists() and not (home / "runs").exists()


def test_inspect_says_what_a_mesh_divides_and_what_not(capsys):
    spec = str(EXPERIMENTS / "xlarge.py")
    assert main(["inspect", spec, "--mesh.tensor", "32", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    why = "tensor = 32 does not divide 30,000"
    table = "albert/embeddings/word_embeddings/embedding"
    assert document["kept_whole"] == {table: why, "predictions/bias": why}
    whole = 4 * document["parameters"]["total"]
    # The table and the pooler stay whole, 32 MB of 236.
    assert 0.13 * whole < document["bytes_per_device"]["parameters"] < 0.2 * whole
    assert main(["inspect", spec, "--mesh.tensor", "8", "--mesh.fsdp", "4"]) == 0
    assert "kept whole" not in capsys.readouterr().out


def test_a_batch_has_the_shapes_that_inspect_counts(home):
    from albert_jax.data.pipeline import PretrainingData
    from albert_jax.data.shards import PreparedCorpus
    from albert_jax.data.tokenizer import Tokenizer
    from albert_jax.train.footprint import batch_shapes

    assert main(["prepare", SPEC, "--processes", "1"]) == 0
    corpus = PreparedCorpus.open("prepared")
    tokenizer = Tokenizer.load(corpus.tokenizer_path)
    config = small_run.experiment(home).data
    (batch,) = PretrainingData(corpus, tokenizer, config, 0).batches(0, 8)
    found = {name: (rows.shape, rows.dtype) for name, rows in batch.items()}
    wanted = {n: (x.shape, x.dtype) for n, x in batch_shapes(config).items()}
    assert found == wanted


def test_inspect_allocates_nothing():
    def peak(name: str) -> int:
        code = (
            "import resource, sys; from albert_jax.cli import main;"
            f"main(['inspect', {str(EXPERIMENTS / name)!r}]);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return int(done.stdout.splitlines()[-1])

    # The parameters of xxlarge alone would take 893 MB, in kB here.
    assert peak("xxlarge.py") < peak("demo.py") + 100_000


def test_help_lists_every_field(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["pretrain", str(EXPERIMENTS / "base.py"), "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--model.share", "--mesh.fsdp", "--checkpoint.every", "--workdir"):
        assert flag in text
    assert main(["--help"]) == 0
    assert "albert-jax pretrain" in capsys.readouterr().out


# The official code's ways, and optax.lamb's, where the default is another.
OFFICIAL_FLAGS = {
    "--data.max-predictions 20": {"max_predictions": 20},
    "--data.official-segments": {"official_segments": True},
    "--data.official-masking": {"official_masking": True},
    "--data.no-packing": {"packing": False},
    "--data.objective next_sentence": {"objective": "next_sentence"},
    "--optimizer.bias-correction": {"bias_correction": True},
    "--optimizer.adapt-all": {"adapt_all": True},
    "--optimizer.name adamw": {"name": "adamw"},
}


@pytest.mark.parametrize(("flag", "fields"), OFFICIAL_FLAGS.items())
def test_every_official_way_is_a_flag(home, monkeypatch, flag, fields):
    seen = []
    monkeypatch.setattr(pretraining, "run_prepare", lambda e, *_, **__: seen.append(e))
    for arguments in ([], flag.split()):
        assert main(["prepare", SPEC, *arguments]) == 0
    default, official = seen
    part = flag.removeprefix("--").split(".")[0]
    changed = dataclasses.replace(getattr(default, part), **fields)
    assert official == dataclasses.replace(default, **{part: changed}) != default


SPEC = "experiments/small.py:first"
MISTAKES = {
    "no such command": (["pretrian", SPEC], "did you mean 'pretrain'"),
    "no experiment named": (["pretrain"], "experiments/FILE.py"),
    "no such file": (["inspect", "experiments/smal.py"], "experiments/small.py"),
    "no such arm": (["inspect", "experiments/small.py:frist"], "did you mean 'first'"),
    "a file that fails": (
        ["inspect", "experiments/broken.py"],
        "broken.py, line 2: ModuleNotFoundError: No module named 'nowhere'",
    ),
    "several arms": (["inspect", "experiments/small.py"], "first, second"),
    "no such field": (
        ["inspect", SPEC, "--model.hidden-sise", "64"],
        "did you mean --model.hidden-size",
    ),
    "not a number": (["inspect", SPEC, "--steps", "many"], "'many'"),
    "not a choice": (
        ["inspect", SPEC, "--model.share", "atention"],
        "did you mean 'attention'",
    ),
    "heads that do not divide": (
        ["pretrain", SPEC, "--model.num-attention-heads", "5"],
        "hidden_size is 32, which num_attention_heads = 5 does not divide",
    ),
    "too long for the positions": (
        ["pretrain", SPEC, "--data.sequence-length", "64"],
        "longer than model.max_position_embeddings = 32",
    ),
    "warm-up beyond the end": (
        ["pretrain", SPEC, "--steps", "1"],
        "warmup_steps is 2, more than steps = 1",
    ),
    "too few devices": (
        ["pretrain", SPEC, "--mesh.fsdp", "64"],
        "data x fsdp x tensor = -1 x 64 x 1, which does not make the",
    ),
    "parts of an uneven batch": (
        ["pretrain", SPEC, "--accumulation", "3"],
        "data.batch_size is 8, which mesh.data x mesh.fsdp x accumulation = ",
    ),
    "no parts": (["pretrain", SPEC, "--accumulation", "0"], "accumulation is 0"),
    "an axis of no devices": (["inspect", SPEC, "--mesh.data", "0"], "mesh.data is 0"),
    "a mesh that does not divide the heads": (
        ["inspect", SPEC, "--mesh.tensor", "4"],
        "model.num_attention_heads is 2, which mesh.tensor = 4 does not divide",
    ),
    "a mesh that does not divide the batch": (
        ["inspect", SPEC, "--mesh.fsdp", "16"],
        "data.batch_size is 8, which mesh.data x mesh.fsdp x accumulation = 16",
    ),
    "no such device": (
        ["inspect", SPEC, "--device", "h10"],
        "one of a100, h100, h200, v4, v5e, v5p, v6e; did you mean 'h100'",
    ),
    "a share of nothing": (
        ["inspect", SPEC, "--device", "h100", "--mfu", "0"],
        "mfu is 0.0, but it must be above 0 and at most 1",
    ),
    "a price of nothing": (
        ["inspect", SPEC, "--price", "2"],
        "name one with --device",
    ),
    "a process among none": (
        ["pretrain", SPEC, "--process-id", "1"],
        "coordinator_address and num_processes must be given too",
    ),
    "missing corpus": (["prepare", SPEC, "--corpus.sources", "nowhere"], "nowhere"),
    "empty corpus": (["prepare", SPEC, "--corpus.sources", "empty.txt"], "empty.txt"),
    "binary corpus": (["prepare", SPEC, "--corpus.sources", "binary.txt"], "byte"),
    "a corpus too small for the vocabulary": (
        ["pretrain", SPEC, "--model.vocab-size", "4000", "--processes", "1"],
        "vocab_size is 4000",
    ),
    "no weights": (["fill-mask", "experiments", "[MASK]"], "nor a run's experiment"),
    "a figure of another kind": (
        ["inspect", SPEC, "--figure", "sharing.doc"],
        ".png or .svg",
    ),
}


@pytest.mark.parametrize(("arguments", "cure"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line_and_writes_nothing(home, capsys, arguments, cure):
    (home / "empty.txt").write_text("\n")
    (home / "binary.txt").write_bytes(b"text \xff\xfe\x00 more\n")
    (home / "experiments" / "broken.py").write_text('"""Broken."""\nimport nowhere\n')
    before = sorted(home.rglob("*"))
    assert cure in fails(capsys, *arguments)
    after = [p for p in home.rglob("*") if "__pycache__" not in str(p)]
    assert sorted(after) == before


def test_mistakes_after_preparing(home, capsys):
    assert main(["prepare", SPEC, "--processes", "1"]) == 0
    capsys.readouterr()
    pretrain = ["pretrain", SPEC, "--processes", "1"]
    other = ["--corpus.heldout-fraction", "0.3", "--processes", "1"]
    assert "heldout_fraction" in fails(capsys, "prepare", SPEC, *other)
    (home / "full").mkdir()
    (home / "full" / "thesis.tex").write_text("draft")
    assert "not a run's" in fails(capsys, *pretrain, "--workdir", "full")
    assert not (home / "runs").exists()
    line = fails(capsys, *pretrain, "--optimizer.learning-rate", "1e38")
    assert "at step" in line and "lower learning rate" in line


def test_a_full_disk_keeps_the_last_checkpoint(home):
    # The system refuses to let any file grow beyond the limit, as a full disk does.
    assert main(["prepare", SPEC, "--processes", "1"]) == 0
    pretrain = command("pretrain", SPEC, "--processes", "1", "--steps", "8")
    code = (
        "import resource, signal, sys, time; from pathlib import Path;"
        "from albert_jax.cli import main;"
        "import albert_jax.train.loop as loop; saves = loop.Cadence.saves\n"
        "saved = Path('runs/small/checkpoints/4/manifest.json')\n"
        "def limited(self, step):\n"
        "    if step == 8:\n"
        "        while not saved.exists(): time.sleep(0.01)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "    return saves(self, step)\n"
        "loop.Cadence.saves = limited\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    full = subprocess.run(
        [sys.executable, "-c", code, *pretrain[3:]], capture_output=True, text=True
    )
    assert full.returncode == 2, full.stderr
    assert full.stderr.count("\n") == 1 and "albert-jax: " in full.stderr
    checkpoints = home / "runs/small/checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["4"]
    again = subprocess.run(pretrain, capture_output=True, text=True, check=True)
    assert "at step 4" in again.stdout


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_saves_and_exits(home, number, code):
    arguments = command("pretrain", SPEC, "--steps", "5000", "--processes", "1")
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = home / "runs/small/metrics.jsonl"
    until = time.monotonic() + 200
    while time.monotonic() < until and process.poll() is None:
        if log.exists() and log.read_text().count("\n") > 4:
            break
        time.sleep(0.05)
    process.send_signal(getattr(signal, number))
    out, err = process.communicate(timeout=100)
    assert process.returncode == code, err
    assert "saved at step" in out
    saved = int(out.split("saved at step ")[1].split(";")[0].replace(",", ""))
    assert (home / f"runs/small/checkpoints/{saved}/manifest.json").exists()


def test_a_broken_pipe_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m albert_jax list | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        cwd=EXPERIMENTS.parent,
        env=os.environ,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr
