"""THE WRITE PATH: whatever is recorded goes through one queue, is committed in groups, and is acknowledged after its commit.

Group commit without a timer. Whoever has the lead takes all that is queued, commits it in one transaction and tells those who
wait; what arrives meanwhile is the next group. Alone, an entry pays for one commit; under load the groups grow by themselves.
There is one ``StoreWriter`` and one lead, so entries are committed in the order in which they were submitted, over retries too.

Who leads. A *thread* that waits for its receipt takes the lead if it is free and commits for all; a step of a lone thread then
costs no change of threads. Everything else is led by the *writer thread*: entries of event loops, entries nobody waits for,
retries, and what a leader left behind. The main thread never leads: an interrupt (Ctrl-C) may strike it between any two lines.

Event loops hand over what one turn of the loop produced with one wake-up of the writer, and are woken once for each batch. A busy
loop would starve the writer; ``loops`` says why, and what is done about it.

A *lazy* entry (the start of a short step) is held back for ``start_visible_after_s``, or until something else than the end of a step of
its run is queued. The end of its own step takes its place: the row is written once, and a step that is slow still becomes visible.
What nobody waits for is not acknowledged: a process that is killed may lose the last milliseconds of it.

While the database fails, entries are kept and the write is tried again, with growing pauses; receipts stay pending. Every entry is
idempotent, so a write whose commit got lost is simply repeated. An exception that the store should not raise costs the entry that
causes it, never the writer: the batch is taken apart, and an entry that fails again alone is refused with ``EntryRejected``.

Not chosen: committing inside the event loop (faster one at a time, but a slow disk would stop the host application), a connection
for each thread (SQLite has one writer; on PostgreSQL two or four connections gained nothing), a queue for each loop (a run whose
code changes threads would have two orders).

Entries of observed runs, which nobody waits for, come through the ``relay``: while the database is away it puts them into a file.

``queue`` what waits; ``lead`` who commits, and the writer's sleep; ``loops`` what an event loop does; ``gate``, ``relay`` and ``spool`` the
file;
``journal`` the journal.
"""

from .gate import COPIED, Settles, weight
from .journal import Journal, JournalStats, Receipt

__all__ = ["COPIED", "Journal", "JournalStats", "Receipt", "Settles", "weight"]
