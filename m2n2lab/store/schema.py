"""Schema: the tables of a run store, its versions, and how a file is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m2n2lab.utils.errors import InputError

BUSY_SECONDS = 5.0
"""Longest wait for another program that has locked the file, such as a database browser."""

APPLICATION_ID = 0x4D324E32
"""SQLite's ``application_id`` of a store: other databases are not mistaken for one."""

MIGRATIONS = (
    """
    CREATE TABLE runs (            -- one search, from the step at which recording began
      run INTEGER PRIMARY KEY,
      created TEXT NOT NULL,       -- UTC
      title TEXT NOT NULL,
      maker TEXT NOT NULL,
      method TEXT NOT NULL,
      options TEXT NOT NULL,       -- JSON: the evolver's keyword options
      task TEXT NOT NULL,          -- JSON: its description, and how to make it again
      shares BLOB,                 -- (D,) doubles, if data points have different weights
      space TEXT NOT NULL,         -- JSON: its description, and how to make it again
      start INTEGER NOT NULL,      -- the step at which it begins
      born INTEGER NOT NULL,       -- number of ids used by then
      rng BLOB NOT NULL,           -- the generator's state then
      graded INTEGER NOT NULL,     -- whether any scores were graded by then
      past BLOB NOT NULL,          -- history before that, and its first standing
      parent INTEGER               -- the run that it branched from, if any
    );
    CREATE TABLE seeds (           -- the models that the space was made from
      run INTEGER NOT NULL,
      seed INTEGER NOT NULL,
      name TEXT NOT NULL,
      sha256 TEXT NOT NULL,
      genome BLOB,                 -- for dense models
      PRIMARY KEY (run, seed)
    ) WITHOUT ROWID;
    CREATE TABLE founders (        -- members of the archive when the run began
      run INTEGER NOT NULL,
      row INTEGER NOT NULL,        -- of the archive
      id INTEGER NOT NULL,
      born INTEGER NOT NULL,
      parents TEXT NOT NULL,       -- JSON
      scores BLOB NOT NULL,
      PRIMARY KEY (run, row)
    ) WITHOUT ROWID;
    CREATE TABLE genomes (         -- of members, and of external models and founders
      run INTEGER NOT NULL,
      id INTEGER NOT NULL,
      genome BLOB NOT NULL,
      PRIMARY KEY (run, id)
    );
    CREATE TABLE steps (
      run INTEGER NOT NULL,
      step INTEGER NOT NULL,
      child INTEGER NOT NULL,
      outside INTEGER NOT NULL,    -- an external model that was never proposed
      parent_a INTEGER,
      parent_b INTEGER,
      split INTEGER,
      mix REAL,
      seed,                        -- an integer; text if it needs more than 63 bits
      by_hand TEXT NOT NULL,       -- names of the fields that were set by hand
      accepted INTEGER NOT NULL,
      score REAL,
      fitness REAL,
      rank INTEGER NOT NULL,
      rivals INTEGER NOT NULL,     -- number of competitors, the child included
      rival INTEGER,               -- displaced if accepted, else not beaten
      rival_fitness REAL,
      alone INTEGER NOT NULL,
      unseen INTEGER NOT NULL,
      best INTEGER NOT NULL,
      train REAL,
      test REAL,
      coverage REAL,
      entropy REAL,
      members INTEGER NOT NULL,
      graded INTEGER NOT NULL,     -- whether any scores were graded so far
      rng BLOB NOT NULL,           -- the generator's state after the step
      mark INTEGER,                -- checksum of an accepted child's genome
      scores BLOB NOT NULL,
      PRIMARY KEY (run, step)
    ) WITHOUT ROWID;
    CREATE INDEX births ON steps (run, step, child, rival) WHERE accepted;
    CREATE TABLE living (          -- ids by row of the archive (-1: empty), after some steps
      run INTEGER NOT NULL,
      step INTEGER NOT NULL,
      ids BLOB NOT NULL,
      PRIMARY KEY (run, step)
    ) WITHOUT ROWID;
    """,
)
"""Statements that lead from each version to the next; the first ones make a new file."""


class StoreError(InputError):
    """A store that cannot be read or written now; all recorded steps are still in it."""


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as a ``StoreError`` that says what to do.

    Raises:
        StoreError: an ``sqlite3.Error`` or ``OSError`` was raised within.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        message = str(error)
        if "full" in message or "No space" in message:
            fix = "free some space and go on, no step is lost"
        elif "locked" in message or "busy" in message:
            fix = "close the other program that uses it and go on, no step is lost"
        elif "not a database" in message or "malformed" in message:
            fix = "it is damaged or not a store, so choose another file"
        elif "readonly" in message or "unable to open" in message:
            fix = "check that the folder exists and can be written to"
        else:
            fix = "check the disk and the file, then go on"
        raise StoreError(
            f"The store {path} must be a file that can be read and written, but SQLite says "
            f"{message!r}; {fix}."
        ) from error


def connect(path: Path, *, write: bool = False) -> sqlite3.Connection:
    """Open a store to read it or, as the holder of its lock, to write it.

    A connection can be used in any thread, one at a time.

    Raises:
        StoreError: the file does not exist, is not a store, is of a newer version or, to read it,
            of an older version that has not been opened to write since.
    """
    if not write and not path.is_file():
        raise StoreError(
            f"There must be a store at {path}, but there is no such file; record one with "
            f"evolver.run(…, store={str(path)!r}) or m2n2lab evolve --store."
        )
    with sqlite_errors(path):
        connection = _open(str(path)) if write else _open_to_read(path)
        try:
            version = _version(connection, path)
            if version < len(MIGRATIONS):
                if not write:
                    raise StoreError(
                        f"The store {path} must be of version {len(MIGRATIONS)}, got version "
                        f"{version}; open it to write once, which brings it up to date."
                    )
                _migrate(connection, version)
            if not write:
                connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
    return connection


def _open(database: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        database, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=uri
    )


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open a file to read it, also where nothing can be written beside it.

    Raises:
        StoreError: steps are in its -wal file, which cannot be read without writing beside it.
    """
    connection = _open(str(path))
    try:
        connection.execute("PRAGMA user_version").fetchone()  # the first read opens the -wal file
        return connection
    except sqlite3.OperationalError as error:
        connection.close()
        if not any(text in str(error) for text in ("readonly", "unable to open")):
            raise
        wal = path.with_name(f"{path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            raise StoreError(
                f"The store {path} must be in a folder that can be written to, because its last "
                f"steps are still in {wal.name}; copy both files to another folder and read it "
                f"there."
            ) from error
    # Without a -wal file all steps are in the file itself, and it can be read without locks.
    return _open(f"{path.absolute().as_uri()}?immutable=1", uri=True)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return a file's version, 0 for an empty one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (tables or version):
        raise StoreError(
            f"{path} must be a store of m2n2lab, got a database of another program; choose "
            f"another file."
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"The store {path} must be of version {len(MIGRATIONS)} or older, got version "
            f"{version}; open it with a newer m2n2lab."
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a file up to date, completely or not at all."""
    connection.execute("PRAGMA journal_mode = WAL")
    script = "\n".join(MIGRATIONS[version:])
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {APPLICATION_ID};\n"
            f"PRAGMA user_version = {len(MIGRATIONS)};\nCOMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        raise
