"""A name means one base model, found without network; a folder's facts are told without loading it."""

import json
import os
import pickle
import struct
from pathlib import Path

import pytest

from brightrun.formats import base_models, model_folder
from brightrun.formats.base_models import BUILTIN, BaseModelNotFoundError, ModelFolderError, UnsafeModelError, resolve

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 16,
    "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 10, "max_position_embeddings": 32,
}  # fmt: skip


def write_safetensors(path: Path, shapes: dict[str, list[int]]) -> None:
    header, position = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(position))


def model(folder: Path, *, weights: bool = True, **config: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    if weights:
        write_safetensors(folder / "model.safetensors", {"a": [10, 8], "b": [8, 8]})
    return folder


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached_model(cache: Path, name: str = "org/small", commit: str = "abc123") -> Path:
    entry = cache / f"models--{name.replace('/', '--')}"
    folder = model(entry / "snapshots" / commit)
    (entry / "refs").mkdir(exist_ok=True)
    (entry / "refs" / "main").write_text(commit)
    return folder


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_models_are_found_by_name(name: str) -> None:
    found = resolve(name)
    assert (found.kind, found.folder) == ("builtin", BUILTIN[name])
    assert found.random_weights is (name == "tiny-random")


def test_a_folder_below_the_model_directory_is_found_by_its_relative_name(tmp_path: Path) -> None:
    folder = model(tmp_path / "models" / "team" / "one")
    found = resolve("team/one", base_model_dir=tmp_path / "models")
    assert (found.kind, found.folder, found.name) == ("folder", folder, "team/one")


def test_a_name_cannot_leave_the_model_directory(tmp_path: Path) -> None:
    model(tmp_path / "secret")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "link").symlink_to(tmp_path / "secret")
    for name in ("../secret", "link", str(tmp_path / "secret"), "x/../../secret"):
        with pytest.raises(BaseModelNotFoundError):
            resolve(name, base_model_dir=tmp_path / "models", allow_paths=False)


def test_a_path_is_found_unless_paths_are_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for name in (str(folder), "./mine", "mine"):
        assert resolve(name).folder == folder
        with pytest.raises(BaseModelNotFoundError):
            resolve(name, allow_paths=False)
    with pytest.raises(BaseModelNotFoundError, match="is not a folder"):
        resolve("./absent")


def test_a_hub_model_in_the_local_cache_is_found_without_network(hub_cache: Path) -> None:
    folder = cached_model(hub_cache)
    for name in ("org/small", "org/small@main", "org/small@abc123"):
        found = resolve(name)
        assert (found.kind, found.folder, found.revision, found.name) == ("hub_cache", folder, "abc123", "org/small")


def test_a_hub_model_that_is_not_whole_in_the_cache_is_not_used(hub_cache: Path) -> None:
    folder = cached_model(hub_cache)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BaseModelNotFoundError, match="switched off"):
        resolve("org/small")
    found = resolve("org/small@v1", allow_hub=True)
    assert (found.kind, found.folder, found.revision) == ("hub", None, "v1")


def test_an_unknown_name_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(BaseModelNotFoundError, match=r"tiny, tiny-random.*models/nothing.*hub"):
        resolve("nothing", base_model_dir=tmp_path / "models")
    for name in ("", " ", "/", "..", "a/b/c", "org/\x00", "x" * 5000, "org/model@../../x"):
        with pytest.raises(BaseModelNotFoundError):
            resolve(name, base_model_dir=tmp_path, allow_hub=name.startswith(("/", "a/")))


def test_every_model_that_is_there_is_listed(tmp_path: Path, hub_cache: Path) -> None:
    model(tmp_path / "models" / "one")
    model(tmp_path / "models" / "team" / "two")
    cached_model(hub_cache)
    names = [(m.name, m.kind) for m in base_models.list_available(tmp_path / "models")]
    assert names == [
        ("tiny", "builtin"),
        ("tiny-random", "builtin"),
        ("one", "folder"),
        ("team/two", "folder"),
        ("org/small", "hub_cache"),
    ]


def test_facts_are_read_from_the_configuration_and_the_headers(tmp_path: Path) -> None:
    facts = base_models.inspect_folder(model(tmp_path / "m", dtype="bfloat16"))
    assert (facts.architectures, facts.hidden_size, facts.layers, facts.vocab_size) == (("LlamaForCausalLM",), 8, 1, 10)
    assert (facts.parameters, facts.parameters_source, facts.dtype) == (144, "weights", "bfloat16")
    assert facts.weight_files == ("model.safetensors",)


def test_the_estimate_from_a_configuration_equals_the_weights_of_a_real_model() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    for name, folder in BUILTIN.items():
        real = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        config = json.loads((folder / "config.json").read_text())
        assert model_folder.estimate_parameters(config) == sum(p.numel() for p in real.parameters()), name
    facts = base_models.inspect_folder(BUILTIN["tiny-random"])
    assert (facts.parameters_source, facts.weight_files) == ("config", ())


def test_a_model_of_several_kinds_of_input_is_told_from_its_text_part(tmp_path: Path) -> None:
    nested = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 99}
    folder = model(tmp_path / "m", hidden_size=None, text_config=nested)
    facts = base_models.inspect_folder(folder)
    assert (facts.hidden_size, facts.layers, facts.vocab_size) == (64, 3, 99)


def test_pickled_weights_are_refused_unless_allowed_and_never_opened(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", weights=False)

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/sprung",)

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UnsafeModelError, match=r"pytorch_model\.bin"):
        base_models.inspect_folder(folder)
    facts = base_models.inspect_folder(folder, allow_pickle=True)
    assert (facts.pickled_files, facts.needs_pickle) == (("pytorch_model.bin",), True)
    assert not (tmp_path / "sprung").exists()
    write_safetensors(folder / "model.safetensors", {"a": [2, 2]})
    facts = base_models.inspect_folder(folder)  # safetensors win; the pickle is reported
    assert (facts.needs_pickle, facts.pickled_files) == (False, ("pytorch_model.bin",))


def test_code_that_a_model_brings_is_reported(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    assert base_models.inspect_folder(folder).remote_code == ("AutoModelForCausalLM: modeling_x.X",)


def test_missing_and_torn_weights_are_named(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    for torn in (b"", whole[:5], whole[:40], whole[:-1], b"\xff" * 64):
        (folder / "model.safetensors").write_bytes(torn)
        with pytest.raises(ModelFolderError, match="not a whole safetensors file"):
            base_models.inspect_folder(folder)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "../model-2-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_safetensors(folder / "model-1-of-2.safetensors", {"a": [2, 2]})
    with pytest.raises(ModelFolderError, match="1 of 2 weight files"):
        base_models.inspect_folder(folder)


def test_an_adapter_is_not_a_base_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelFolderError, match="adapter, not a base model"):
        base_models.inspect_folder(tmp_path)


def test_hashes_are_kept_by_size_and_time_and_follow_a_change(tmp_path: Path) -> None:
    folder, cache = model(tmp_path / "m"), tmp_path / "hashes.json"
    first = base_models.folder_sha256(folder, cache=cache)
    assert first == base_models.folder_sha256(folder) == base_models.folder_sha256(folder, cache=cache)
    hashes = json.loads(cache.read_text())
    cache.write_text(json.dumps(dict.fromkeys(hashes, "0" * 64)))
    assert set(base_models.hash_folder(folder, cache=cache).values()) == {"0" * 64}  # taken from the cache, not read
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert base_models.hash_folder(folder, cache=cache)["model.safetensors"] != "0" * 64
    cache.write_text("{torn")
    assert base_models.folder_sha256(folder, cache=cache) == first
    (folder / "config.json").write_text("{}")
    assert base_models.folder_sha256(folder, cache=cache) != first
