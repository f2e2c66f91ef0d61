"""One search in a worker thread: its orders, its bench, its recording, its snapshots.

The way of a click, on a cell of the attraction map and then on Merge:

 1. browser: ``pick`` in ``views/cells.js`` writes the pair into a hidden field; Merge is a button.
 2. server: ``Cells._pick``, ``AttractionView.picked``, ``BenchView.pick``; ``BenchView._command``.
 3. ``orders.Mailbox.choose`` and ``.command`` replace the ``Orders``, notify the worker and return.
 4. worker: ``Session._work`` takes the orders between two steps, and ``_do_round`` follows them.
 5. ``previews.Previews.serve`` waits for the evolver's turn and finds what is due on the bench.
 6. ``workbench.Workbench.show`` evaluates the child of the pair; ``.merge`` submits it.
 7. ``Evolver.tell`` has it judged by ``Archive.judge`` and put in by ``Archive.admit``.
 8. Observers follow: the lineage, ``SnapshotBuilder.count``, and the ``Recorder`` of the store.
 9. ``Session._publish`` takes a snapshot by ``SnapshotBuilder.build`` and calls the listeners.
10. One is ``Page.request_refresh``: ``RefreshScheduler`` follows it on the event loop of the page.
11. server: ``Page.refresh`` hands the snapshot to ``BenchView.update`` and all other views.
12. browser: Bokeh sends what has changed; ``bench/split_editor.js`` and the plots draw it.
"""
