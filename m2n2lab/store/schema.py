"""Schema: the tables of a run store, its versions, and how a file is opened."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import chain
from operator import contains
from pathlib import Path
from typing import Any, TypeVar

from m2n2lab.store.tables import (
    ADDED,
    TABLES,
    Row,
    checksum,
    field_types,
    insertion,
    sealed,
)
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.file_access import flush

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
    # Each row has a checksum, and a run says how many seeds and members it began with.
    "\n".join(f"ALTER TABLE {table} ADD COLUMN checksum INTEGER;" for table in TABLES.values())
    + """
    ALTER TABLE runs ADD COLUMN seeds INTEGER;
    ALTER TABLE runs ADD COLUMN founders INTEGER;
    UPDATE runs SET seeds = (SELECT count(*) FROM seeds WHERE run = runs.run),
      founders = (SELECT count(*) FROM founders WHERE run = runs.run);
    DROP INDEX births;           -- it would have no checksums
    """,
)
"""Statements that lead from each version to the next; the first ones make a new file."""

CHECKED_VERSION = 2
"""The first version with checksums."""

RowKind = TypeVar("RowKind")


class StoreError(InputError):
    """A store that cannot be read or written now; all recorded steps are still in it."""


class StorageError(StoreError):
    """A store on a disk that is full, fails or cannot be written to."""

    of_disk = True


class DamageError(StoreError):
    """A store in which something is not as it was recorded.

    Args:
        path: the store.
        what: what is wrong, as a sentence without its end.

    Attributes:
        what: the same.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"The store {path} is damaged: {what}; m2n2lab check {path} says what can still be "
            f"read, and a backup has the rest."
        )
        self.what = what


class StoreFile(sqlite3.Connection):
    """A store that is open, in one thread at a time.

    Attributes:
        path: the file.
        version: the version of its tables.
    """

    path: Path
    version: int

    def rows(self, kind: type[RowKind], where: str = "", *values: Any) -> Iterator[RowKind]:
        """Yield rows of a table, each after its types and its checksum were verified.

        Args:
            kind: the class of the rows.
            where: SQL that follows ``FROM table``.
            values: its parameters.

        Raises:
            DamageError: a row is not as it was recorded.
        """
        of_rows: Any = kind
        fields, make, allowed = of_rows._fields, of_rows._make, field_types(of_rows)
        is_checked = self.version >= CHECKED_VERSION
        names = [name if is_checked or name not in ADDED else "NULL" for name in fields]
        columns = ", ".join((*names, *(["checksum"] if is_checked else [])))
        seen = set[tuple[type, ...]]()  # few, so that each is compared once
        for row in self.execute(f"SELECT {columns} FROM {TABLES[kind]} {where}", values):
            found = row[: len(fields)]
            types = tuple(map(type, found))
            if types not in seen:
                if not all(map(contains, allowed, types)):
                    raise self.damage(make(found))
                seen.add(types)
            if is_checked and checksum(found) != row[-1]:
                raise self.damage(make(found))
            yield make(found)

    def row(self, kind: type[RowKind], where: str, *values: Any) -> RowKind:
        """Return the one row that there must be.

        Raises:
            DamageError: it is missing or not as it was recorded.
        """
        for found in self.rows(kind, where, *values):
            return found
        keys = ", ".join(map(str, values[1:]))
        raise self.damaged(f"the row {keys} of {TABLES[kind]} of run {values[0]} is lost")

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows of one table, each with its checksum, also in place of older ones."""
        waiting = iter(rows)
        if (first := next(waiting, None)) is not None:
            self.executemany(insertion(type(first)), map(sealed, chain([first], waiting)))

    def damage(self, row: Any) -> DamageError:
        """Return the error of a row that is not as it was recorded."""
        kind, run = TABLES[type(row)], row.run
        what = f"a row of {kind} of run {run!r}"
        if kind in ("steps", "living"):
            what = f"step {row.step!r} of run {run!r}"
        elif kind == "genomes":
            what = f"the model of member {row.id!r} of run {run!r}"
        elif kind == "runs":
            what = f"the description of run {run!r}"
        what += " is not as it was recorded"
        if kind in ("steps", "living") and isinstance(row.step, int) and row.step > 0:
            what += f", while those before it may be (branch(…, step={row.step - 1}))"
        return self.damaged(what)

    def damaged(self, what: str) -> DamageError:
        """Return the error of a damaged store."""
        return DamageError(self.path, what)

    @contextmanager
    def decoding(self, what: str) -> Iterator[None]:
        """Raise whatever wrong bytes lead to as the damage that it is.

        Raises:
            DamageError: what is read within is no such thing.
        """
        try:
            yield
        except StoreError:
            raise
        except (
            *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
            *(RecursionError, MemoryError, zlib.error, struct.error),
        ) as error:
            raise self.damaged(f"{what} is not as it was recorded") from error


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as a ``StoreError`` that says what to do.

    Raises:
        StoreError: an ``sqlite3.Error`` or ``OSError`` was raised within.
    """
    try:
        yield
    except UnicodeDecodeError as error:  # of SQLite's own messages on damaged names
        raise DamageError(path, "a name in it is no text") from error
    except (sqlite3.Error, OSError) as error:
        message, kind = str(error), StoreError
        if "full" in message or "No space" in message:
            fix, kind = "free some space and go on, no step is lost", StorageError
        elif "locked" in message or "busy" in message:
            fix = "close the other program that uses it and go on, no step is lost"
        elif "not a database" in message:
            fix = "it is damaged or not a store, so choose another file"
        elif isinstance(error, sqlite3.DatabaseError) and _is_damage(message):
            raise DamageError(path, f"SQLite says {message!r}") from error
        elif "readonly" in message or "unable to open" in message:
            fix = "check that the folder exists and can be written to"
            kind = StorageError
        else:
            fix, kind = "check the disk and the file, then go on", StorageError
        raise kind(
            f"The store {path} must be a file that can be read and written, but SQLite says "
            f"{message!r}; {fix}."
        ) from error


def _is_damage(message: str) -> bool:
    """Return whether SQLite's words mean that tables are not as they were written."""
    words = ("malformed", "corrupt", "no such table", "no such column", "decode", "syntax error")
    return any(word in message for word in words)


def connect(path: Path, *, write: bool = False) -> StoreFile:
    """Open a store to read it or, as the holder of its lock, to write it.

    A connection can be used in any thread, one at a time. To be written, a file of an older
    version is brought up to date; the old one is kept as ``NAME.version-1``.

    Raises:
        StoreError: the file does not exist, is not a store, is of a newer version or damaged, or
            cannot be written.
    """
    if not write and not path.is_file():
        raise StoreError(
            f"There must be a store at {path}, but there is no such file; record one with "
            f"evolver.run(…, store={str(path)!r}) or m2n2lab evolve --store."
        )
    if write and path.exists() and not os.access(path, os.W_OK):
        raise StorageError(
            f"The store {path} must be a file that can be written to, got one that can only be "
            f"read; copy it with m2n2lab backup, or let it be written to."
        )
    with sqlite_errors(path):
        connection = _open(str(path)) if write else _open_to_read(path)
        connection.path = path
        try:
            version = connection.version = _version(connection, path)
            if version == 0 and not write:
                raise StoreError(
                    f"{path} must be a store, but it is empty; record a run in it first."
                )
            if version < len(MIGRATIONS) and write:
                if version:
                    _keep(connection)
                _migrate(connection, version)
                connection.version = len(MIGRATIONS)
            if not write:
                connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
    return connection


def _open(database: str, *, uri: bool = False) -> StoreFile:
    connection: StoreFile = sqlite3.connect(
        database,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        uri=uri,
        factory=StoreFile,
    )
    # A damaged text is read as well: its row's checksum says where it is.
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    return connection


def _open_to_read(path: Path) -> StoreFile:
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


def copy_to(connection: StoreFile, target: Path) -> None:
    """Copy a store as it is now into one file, completely or not at all.

    Raises:
        StoreError: the copy cannot be written.
    """
    temporary = None
    with sqlite_errors(target):
        try:
            handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            os.close(handle)
            with closing(sqlite3.connect(temporary)) as copy:
                connection.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, that is read anywhere
            os.chmod(temporary, stat.S_IMODE(os.stat(connection.path).st_mode))
            flush(temporary)
            os.replace(temporary, target)
            flush(target.parent)
        except BaseException:
            if temporary is not None:
                with suppress(OSError):
                    os.unlink(temporary)
            raise


def _keep(connection: StoreFile) -> None:
    """Keep a copy of a store of an earlier version beside it, and say so."""
    path, version = connection.path, connection.version
    numbers = ("", *(f".{number}" for number in range(2, 1000)))
    copies = (path.with_name(f"{path.name}.version-{version}{number}") for number in numbers)
    copy = next(copy for copy in copies if not os.path.lexists(copy))
    copy_to(connection, copy)
    warnings.warn(
        f"The store {path} is brought from version {version} to {len(MIGRATIONS)}; as it was it is "
        f"kept in {copy}.",
        stacklevel=2,
    )


def _migrate(connection: StoreFile, version: int) -> None:
    """Bring a file up to date, completely or not at all."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            _run(connection, script)
            if number == CHECKED_VERSION:
                _seal(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _run(connection: StoreFile, script: str) -> None:
    """Run statements within a transaction, which ``executescript`` would end."""
    statement = ""
    for part in re.split("(?<=;)", script):
        statement += part
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _seal(connection: StoreFile) -> None:
    """Give each row of a file without checksums its own."""
    (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if problem != "ok":
        raise connection.damaged(f"SQLite finds {problem!r}")
    for kind in TABLES:
        columns = ", ".join(kind._fields)
        rows = connection.execute(f"SELECT {columns} FROM {TABLES[kind]}").fetchall()
        connection.executemany(insertion(kind), map(sealed, rows))
