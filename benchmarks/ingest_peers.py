"""What benchmarks.ingest holds our ingestion against; each runs in a process of its own and prints one line of JSON.

    python -m benchmarks.ingest_peers floor RAW --gunzip isal
    python -m benchmarks.ingest_peers yardstick RAW --shape mimic4 --output documents.parquet

The floor unpacks every raw CSV in a stream, by zlib or by the quicker ISA-L, scans it and keeps nothing. The
yardstick does what scripts of reference projects are described to do: read the whole table of notes with polars,
filter, sort, group by admission, join the codes, write Parquet.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv
from isal import igzip

if TYPE_CHECKING:
    import polars as pl

BLOCK_BYTES = 16 << 20
CODE_TABLES = ("diagnoses_icd", "procedures_icd")


def scan(raw: Path, gunzip: str = "isal") -> int:
    """Rows of all tables that an ingestion reads, streamed through gunzip and a CSV parser."""
    names = ("noteevents", "discharge", *CODE_TABLES)
    paths = [path for path in tables(raw) if path.name.lower().partition(".")[0] in names]
    return sum(batch.num_rows for path in paths for batch in batches(path, gunzip))


def tables(raw: Path) -> list[Path]:
    """All gzipped CSV files."""
    return sorted(raw.rglob("*.csv.gz"))


def batches(path: Path, gunzip: str) -> Iterator[pa.RecordBatch]:
    """Every column as text, as codes must be read."""
    with igzip.open(path, "rt", encoding="utf-8") as lines:
        names = next(csv.reader(lines))
    with (
        (gzip if gunzip == "zlib" else igzip).open(path) as stream,
        pa.csv.open_csv(
            stream,
            read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        ) as reader,
    ):
        yield from reader


def yardstick(raw: Path, shape: str, output: Path) -> int:
    """Documents written by the polars script."""
    documents = mimic3(raw) if shape == "mimic3" else mimic4(raw)
    documents.write_parquet(output)
    return len(documents)


def mimic3(raw: Path) -> pl.DataFrame:
    """Summaries of MIMIC-III, reports before addenda, joined by admission, with their ICD-9 codes."""
    import polars as pl

    notes = whole_table(raw, "noteevents").with_columns(pl.col("category").str.strip_chars())
    notes = notes.filter(pl.col("category") == "Discharge summary").filter(pl.col("hadm_id").str.len_chars() > 0)
    notes = notes.with_columns((pl.col("description") == "Addendum").alias("is_addendum"))
    notes = notes.sort("subject_id", "hadm_id", "is_addendum", "charttime", "chartdate", maintain_order=True)
    texts = notes.group_by("subject_id", "hadm_id", maintain_order=True).agg(pl.col("text").str.join(" "))
    return join_codes(texts, [whole_table(raw, name).rename({"icd9_code": "icd_code"}) for name in CODE_TABLES])


def mimic4(raw: Path) -> pl.DataFrame:
    """Summaries of MIMIC-IV with the ICD-10 codes of their admission."""
    import polars as pl

    notes = whole_table(raw, "discharge").filter(pl.col("hadm_id").str.len_chars() > 0)
    notes = notes.sort("subject_id", "hadm_id", "note_seq", maintain_order=True)
    texts = notes.group_by("subject_id", "hadm_id", maintain_order=True).agg(pl.col("text").str.join("\n\n"))
    codes = [whole_table(raw, name).filter(pl.col("icd_version").str.strip_chars() == "10") for name in CODE_TABLES]
    return join_codes(texts, codes)


def whole_table(raw: Path, name: str) -> pl.DataFrame:
    """A table in memory, every column as text, names in lower case."""
    import polars as pl

    (path,) = (path for path in tables(raw) if path.name.lower() == f"{name}.csv.gz")
    frame = pl.read_csv(path, infer_schema=False)
    return frame.rename({column: column.lower() for column in frame.columns})


def join_codes(texts: pl.DataFrame, tables: list[pl.DataFrame]) -> pl.DataFrame:
    """Texts with the list of their admission's codes; admissions without any are left out."""
    import polars as pl

    stripped = [
        table.with_columns(pl.col("icd_code").str.strip_chars(), pl.col("seq_num").cast(pl.Int64, strict=False))
        .filter(pl.col("icd_code").str.len_chars() > 0)
        .sort("hadm_id", "seq_num", maintain_order=True)
        .group_by("hadm_id", maintain_order=True)
        .agg(pl.col("icd_code").unique(maintain_order=True))
        for table in tables
    ]
    diagnoses, procedures = stripped
    codes = diagnoses.join(procedures.rename({"icd_code": "procedures"}), on="hadm_id", how="full", coalesce=True)
    return texts.join(codes, on="hadm_id", how="inner")


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("which", choices=["floor", "yardstick"])
    parser.add_argument("raw", type=Path)
    parser.add_argument("--gunzip", choices=["zlib", "isal"], default="isal")
    parser.add_argument("--shape", choices=["mimic3", "mimic4"], default="mimic4")
    parser.add_argument("--output", type=Path, default=Path("documents.parquet"))
    arguments = parser.parse_args()
    if arguments.which == "floor":
        print(json.dumps({"rows": scan(arguments.raw, arguments.gunzip)}), flush=True)
        os._exit(0)  # now and then the interpreter's end meets a thread of pyarrow that still reads ahead, and aborts
    else:
        print(json.dumps({"documents": yardstick(arguments.raw, arguments.shape, arguments.output)}))


if __name__ == "__main__":
    main()
