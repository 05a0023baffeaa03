//! The tables. What a table is for stands in its text, so that it also stands in the file, for whoever
//! opens it with `sqlite3` one day.

use rusqlite::{Connection, params};

use super::open::Lost;

/// The version of the tables below, kept in `user_version`. A file with a higher one belongs to a newer
/// release and is left alone; a lower one would be migrated here, and there is none yet. Columns that earlier
/// releases pass over are added without a new version, so that those can read the file again ([`complete`]).
pub(super) const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE boot (
  -- One row.
  id        TEXT NOT NULL,        -- the boot that the attachments are of; they end with it
  set_aside TEXT,                 -- the damaged file this one replaces, until what was in it has been
  why       TEXT,                 --   learned from the kernel, and what was wrong with it; this file
                                  --   itself if it may lack something
  CHECK ((set_aside IS NULL) = (why IS NULL))
) STRICT;

CREATE TABLE networks (
  -- Networks as they were last defined.
  name TEXT NOT NULL PRIMARY KEY,
  body TEXT NOT NULL              -- the definition, JSON
) STRICT, WITHOUT ROWID;

CREATE TABLE attachments (
  -- Interfaces that exist, or are about to go.
  network   TEXT NOT NULL,
  container TEXT NOT NULL,
  ifname    TEXT NOT NULL,
  state     TEXT NOT NULL CHECK (state IN ('attached', 'leaving')),
  created   INTEGER NOT NULL,     -- ms, the daemon's clock
  body      TEXT NOT NULL,        -- the record, JSON
  PRIMARY KEY (network, container, ifname)
) STRICT, WITHOUT ROWID;

CREATE TABLE addresses (
  -- Addresses that somebody has or had. The key keeps two owners apart, whatever the daemon thinks.
  network     TEXT NOT NULL,
  address     TEXT NOT NULL,      -- canonical text
  set_index   INTEGER NOT NULL,   -- the range set it was leased from
  container   TEXT,               -- the owner; none once released
  ifname      TEXT,
  released_at INTEGER,            -- ms, the daemon's clock; 0 if before this boot
  turn        INTEGER,            -- order of releases, also across boots, whose clocks begin anew
  PRIMARY KEY (network, address),
  CHECK ((container IS NULL) = (ifname IS NULL)),
  CHECK ((container IS NULL) = (released_at IS NOT NULL)),
  CHECK ((container IS NULL) = (turn IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX owners ON addresses (network, container, ifname) WHERE container IS NOT NULL;
";

/// Columns that the first releases did not have, each with what it is for.
const LATER: &[(&str, &str)] = &[
    ("boot", "store INTEGER"), // which store this is, drawn when it was made
    ("boot", "generation INTEGER"), // one more with each commit
    ("attachments", "sum INTEGER"), // of key and body; none if an earlier release wrote them
    ("networks", "sum INTEGER"), // the same
];

/// Makes the tables in an empty file; `lost` says what is not in it that may have been.
pub(super) fn create(
    connection: &mut Connection,
    boot_id: &str,
    lost: &Lost,
) -> rusqlite::Result<()> {
    // A property of the file, kept in its header.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO boot (id, set_aside, why) VALUES (?1, ?2, ?3)",
        params![boot_id, lost.set_aside.to_string_lossy(), lost.why.as_str()],
    )?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    complete(connection)
}

/// Adds the columns that an earlier release did not make, and draws which store it is.
pub(super) fn complete(connection: &mut Connection) -> rusqlite::Result<()> {
    let missing = |(table, column): &&(&str, &str)| -> rusqlite::Result<bool> {
        let name = column.split(' ').next().unwrap_or_default();
        let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
        Ok(connection.query_row(sql, [table, name], |row| row.get::<_, u32>(0))? == 0)
    };
    let mut added = Vec::new();
    for column in LATER {
        if missing(&column)? {
            added.push(column);
        }
    }
    if added.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for (table, column) in added {
        transaction.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column}"))?;
    }
    transaction.execute(
        "UPDATE boot SET store = coalesce(store, random()), generation = coalesce(generation, 0)",
        [],
    )?;
    transaction.commit()
}
