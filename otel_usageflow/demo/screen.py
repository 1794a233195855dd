"""The live screen: two columns that fit 80 by 24 characters, and use what more there is."""

from rich.console import Console, RenderableType
from rich.layout import Layout
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from otel_usageflow.demo.cast import dollars
from otel_usageflow.demo.plan import ENDPOINTS
from otel_usageflow.demo.scene import Scene
from otel_usageflow.ledger.amount import plain

_RIGHT = 31
"""Columns of the right side."""
_HEAD = 4
"""Rows above both."""
_HEADING = "bold cyan"


def draw(scene: Scene, console: Console) -> RenderableType:
    """The whole screen for the terminal's present size."""
    left, right = Layout(name="left"), Layout(name="right", size=_RIGHT)
    requests = _requests(scene)
    rows = max(console.height - _HEAD - (requests.row_count + 3) - 2, 1)
    left.split_column(
        Layout(_part("Requests", requests), size=requests.row_count + 3),
        Layout(_part("Meter events accepted by Stripe (the double)", _events(scene, rows))),
    )
    path, bills = _path(scene), _bills(scene)
    right.split_column(
        Layout(_part("From span to bill", path), size=path.row_count + 2),
        Layout(_part("What each customer owes", bills), size=bills.row_count + 2),
        Layout(_part("Quarantine, by reason", _quarantine(scene))),
    )
    columns = Layout()
    columns.split_row(left, Layout(" ", size=2), right)
    whole = Layout()
    whole.split_column(Layout(_head(scene), size=_HEAD), columns)
    return whole


def _part(title: str, content: RenderableType) -> Table:
    part = Table.grid(expand=True)
    part.add_row(Rule(Text(title, style=_HEADING), align="left", style="dim"))
    part.add_row(content)
    return part


def _head(scene: Scene) -> Table:
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column()
    head.add_column(ratio=1)
    head.add_column(justify="right")
    elapsed = min(scene.elapsed, scene.duration)
    bar = ProgressBar(total=scene.duration, completed=elapsed)
    head.add_row(
        Text("otel-usageflow demo", style="bold"),
        bar,
        Text(f"{elapsed:3.0f} of {scene.duration:g} s"),
    )
    lines = Table.grid(expand=True)
    lines.add_row(head)
    news = list(scene.news)[-2:]
    for text in news:
        style = "yellow" if text is news[-1] else "dim"
        lines.add_row(Text(text, style=style, no_wrap=True, overflow="ellipsis"))
    return lines


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", expand=True)


def _requests(scene: Scene) -> Table:
    table = _table()
    table.add_column("endpoint", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("user by", no_wrap=True)
    table.add_column("sent", justify="right", no_wrap=True)
    table.add_column("to bill", justify="right", no_wrap=True)
    for endpoint, source in ENDPOINTS.items():
        sent, billable = scene.tally.sent[endpoint], scene.tally.billable[endpoint]
        table.add_row(Text(endpoint), source, f"{sent:,}", f"{billable:,}")
    return table


def _events(scene: Scene, rows: int) -> Table:
    table = _table()
    table.add_column("time", no_wrap=True)
    table.add_column("customer", no_wrap=True)
    table.add_column("event", no_wrap=True, ratio=1)
    table.add_column("value", justify="right", no_wrap=True)
    for event in list(scene.events)[-rows:]:
        table.add_row(event.at, Text(event.customer), Text(event.event_name), plain(event.value))
    return table


def _path(scene: Scene) -> Table:
    table = _pairs()
    for label, count in path_of(scene):
        table.add_row(label, f"{count:,}")
    return table


def path_of(scene: Scene) -> list[tuple[str, int]]:
    """How far it has come, in numbers: label and count."""
    ledger = scene.ledger
    return [
        ("spans acknowledged", scene.spans),
        ("batches sent again", scene.again),
        ("users found", ledger.users),
        ("usage records, each once", ledger.records),
        ("  billed", ledger.billed),
        ("  on their way", ledger.under_way),
        ("  in quarantine", ledger.quarantined.total()),
    ]


def _bills(scene: Scene) -> Table:
    table = _pairs()
    for name, bill in scene.bills().items():
        table.add_row(Text(name), dollars(bill.owed))
    return table


def _quarantine(scene: Scene) -> Table:
    table = _pairs()
    for (reason, user), count in sorted(scene.ledger.quarantined.items()):
        table.add_row(Text(f"{reason} {user}".rstrip()), f"{count:,}")
    return table


def _pairs() -> Table:
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    return table
