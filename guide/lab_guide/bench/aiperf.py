"""A run of streams in the form of NVIDIA AIPerf's per-request records (`profile_export.jsonl`).

The form is documented in AIPerf's "Working with Profile Export Files". It has no version of its own; here are only the
fields that its models have wanted since 0.3. Times are wall-clock, in ns, and begin when the prediction was written
down. TTFT and latency count from when a stream was due, where AIPerf counts from when it was sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from checks.harness.load.streams import Stream, gaps, mean_gap, ttft
from checks.harness.load.trace import MS
from lab_guide.bench.kept import Record
from lab_guide.bench.shown import stream_of_row

WORKER = "lab-bench"


def lines(record: Record) -> Iterator[str]:
    """A line of JSON for each stream that the run has kept."""
    origin = datetime.fromisoformat(record.written_at).timestamp()
    for number, row in enumerate(record.rows):
        yield json.dumps(_record(number, stream_of_row(row), origin)) + "\n"


def _record(number: int, stream: Stream, origin: float) -> dict[str, Any]:
    metadata = {
        "session_num": number,
        "request_start_ns": round((origin + stream.scheduled) * 1e9),
        "request_end_ns": round((origin + stream.ended) * 1e9),
        "worker_id": WORKER,
        "record_processor_id": WORKER,
        "benchmark_phase": "profiling",
    }
    if stream.finished is None:
        return {"metadata": metadata, "metrics": {}, "error": {"code": stream.status or None, "message": stream.error}}
    per_token = mean_gap(stream)
    metrics: dict[str, tuple[Any, str]] = {
        "request_latency": (_ms(stream.ended - stream.scheduled), "ms"),
        "output_sequence_length": (len(stream.tokens), "tokens"),
        **({"time_to_first_token": (_ms(ttft(stream)), "ms")} if stream.tokens else {}),
        **({} if per_token is None else {"inter_token_latency": (_ms(per_token), "ms")}),
        **({} if per_token is None else {"inter_chunk_latency": ([*map(_ms, gaps(stream))], "ms")}),
    }
    named = {name: {"value": value, "unit": unit} for name, (value, unit) in metrics.items()}
    return {"metadata": metadata, "metrics": named, "error": None}


def _ms(seconds: float) -> float:
    return round(seconds * MS, 3)
