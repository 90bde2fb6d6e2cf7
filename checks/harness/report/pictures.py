"""Draws evidence in characters: rows of requests, histogram, table, hockey stick; with or without Unicode."""

from __future__ import annotations

from rich.text import Text

from checks.harness.report.batches import BatchLaw, BatchTimeline
from checks.harness.report.evidence import Evidence, Histogram, HockeyStick, Number, Overload, Table, Timeline
from checks.harness.report.spread import spread
from checks.harness.report.token_timeline import TokenGoodput, TokenRow, TokenTimeline

LABEL = 8
ROWS = 12
"""Rows that the card shows of a timeline."""
BAR_MARGIN, CURVE_MARGIN = 32, 32
"""Columns beside the bar of a row, and beside the two bars of a hockey stick."""


def draw(evidence: Evidence, *, width: int, ascii_only: bool) -> list[Text]:
    """One piece of evidence as lines of about `width` columns; none for a number, which stands in the row."""
    match evidence:
        case Timeline():
            return _timeline(evidence, width - BAR_MARGIN, ascii_only)
        case Histogram():
            return _histogram(evidence, width - BAR_MARGIN, ascii_only)
        case Table():
            return _table(evidence)
        case HockeyStick():
            return _hockey_stick(evidence, (width - CURVE_MARGIN) // 2, ascii_only)
        case Overload():
            return _table(overload_table(evidence))
        case TokenTimeline():
            return _token_timeline(evidence, width - BAR_MARGIN, ascii_only)
        case TokenGoodput():
            return _table(goodput_table(evidence))
        case BatchTimeline():
            return _batches(evidence, width - BAR_MARGIN, ascii_only)
        case BatchLaw():
            return _table(law_table(evidence))
        case Number():
            return []


def _timeline(evidence: Timeline, columns: int, ascii_only: bool) -> list[Text]:
    """Waiting and working of each request on one time axis."""
    waiting, working, edge = (".", "#", "|") if ascii_only else ("░", "█", "│")
    rows = spread(evidence.rows, ROWS)
    end = max((row.end for row in rows), default=0.0) or 1.0
    label = LABEL if any(row.label for row in rows) else 0
    lines = [Text(evidence.title, style="bold")]
    for row in rows:
        start, work, stop = (_column(ms, end, columns) for ms in (row.wait, row.work, row.end))
        stop = max(stop, work + 1) if row.end > row.work else stop
        stop, work = min(stop, columns), min(work, columns - 1) if row.end > row.work else min(work, columns)
        bar = Text(" " * start)
        bar.append(waiting * (work - start), style="yellow")
        bar.append(working * (stop - work), style="cyan")
        bar.pad_right(columns - len(bar))
        ended = f"{row.end:.0f} ms" if row.how == "answered" else "no answer"
        lines.append(Text(f"{row.label:>{label}} {edge}").append_text(bar).append(f"{edge} {ended}"))
    if left_out := evidence.left_out + len(evidence.rows) - len(rows):
        lines.append(Text(f"{'':>{label}} and {left_out} more between them", style="dim"))
    note = f" ({evidence.note})" if evidence.note else ""
    lines.append(Text(f"{'':>{label}} {waiting} waiting  {working} in the model{note}", style="dim"))
    return lines


def _token_timeline(evidence: TokenTimeline, columns: int, ascii_only: bool) -> list[Text]:
    """Of each stream the wait for its first token, each token that came, and where it stalled."""
    waiting, token, stalled, edge = (".", "#", "~", "|") if ascii_only else ("░", "▮", "╌", "│")
    rows = spread(evidence.rows, ROWS)
    end = max((row.end for row in rows), default=0.0) or 1.0
    lines = [Text(evidence.title, style="bold")]
    for row in rows:
        marks = [" "] * columns
        places = [min(_column(ms, end, columns), columns - 1) for ms in row.tokens]
        first = _column(row.tokens[0] if row.tokens else row.end, end, columns)
        for begin, until, mark in [
            (_column(row.due, end, columns), first, waiting),
            *((places[n], places[n + 1], stalled) for n in row.stalls),
            *((place, place + 1, token) for place in places),
        ]:
            marks[begin:until] = mark * (min(until, columns) - begin)
        bar = Text("".join(marks))
        for mark, style in ((waiting, "yellow"), (token, "cyan"), (stalled, "red")):
            bar.highlight_words([mark], style)
        lines.append(Text(f" {edge}").append_text(bar).append(f"{edge} {_token_numbers(row)}"))
    if left_out := evidence.left_out + len(evidence.rows) - len(rows):
        lines.append(Text(f" and {left_out} more between them", style="dim"))
    note = f" ({evidence.note})" if evidence.note else ""
    words = f" {waiting} until the first token  {token} tokens  {stalled} a stall; at the right: TTFT + tokens x TPOT"
    lines.append(Text(words + note, style="dim"))
    return lines


def _token_numbers(row: TokenRow) -> str:
    if row.ttft is None or row.how != "finished":
        came = f", tokens: {len(row.tokens)}" if row.tokens else ""
        return f"{row.how}{came}"
    return f"{row.ttft:.0f} ms" + (f" + {len(row.tokens) - 1} x {row.tpot:.1f}" if row.tpot is not None else "")


def _batches(evidence: BatchTimeline, columns: int, ascii_only: bool) -> list[Text]:
    """Of each batch how many were in it, the wait of its longest waiting, and its time in the model."""
    waiting, working, edge = (".", "#", "|") if ascii_only else ("░", "█", "│")
    batches = evidence.batches[:ROWS]
    end = max((batch.ended for batch in batches), default=0.0) or 1.0
    lines = [Text(evidence.title, style="bold")]
    for batch in batches:
        due, began, ended = (_column(ms, end, columns) for ms in (batch.due[0], batch.began, batch.ended))
        bar = Text(" " * due)
        bar.append(waiting * (began - due), style="yellow")
        bar.append(working * (ended - max(began, due)), style="cyan")
        bar.pad_right(columns - len(bar))
        lines.append(Text(f"{len(batch.due):>{LABEL}} {edge}").append_text(bar).append(f"{edge} {batch.ended:.0f} ms"))
    if left_out := evidence.left_out + len(evidence.batches) - len(batches):
        lines.append(Text(f"{'':>{LABEL}} and {left_out} more behind them", style="dim"))
    words = f"at the left: how many in a batch  {waiting} its first waited  {working} in the model"
    lines.append(Text(f"{'':>{LABEL}} {words} ({evidence.note})", style="dim"))
    return lines


def _column(ms: float, end: float, columns: int) -> int:
    return round(max(ms, 0.0) / end * columns)


def _histogram(evidence: Histogram, columns: int, ascii_only: bool) -> list[Text]:
    """How many requests took how long."""
    full = "#" if ascii_only else "█"
    most = max((bucket.count for bucket in evidence.buckets), default=0) or 1
    lines = [Text(evidence.title, style="bold")]
    for bucket in evidence.buckets:
        bar = full * -(-bucket.count * columns // most)
        edges = f"{bucket.low:.4g}-{bucket.high:.4g} ms"
        lines.append(Text(f"{edges:>18} ").append(bar, style="cyan").append(f" {bucket.count}"))
    named = (("p50", evidence.p50), ("p95", evidence.p95), ("p99", evidence.p99))
    percentiles = "  ".join(f"{name} {ms:.4g} ms" for name, ms in named if ms is not None)
    lines.append(Text(f"{'':>18} {percentiles}", style="dim"))
    return lines


def _table(evidence: Table) -> list[Text]:
    """Columns side by side, the first to the left and the others to the right."""
    rows = [evidence.columns, *evidence.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(evidence.columns))]
    lines = [Text(evidence.title, style="bold")]
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(Text("  " + "   ".join(cells).rstrip(), style="dim" if number == 0 else ""))
    return lines


def overload_table(evidence: Overload) -> Table:
    """The numbers of an overload, as the card shows them."""
    late = f"> {evidence.gave_up_ms:.0f}"
    rows = []
    for point in evidence.points:
        row = [f"{point.times:g} x", f"{point.lasted:g}", f"{point.sent:.0f}"]
        for served in (point.limited, point.unlimited):
            row += [f"{served.goodput:.0f}", late if served.p95_ms is None else f"{served.p95_ms:.0f}"]
        rows.append(row)
    columns = ["load", "for s", "sent/s", "goodput/s", "p95 ms", "without: goodput/s", "p95 ms"]
    return Table(evidence.title, columns, rows)


def goodput_table(evidence: TokenGoodput) -> Table:
    """The numbers of a goodput over load, as the card shows them."""
    rows = [
        [
            f"{point.times:g} x",
            *(f"{value:.1f}" for value in (point.sent, point.finished, point.goodput)),
            *("inf" if ms is None else f"{ms:.0f}" for ms in (point.ttft_p95_ms, point.tpot_p95_ms)),
        ]
        for point in evidence.points
    ]
    columns = ["load", "sent/s", "finished/s", "goodput/s", "TTFT p95 ms", "TPOT p95 ms"]
    return Table(evidence.title, columns, rows)


def law_table(evidence: BatchLaw) -> Table:
    """What was measured beside what the law says, as the card shows it."""
    law = {at.rate: at for at in evidence.law}

    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    rows = [
        [
            f"{at.rate:.1f}",
            *(number(one.size, 2) for one in (at, law[at.rate])),
            *(number(one.mean_ms, 0) for one in (at, law[at.rate])),
        ]
        for at in evidence.points
    ]
    return Table(evidence.title, ["sent/s", "batch", "by the law", "mean ms", "by the law"], rows)


def _hockey_stick(evidence: HockeyStick, columns: int, ascii_only: bool) -> list[Text]:
    """Throughput and p95 over users, side by side: a hockey stick lies on its side."""
    full, limit = ("#", "|") if ascii_only else ("█", "┊")
    points, slo, capacity = evidence.points, evidence.slo_ms, evidence.capacity
    fastest = max([capacity, *(point.requests_per_second for point in points)])
    slowest = max([slo, *(point.p95_ms for point in points)])
    lines = [Text(evidence.title, style="bold")]
    lines.append(Text(f"{'users':>5}  {'requests/s':<{columns + 6}}  p95 in ms", style="dim"))
    for point in points:
        throughput = _bar(point.requests_per_second, capacity, fastest, columns, (full, limit, "cyan"))
        latency = _bar(point.p95_ms, slo, slowest, columns, (full, limit, "yellow" if point.p95_ms > slo else "cyan"))
        line = Text(f"{point.users:>5}  ").append_text(throughput)
        line.append(f"{point.requests_per_second:>6.0f}  ").append_text(latency)
        line.append(f"{point.p95_ms:>6.0f}").append(_marks(evidence, point.users), style="bold")
        lines.append(line)
    words = f"{limit} capacity {capacity:.0f} requests/s"
    lines.append(Text(f"{'':>7}{words:<{columns + 6}}  {limit} SLO {slo:.0f} ms", style="dim"))
    return lines


def _marks(evidence: HockeyStick, users: int) -> str:
    """Whether the breaking point is here: as it was found, as it truly is, or both."""
    marks = [name for name in ("found", "true") if getattr(evidence, name) == users]
    return {0: "", 1: f" {''.join(marks)}", 2: " breaks"}[len(marks)]


def _bar(value: float, mark: float, most: float, columns: int, look: tuple[str, str, str]) -> Text:
    """A bar with a line across it where `mark` is; `look` is the bar's character, the line's, and the bar's style."""
    full, limit, style = look
    length, at = round(value / most * (columns - 1)), round(mark / most * (columns - 1))
    bar = Text((full * length).ljust(columns), style=style)
    return Text.assemble(bar[:at], (limit, "bold"), bar[at + 1 :])
