"""Checkpoints: what is restored is what was saved, whatever happened in between."""

import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from albert_jax.config import PretrainingExperiment, UserError
from albert_jax.identity import digest, identity
from albert_jax.train import manifest
from albert_jax.train.checkpoint import Checkpoints
from albert_jax.train.manifest import NAME as MANIFEST

IDENTITY = {"seed": 0, "model.share": "all", "optimizer.learning_rate": 0.00176}
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(Path(__file__).parents[1]),
    "JAX_PLATFORMS": "cpu",
}
# Nothing but checkpoints is to be written where writing fails.
ENVIRONMENT.pop("JAX_COMPILATION_CACHE_DIR", None)


def make_state(step, rows=64):
    w = jax.random.normal(jax.random.key(step), (rows, 256))
    return {
        "step": jnp.int32(step),
        "params": {"w": w, "b": w[0].astype(jnp.bfloat16)},
        "opt_state": (w * w, None, jnp.arange(3) + step),
        "key": jax.random.key(step + 100),
    }


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def assert_same_bits(a, b):
    def same(x, y):
        assert x.dtype == y.dtype and x.shape == y.shape
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()

    jax.tree.map(same, a, b)


def checkpoints(folder, keep=3, identity=IDENTITY, report=None):
    def fail(line):
        raise AssertionError(f"reported: {line}")

    return Checkpoints(folder, keep=keep, identity=identity, report=report or fail)


def restore(folder, **settings):
    """What is restored, and the lines reported on the way."""
    lines = []
    with checkpoints(folder, report=lines.append, **settings) as saved:
        return saved.restore(abstract(make_state(0))), lines


def steps(folder):
    return sorted(int(path.name) for path in folder.iterdir())


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with checkpoints(folder) as saved:
        for step in (1, 2):
            saved.save(step, make_state(step), position=step * 8)
    return folder


@pytest.fixture
def copy(two_steps, tmp_path):
    return shutil.copytree(two_steps, tmp_path / "checkpoints")


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_round_trip_keeps_every_bit(two_steps):
    restored, lines = restore(two_steps)
    assert (restored.step, restored.position, lines) == (2, 16, [])
    assert_same_bits(restored.state, make_state(2))
    draw = jax.random.normal(restored.state["key"], (4,))
    np.testing.assert_array_equal(draw, jax.random.normal(make_state(2)["key"], (4,)))


def test_another_key_implementation_round_trips(tmp_path):
    state = {"key": jax.random.key(3, impl="rbg")}
    with checkpoints(tmp_path) as saved:
        saved.save(1, state, 0)
        assert_same_bits(saved.restore(abstract(state)).state, state)


def test_a_new_run_restores_nothing(tmp_path):
    assert restore(tmp_path / "nowhere") == (None, [])
    assert not (tmp_path / "nowhere").exists()


def test_every_file_is_in_the_manifest(two_steps):
    found = json.loads((two_steps / "2" / MANIFEST).read_text())
    listed = {two_steps / "2" / name for name in found["files"]}
    assert listed == set(files_of(two_steps / "2")) - {two_steps / "2" / MANIFEST}
    assert found["format"] == 1 and found["step"] == 2 and found["position"] == 16
    assert found["identity_fields"] == IDENTITY
    assert found["arrays"]["params/b"] == "bfloat16[256]"


def flip(path, rng):
    data = bytearray(path.read_bytes()) or bytearray(1)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def truncate(path, rng):
    os.truncate(path, rng.randrange(path.stat().st_size))


def delete(path, rng):
    path.unlink()


@pytest.mark.parametrize("damage", [flip, truncate, delete])
def test_a_damaged_file_falls_back_to_the_step_before(copy, damage):
    rng = random.Random(0)
    pristine = copy.rename(copy.with_name("pristine"))
    for path in files_of(pristine / "2"):
        if damage is truncate and path.stat().st_size == 0:
            continue
        name = path.relative_to(pristine / "2")
        shutil.copytree(pristine, copy)
        damage(copy / "2" / name, rng)
        restored, lines = restore(copy)
        assert restored is not None and restored.step == 1, name
        assert_same_bits(restored.state, make_state(1))
        (line,) = lines
        assert "step 2" in line and str(name) in line
        assert {flip: "changed", truncate: "", delete: "missing"}[damage] in line
        if damage is truncate and path.name != MANIFEST:
            assert "truncated" in line
        shutil.rmtree(copy)


def test_no_flipped_bit_of_the_manifest_is_believed(copy):
    path, rng = copy / "2" / MANIFEST, random.Random(1)
    pristine = path.read_bytes()
    for _ in range(40):
        path.write_bytes(pristine)
        flip(path, rng)
        restored, lines = restore(copy)
        assert restored.step == 1 and len(lines) == 1


def test_no_usable_step_is_an_error(copy):
    for step in ("1", "2"):
        flip(next((copy / step / "state" / "d").iterdir()), random.Random(0))
    with pytest.raises(UserError, match="2 checkpoints, but none is usable"):
        restore(copy)


def test_a_first_save_that_was_killed_is_reported_and_replaced(tmp_path):
    (tmp_path / "7.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    restored, lines = restore(tmp_path)
    assert restored is None
    assert len(lines) == 1 and "step 7" in lines[0] and "never finished" in lines[0]
    with checkpoints(tmp_path) as saved:
        saved.save(7, make_state(7), 0)
    assert [path.name for path in tmp_path.iterdir()] == ["7"]
    assert restore(tmp_path)[0].step == 7


def test_a_damaged_step_is_replaced_when_the_run_reaches_it_again(copy):
    flip(next((copy / "2" / "state" / "d").iterdir()), random.Random(0))
    with checkpoints(copy, report=lambda line: None) as saved:
        assert saved.restore(abstract(make_state(0))).step == 1
        saved.save(2, make_state(2), 16)
    restored, lines = restore(copy)
    assert (restored.step, lines) == (2, [])


def test_a_damaged_step_takes_no_place_among_those_that_are_kept(copy):
    flip(next((copy / "2" / "state" / "d").iterdir()), random.Random(0))
    (copy / "2").rename(copy / "9")
    with checkpoints(copy, keep=1, report=lambda line: None) as saved:
        assert saved.restore(abstract(make_state(0))).step == 1
        saved.save(3, make_state(3), 24)
    assert restore(copy)[0].step == 3
    assert steps(copy) == [3, 9]


def test_only_the_newest_are_kept(tmp_path):
    with checkpoints(tmp_path, keep=2) as saved:
        for step in (5, 20, 100, 1000):
            saved.save(step, make_state(step), step)
    assert steps(tmp_path) == [100, 1000]


def test_what_a_killed_deletion_left_is_no_step_and_goes_away(copy):
    (copy / "2").rename(copy / "2.deleted")
    flip(next((copy / "2.deleted" / "state" / "d").iterdir()), random.Random(0))
    restored, lines = restore(copy)
    assert (restored.step, lines) == (1, [])
    with checkpoints(copy) as saved:
        saved.save(3, make_state(3), 24)
    assert steps(copy) == [1, 3]


def test_a_step_that_was_restored_is_not_written_again(copy):
    before = (copy / "2" / MANIFEST).stat().st_mtime_ns
    with checkpoints(copy) as saved:
        restored = saved.restore(abstract(make_state(0)))
        saved.save(restored.step, restored.state, restored.position)
    assert (copy / "2" / MANIFEST).stat().st_mtime_ns == before


def test_saving_is_asynchronous_and_the_manifest_comes_last(tmp_path, monkeypatch):
    go, write = threading.Event(), manifest.write

    def held(*arguments):
        assert go.wait(30)
        write(*arguments)

    monkeypatch.setattr(manifest, "write", held)
    with checkpoints(tmp_path) as saved:
        saved.save(1, make_state(1), 0)
        assert not (tmp_path / "1" / MANIFEST).exists()
        go.set()
        saved.save(2, make_state(2), 0)
        assert (tmp_path / "1" / MANIFEST).exists()
        saved.wait()
        assert (tmp_path / "2" / MANIFEST).exists()


def test_a_state_may_be_donated_once_save_returns(tmp_path):
    overwrite = jax.jit(
        lambda state: jax.tree.map(lambda w: w * 0.0 - 1.0, state), donate_argnums=0
    )

    def full():
        return {f"w{i}": jnp.full((1024, 512), float(i)) for i in range(8)}

    jax.block_until_ready(overwrite(full()))  # compiled now, it runs at once below
    state = jax.block_until_ready(full())
    target = abstract(state)
    with checkpoints(tmp_path) as saved:
        saved.save(1, state, 0)
        jax.block_until_ready(overwrite(state))
        assert_same_bits(saved.restore(target).state, full())


def test_other_settings_are_refused_unless_accepted(two_steps):
    changed = IDENTITY | {"seed": 1, "data.packing": True}
    with pytest.raises(UserError) as error:
        restore(two_steps, identity=changed)
    assert "seed: 0 -> 1" in str(error.value)
    assert "data.packing: 'unset' -> True" in str(error.value)
    assert "accept" in str(error.value) and "\n" not in str(error.value)
    lines = []
    with checkpoints(two_steps, identity=changed, report=lines.append) as saved:
        state = abstract(make_state(0))
        assert saved.restore(state, accept_changes=True).step == 2
    assert len(lines) == 1 and "seed: 0 -> 1" in lines[0]


def test_identity_is_compared_as_json(tmp_path):
    for step, sources in ((1, ["a", "b"]), (2, ("a", "b"))):
        with checkpoints(tmp_path, identity={"sources": sources, "x": 0.1}) as saved:
            restored = saved.restore(abstract(make_state(0)))
            assert (restored.step if restored else 0) == step - 1
            saved.save(step, make_state(step), 0)


def test_the_identity_is_that_of_the_experiment(tmp_path):
    experiment = PretrainingExperiment(name="demo")
    with checkpoints(tmp_path, identity=identity(experiment)) as saved:
        saved.save(1, make_state(1), 0)
    found = json.loads((tmp_path / "1" / MANIFEST).read_text())
    assert found["identity"] == digest(identity(experiment))


def test_other_arrays_are_refused(two_steps):
    wider = abstract(make_state(0, rows=65))
    with checkpoints(two_steps) as saved:
        with pytest.raises(UserError, match=r"params/w: 'float32\[64,256\]' -> "):
            saved.restore(wider)


def test_a_branch_can_be_restored_alone(two_steps):
    with checkpoints(two_steps) as saved:
        branch = {"params": abstract(make_state(0)["params"])}
        restored = saved.restore(branch, partial=True)
        assert_same_bits(restored.state, {"params": make_state(2)["params"]})
        with pytest.raises(UserError, match="params/other: 'unset'"):
            branch["params"]["other"] = branch["params"]["w"]
            saved.restore(branch, partial=True)


@contextlib.contextmanager
def largest_file(size):
    """Let the system refuse, mid-write, every file of more bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_names_the_cause_and_harms_nothing(tmp_path, caplog):
    with checkpoints(tmp_path) as saved:
        saved.save(1, make_state(1), 8)
        saved.wait()
        with largest_file(20_000):
            saved.save(2, make_state(2), 16)
            with pytest.raises(UserError) as error:
                saved.save(3, make_state(3), 24)
        assert "writing the checkpoint of step 2" in str(error.value)
        assert "File too large" in str(error.value)
        assert "the checkpoint of step 1 is intact" in str(error.value)
        assert steps(tmp_path) == [1]
        saved.save(3, make_state(3), 24)
    assert restore(tmp_path)[0].step == 3
    assert not caplog.records


def test_a_failed_save_surfaces_on_leaving_but_hides_no_other_error(tmp_path):
    lines = []
    with pytest.raises(UserError, match="no earlier checkpoint"):
        with checkpoints(tmp_path) as saved, largest_file(20_000):
            saved.save(1, make_state(1), 0)
            saved._pending.exception()
    with pytest.raises(ZeroDivisionError):
        with checkpoints(tmp_path, report=lines.append) as saved:
            with largest_file(20_000):
                saved.save(1, make_state(1), 0)
                saved._pending.exception()
            _ = 1 / 0
    assert len(lines) == 1 and "File too large" in lines[0]
    assert steps(tmp_path) == []


def run_script(script, *arguments, command=(sys.executable,)):
    """The script's standard output; nothing may appear on standard error."""
    done = subprocess.run(
        [*command, "-c", script, *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


NO_DIRECTORY = """
import sys
from pathlib import Path
import jax.numpy as jnp
from albert_jax.config import UserError
from albert_jax.train.checkpoint import Checkpoints
try:
    with Checkpoints(Path(sys.argv[1]), keep=2, identity={}, report=print) as saved:
        saved.save(1, {"w": jnp.ones(3)}, 0)
except UserError as error:
    print(error)
"""


def test_a_directory_that_cannot_be_made_lets_the_process_end(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "failed (Not a directory)" in run_script(NO_DIRECTORY, tmp_path / "file")


MANY_WRITERS = """
import resource, signal, sys
from pathlib import Path
import jax.numpy as jnp
from albert_jax.config import UserError
from albert_jax.train.checkpoint import Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
state = {f"w{i}": jnp.full((100, 100), i) for i in range(200)}
try:
    with Checkpoints(Path(sys.argv[1]), keep=2, identity={}, report=print) as saved:
        saved.save(1, state, 0)
except UserError as error:
    print(error)
"""


def test_what_writes_on_after_a_failure_is_not_heard(tmp_path):
    assert "File too large" in run_script(MANY_WRITERS, tmp_path)


FULL_DISK = """
import os, sys
from pathlib import Path
import jax, jax.numpy as jnp
from albert_jax.config import UserError
from albert_jax.train.checkpoint import Checkpoints
disk = Path(sys.argv[1])
state = {"w": jax.random.normal(jax.random.key(0), (500, 1000))}
abstract = {"w": jax.ShapeDtypeStruct((500, 1000), "float32",
                                      sharding=state["w"].sharding)}
for free in range(1_000_000, 3_000_000, 250_000):
    with Checkpoints(disk / str(free), keep=2, identity={}, report=print) as saved:
        saved.save(1, state, 0)
        saved.wait()
        size = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "filler").write_bytes(bytes(size - free))
        try:
            saved.save(2, state, 0)
            saved.wait()
            print("saved")
        except UserError as error:
            print(error)
        print(saved.restore(abstract).step)
    (disk / "filler").unlink()
    os.system(f"rm -r {disk / str(free)}")
"""


def test_a_full_disk(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)]
    private = ["unshare", "--user", "--map-root-user", "--mount"]
    if os.geteuid() == 0:
        private = ["unshare", "--mount"]
    try:
        subprocess.run([*private, *mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    shell = ["sh", "-c", f'{" ".join(mount)} && exec "$@"', "sh", sys.executable]
    output = run_script(FULL_DISK, tmp_path, command=[*private, *shell])
    lines = output.splitlines()
    failures, restored = lines[::2], lines[1::2]
    assert failures[0].startswith("the disk is full: writing the checkpoint of step 2")
    assert failures[0].endswith("the checkpoint of step 1 is intact")
    assert "saved" in failures
    assert restored == ["2" if line == "saved" else "1" for line in failures]


SAVE_FOR_EVER = """
import os, sys
from pathlib import Path
import jax.numpy as jnp
from albert_jax.train.checkpoint import Checkpoints
folder = Path(sys.argv[1])
folder.mkdir()
with Checkpoints(folder, keep=1, identity={}, report=print) as saved:
    for step in range(1, 100_000):
        saved.save(step, {"w": jnp.full((300, 1000), step)}, step)
        (folder / "returned.new").write_text(str(step))
        os.replace(folder / "returned.new", folder / "returned")
"""


def test_a_kill_at_any_moment_leaves_a_checkpoint(tmp_path):
    rng, folders = random.Random(0), [tmp_path / str(i) for i in range(4)]

    def returned(folder):
        path = folder / "returned"
        return int(path.read_text()) if path.exists() else 0

    runs = [
        subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, folder], env=ENVIRONMENT)
        for folder in folders
    ]
    try:
        for run, folder in zip(runs, folders, strict=True):
            while returned(folder) < 2:
                assert run.poll() is None
                time.sleep(0.001)
            time.sleep(rng.uniform(0.05, 0.3))
            run.kill()
    finally:
        for run in runs:
            run.kill()
            run.wait()
    template = {"w": jnp.zeros((300, 1000), jnp.int32)}
    for folder in folders:
        lines = []
        with checkpoints(folder, identity={}, report=lines.append) as saved:
            restored = saved.restore(abstract(template))
            assert restored.step >= returned(folder) - 1
            assert (restored.state["w"] == restored.step).all()
            assert all("never finished" in line for line in lines)
            saved.save(restored.step + 1, restored.state, 0)
        assert saved._steps()[0] == restored.step + 1


SHARDED = """
import sys
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from albert_jax.train.checkpoint import Checkpoints

def shardings(shape, devices, w):
    mesh = jax.make_mesh(shape, ("data", "fsdp"), (AxisType.Auto,) * 2, devices=devices)
    return {"w": NamedSharding(mesh, w), "b": NamedSharding(mesh, P("fsdp")),
            "step": NamedSharding(mesh, P()), "key": NamedSharding(mesh, P())}

all8 = jax.devices()
layouts = {
    "eight": shardings((1, 8), all8, P("fsdp")),
    "one": shardings((1, 1), all8[:1], P()),
    "other": shardings((2, 4), all8, P(("data",), "fsdp")),
}
state = {"w": jax.random.normal(jax.random.key(0), (16, 24)),
         "b": jnp.arange(8, dtype=jnp.bfloat16) / 3,
         "step": jnp.int32(5), "key": jax.random.key(9)}
bits = lambda x: np.asarray(jax.random.key_data(x) if jnp.issubdtype(
    x.dtype, jax.dtypes.prng_key) else x).tobytes()
wanted = jax.tree.map(bits, state)
for source in layouts:
    folder = Path(sys.argv[1]) / source
    with Checkpoints(folder, keep=1, identity={}, report=print) as saved:
        saved.save(5, jax.device_put(state, layouts[source]), 40)
        for target, layout in layouts.items():
            abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(
                x.shape, x.dtype, sharding=s), state, layout)
            restored = saved.restore(abstract)
            assert restored.position == 40
            assert jax.tree.map(bits, restored.state) == wanted, (source, target)
            assert restored.state["w"].sharding == layout["w"], (source, target)
            print(source, target)
"""


def test_any_mesh_restores_what_any_other_saved(tmp_path):
    assert len(run_script(SHARDED, tmp_path).splitlines()) == 9
