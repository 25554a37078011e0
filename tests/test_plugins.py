"""Bricks and systems of a user's own package, as docs/add-a-lego.md shows them."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from torch import nn

from legos import plugins
from legos.commands.main import main as legos
from legos.commands.run import main
from legos.config.model_schema import _SYSTEMS
from legos.errors import CheckpointError, ConfigError
from legos.modes.train_test import open_trained
from legos.registry import BrickConfig, Registry, item_encoders, predictors, user_encoders
from tests.test_add_a_system import FILES
from tests.tiny import tiny_tables

GUIDE = (Path(__file__).parents[1] / "docs" / "add-a-lego.md").read_text(encoding="utf-8")
(MEAN_MAX,) = re.findall(r"`legos/item/mean_max\.py`:\n```python\n(.*?)```", GUIDE, re.DOTALL)
(INIT,) = re.findall(r"`my_bricks/__init__\.py`:\n```python\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = re.findall(r"^legos (.*--plugin my_bricks.*)$", GUIDE.replace("\\\n", ""), re.MULTILINE)
OTHERS = '''
"""A user encoder and a predictor of our own."""
from typing import Literal
from torch import nn, ones
from legos.registry import PredictorConfig, UserEncoderConfig, predictors, user_encoders


class LastConfig(UserEncoderConfig):
    name: Literal["last_click"] = "last_click"


@user_encoders.register(LastConfig)
class Last(nn.Module):
    order_aware = True

    def __init__(self, settings):
        super().__init__()

    def forward(self, history, mask):
        position = mask.long().cumsum(1).argmax(1)  # (B,)
        return history[range(len(history)), position] * mask.any(1, keepdim=True)


class ScaledConfig(PredictorConfig):
    name: Literal["scaled_dot"] = "scaled_dot"


@predictors.register(ScaledConfig)
class Scaled(nn.Module):
    def __init__(self, settings, *, hidden_size):
        super().__init__()
        self.scale = nn.Parameter(ones(hidden_size))

    def forward(self, user, candidates):
        return (user * self.scale * candidates).sum(-1)
'''
BRICKS = [
    "--model.item", "{name: mean_max, activation: tanh}", "--user", "last_click",
    "--predictor", "scaled_dot",
]  # fmt: skip


def write_package(folder: Path) -> None:
    """The package ``my_bricks``: the brick of the guide, two others, the system of its guide."""
    package = folder / "my_bricks"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(INIT + "from my_bricks import others\n")
    (package / "mean_max.py").write_text(MEAN_MAX)
    (package / "others.py").write_text(OTHERS)
    for path, text in FILES.items():
        if path.endswith(".py"):
            own = text.replace("legos.systems.biased_mf", "my_bricks")
            (package / Path(path).name).write_text(own)


def forget() -> None:
    """As in a process that has imported no plug-in."""
    for registry in (item_encoders, user_encoders, predictors):
        for name in [name for name in registry.names() if plugins.owner(registry.config(name))]:
            del registry._bricks[name]
    for name in [name for name, system in _SYSTEMS.items() if plugins.owner(system.section)]:
        del _SYSTEMS[name]
    for name in [name for name in sys.modules if name.split(".")[0] in ("my_bricks", "my_mf")]:
        del sys.modules[name]
    plugins._loaded.clear()
    plugins._owners.clear()
    plugins._guests.clear()
    plugins._searched = False


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No plug-in is loaded, before and after."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny tables, a data YAML and the package."""
    folder = tmp_path_factory.mktemp("plugins")
    tables = tiny_tables(folder / "tables")
    (folder / "tiny.yaml").write_text(
        f"{{name: tiny, folder: {tables}, fields: [title@words, category], history_length: 6}}"
    )
    write_package(folder)
    return folder


def words(world: Path, *more: str, model: str = "pooling") -> list[str]:
    """A command line that trains an epoch."""
    return [
        "--data", str(world / "tiny.yaml"), "--model", model, "--exp", "tt", "--hidden_size", "8",
        "--exp.train.epochs", "1", "--exp.runs_folder", str(world / "runs"),
        "--exp.report", "false", "--exp.baselines", "[]", *more,
    ]  # fmt: skip


@pytest.fixture
def trained(world: Path, fresh: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of three bricks of the package, trained and tested; no plug-in is loaded any more."""
    monkeypatch.chdir(world)
    assert main(words(world, "--plugin", "my_bricks", *BRICKS)) == 0
    (run,) = (world / "runs/tiny/pooling").iterdir()
    forget()
    sys.path.remove(str(world))
    return run


@pytest.mark.slow
def test_a_run_remembers_its_plugins_and_whatever_opens_it_brings_them_in(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = json.loads((trained / "config.json").read_text())
    assert said["exp"]["plugins"] == ["my_bricks"]
    assert [key for key in said["sources"] if key.startswith("plug-in")] == ["plug-in my_bricks"]
    assert main(["--load", str(trained)]) == 0
    assert "is finished; its results" in capsys.readouterr().out
    assert open_trained(trained, device="cpu").parameters > 0


@pytest.mark.slow
def test_an_installed_package_needs_no_option_and_has_the_same_run(
    trained: Path, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(world, monkeypatch, "my_bricks")
    assert main(words(world, *BRICKS)) == 0
    assert f"{trained} is finished; its results" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.slow
def test_a_plugin_that_is_missing_or_has_changed_is_told(
    trained: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="trained with plug-in my_bricks: no module my_bri"):
        open_trained(trained, device="cpu")
    forget()
    write_package(tmp_path)
    others = tmp_path / "my_bricks" / "others.py"
    others.write_text(OTHERS.replace("ones(hidden_size)", "2 * ones(hidden_size)"))
    with pytest.raises(CheckpointError, match="plug-in my_bricks, whose code has changed since"):
        open_trained(trained, device="cpu")


@pytest.mark.slow
def test_a_system_of_a_package_is_trained_and_tested(
    world: Path, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    (world / "mf.yaml").write_text("system: biased_mf\nname: mf\nwidth: 4\n")
    (world / "tt.yaml").write_text("$$import: legos:exp/tt.yaml\nplugins: [my_bricks.settings]\n")
    said = [word for word in words(world, model="mf.yaml") if word not in ("--hidden_size", "8")]
    said[said.index("tt")] = "tt.yaml"
    assert main(said) == 0
    (run,) = (world / "runs/tiny/mf").iterdir()
    sources = json.loads((run / "config.json").read_text())["sources"]
    assert "plug-in my_bricks.settings" in sources
    assert open_trained(run, device="cpu").parameters > 0


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """What pip leaves of a package with an entry point."""
    about = folder / "my_bricks-1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-bricks\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[legos.plugins]\nmine = {module}\n")
    monkeypatch.syspath_prepend(str(folder))


def test_the_commands_of_the_guide(
    world: Path, fresh: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    listing, training = COMMANDS
    assert legos(shlex.split(listing)) == 0
    assert "mean_max  " in capsys.readouterr().out
    assert legos([*shlex.split(training), "--data.folder", "nothing", "--check"]) == 0
    assert "mean_max" in capsys.readouterr().out
    assert main(["--list", "system", "--plugin=my_bricks.settings"]) == 0
    assert "biased_mf" in capsys.readouterr().out


def test_a_run_without_bricks_of_a_plugin_is_the_run_without_it(
    world: Path, fresh: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    found = []
    for more in ([], ["--plugin", "my_bricks"]):
        assert main(words(world, "--check", *more)) == 0
        found += re.findall(r"run folder: (\S+)", capsys.readouterr().out.replace("\n", ""))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("my_bricks.nothing", None, "plug-in my_bricks.nothing: no module my_bricks.nothing"),
        ("bad name", None, "plug-in 'bad name': expected a module"),
        ("my_mf", "import no_such_package", "its import fails: ModuleNotFoundError: No module"),
        ("my_mf", "1 / 0", "its import fails: ZeroDivisionError: division by zero"),
        ("my_mf", "def :", "its import fails: SyntaxError"),
        ("my_mf", "raise SystemExit(3)", "its import fails: SystemExit: 3"),
        ("my_mf", OTHERS.replace("last_click", "pooling"), "must default to a new user encoder"),
        ("my_mf", "from legos.user.gru import last_state", "registers no brick and no system"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named(
    name: str,
    text: str | None,
    message: str,
    world: Path,
    tmp_path: Path,
    fresh: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_package(tmp_path)
    if text is not None:
        (tmp_path / "my_mf.py").write_text(text)
    assert main(words(world, "--plugin", name)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert f"plug-in {name}" in told.replace("'", "")
    assert text is None or "my_mf.py:" in told or "registers no brick" in message


def test_a_plugin_that_comes_first_cannot_take_a_shipped_name(
    tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ShippedConfig(BrickConfig):
        name: Literal["mean"] = "mean"

    class TakingConfig(BrickConfig):
        name: Literal["mean"] = "mean"

    registry = Registry("brick", "my_mf")
    known = SimpleNamespace(ship=lambda: registry.register(ShippedConfig)(Shipped))
    monkeypatch.setitem(sys.modules, "shipping", known)
    (tmp_path / "my_mf.py").write_text("import shipping\nshipping.ship()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_importing", ["somebody"])
    with pytest.raises(TypeError, match="a new brick name, not 'mean'"):
        registry.register(TakingConfig)


class Shipped(nn.Module):
    """A brick."""

    def __init__(self, settings: BrickConfig) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("history[range(len(history)), position]", "history", "my_mf.Last: gave a tensor of shape"),
        ("[range(len(history)), position]", "[:, 1 // 0]", "(plug-in my_mf: "),
    ],
)
def test_what_a_plugin_does_wrong_is_told_as_its_own(
    right: str,
    wrong: str,
    message: str,
    world: Path,
    tmp_path: Path,
    fresh: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_mf.py").write_text(
        OTHERS.replace(right, wrong).replace(" * mask.any(1, keepdim=True)", "")
    )
    assert main(words(world, "--plugin", "my_mf", "--user", "last_click")) != 0
    told = capsys.readouterr().err
    assert message in told
    assert "fault of legos" not in told


def test_an_installed_plugin_that_fails_names_its_package(
    tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_mf.py").write_text("1 / 0")
    install(tmp_path, monkeypatch, "my_mf")
    with pytest.raises(ConfigError, match=r"my_mf \(entry point of the installed package my-bri"):
        plugins.load_installed()
