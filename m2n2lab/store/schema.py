"""What a run store holds, in SQLite's words, and how a file of any version is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m2n2lab.utils.errors import InputError

PATIENCE = 5.0
"""Seconds to wait for a program that holds the file, such as a database browser."""

APPLICATION = 0x4D324E32
"""What SQLite keeps as the application's id: a foreign file is not mistaken for a store."""

MIGRATIONS = (
    """
    CREATE TABLE runs (            -- one search, from the moment at which it is recorded
      run INTEGER PRIMARY KEY,
      created TEXT NOT NULL,       -- UTC
      title TEXT NOT NULL,
      maker TEXT NOT NULL,
      method TEXT NOT NULL,
      options TEXT NOT NULL,       -- JSON: the evolver's keyword options
      task TEXT NOT NULL,          -- JSON: what is known of it, and how to make it again
      shares BLOB,                 -- (D,) doubles, where data points weigh differently
      space TEXT NOT NULL,         -- JSON: what is known of it, and how to make it again
      start INTEGER NOT NULL,      -- the step at which it begins
      born INTEGER NOT NULL,       -- how many ids were given away by then
      rng BLOB NOT NULL,           -- the generator's state then
      graded INTEGER NOT NULL,     -- whether graded scores had come by then
      past BLOB NOT NULL,          -- rows of the history before that, and how it began
      parent INTEGER               -- the run that it branched from, if any
    );
    CREATE TABLE seeds (           -- the models that the space was made of
      run INTEGER NOT NULL,
      seed INTEGER NOT NULL,
      name TEXT NOT NULL,
      sha256 TEXT NOT NULL,
      genome BLOB,                 -- of dense models
      PRIMARY KEY (run, seed)
    ) WITHOUT ROWID;
    CREATE TABLE founders (        -- who lived when the run began
      run INTEGER NOT NULL,
      row INTEGER NOT NULL,        -- of the archive
      id INTEGER NOT NULL,
      born INTEGER NOT NULL,
      parents TEXT NOT NULL,       -- JSON
      scores BLOB NOT NULL,
      PRIMARY KEY (run, row)
    ) WITHOUT ROWID;
    CREATE TABLE genomes (         -- of the living, and of those who cannot be bred again
      run INTEGER NOT NULL,
      id INTEGER NOT NULL,
      genome BLOB NOT NULL,
      PRIMARY KEY (run, id)
    );
    CREATE TABLE steps (
      run INTEGER NOT NULL,
      step INTEGER NOT NULL,
      child INTEGER NOT NULL,
      outside INTEGER NOT NULL,    -- a model that nobody proposed
      parent_a INTEGER,
      parent_b INTEGER,
      split INTEGER,
      mix REAL,
      seed,                        -- a whole number; text where it needs more than 63 bits
      by_hand TEXT NOT NULL,       -- names of the fields that a person chose
      accepted INTEGER NOT NULL,
      score REAL,
      fitness REAL,
      rank INTEGER NOT NULL,
      rivals INTEGER NOT NULL,     -- how many competed, the child included
      rival INTEGER,               -- displaced where accepted, else not beaten
      rival_fitness REAL,
      alone INTEGER NOT NULL,
      unseen INTEGER NOT NULL,
      best INTEGER NOT NULL,
      train REAL,
      test REAL,
      coverage REAL,
      entropy REAL,
      members INTEGER NOT NULL,
      graded INTEGER NOT NULL,     -- whether graded scores have come so far
      rng BLOB NOT NULL,           -- the generator's state after the step
      mark INTEGER,                -- of an accepted child's genome, to know it again
      scores BLOB NOT NULL,
      PRIMARY KEY (run, step)
    ) WITHOUT ROWID;
    CREATE INDEX births ON steps (run, step, child, rival) WHERE accepted;
    CREATE TABLE living (          -- ids by row of the archive (-1 for nobody), now and then
      run INTEGER NOT NULL,
      step INTEGER NOT NULL,
      ids BLOB NOT NULL,
      PRIMARY KEY (run, step)
    ) WITHOUT ROWID;
    """,
)
"""Statements that lead from each version to the next; the first make a new file."""


class StoreError(InputError):
    """A store that cannot be read or written now; what was recorded before is still there."""


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into one sentence."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        words = str(error)
        if "full" in words or "No space" in words:
            fix = "free some space and go on: nothing told is lost"
        elif "locked" in words or "busy" in words:
            fix = "another program holds it: close that one and go on, nothing told is lost"
        elif "not a database" in words or "malformed" in words:
            fix = "it is damaged, or no store: choose another file"
        elif "readonly" in words or "unable to open" in words:
            fix = "see that the folder is there and can be written to"
        else:
            fix = "see that the disk and the file are well, then go on"
        raise StoreError(
            f"The store {path} must be a file that can be read and written, but SQLite says "
            f"{words!r}; {fix}."
        ) from error


def connect(path: Path, *, write: bool = False) -> sqlite3.Connection:
    """Open a store, to read or, by whoever holds its lock, to write.

    A connection can be used in any thread, one at a time.

    Raises:
        StoreError: no such store, another kind of file, one of a newer program or, to read, one of
            an older program that nobody has opened to write yet.
    """
    if not write and not path.is_file():
        raise StoreError(
            f"There must be a store at {path}, but there is no such file; record one with "
            f"evolver.run(…, store={str(path)!r}) or m2n2lab evolve --store."
        )
    with sentences(path):
        connection = sqlite3.connect(
            path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            version = _version(connection, path)
            if version < len(MIGRATIONS):
                if not write:
                    raise StoreError(
                        f"The store {path} must be of version {len(MIGRATIONS)}, but one of "
                        f"version {version} came; open it to write once, which brings it up to "
                        f"date."
                    )
                _migrate(connection, version)
            if not write:
                connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
    return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return a file's version, 0 for an empty one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION and (tables or version):
        raise StoreError(
            f"{path} must be a store of m2n2lab, but it is a database of something else; choose "
            f"another file."
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"The store {path} is of version {version}, but this m2n2lab knows versions up to "
            f"{len(MIGRATIONS)}; open it with a newer m2n2lab."
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a file up to date, wholly or not at all."""
    connection.execute("PRAGMA journal_mode = WAL")
    script = "\n".join(MIGRATIONS[version:])
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {APPLICATION};\n"
            f"PRAGMA user_version = {len(MIGRATIONS)};\nCOMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        raise
