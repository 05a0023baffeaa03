//! Files and links that are whole at every moment: made beside their place, synced, and renamed into it.
//! Who has an old one open keeps it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What could not be done to which file.
#[derive(Debug, Error)]
#[error("cannot {doing} {path}: {source}")]
pub(crate) struct PutError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PutError {
    move |source| PutError { doing, path: path.to_owned(), source }
}

/// The content of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, PutError> {
    fs::read(path).map_err(failed("read", path))
}

/// Makes a folder, with those above it.
pub(crate) fn folder(path: &Path) -> Result<(), PutError> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed("make", path))
}

/// Puts a file in its place. False if it was there already, just so.
pub(crate) fn file(path: &Path, content: &[u8], mode: u32) -> Result<bool, PutError> {
    let is_same = path
        .symlink_metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o7777 == mode)
        && fs::read(path).is_ok_and(|there| there == content);
    if is_same {
        return Ok(false);
    }
    let unfinished = beside(path);
    let _ = fs::remove_file(&unfinished);
    let written =
        File::options().write(true).create_new(true).mode(mode).open(&unfinished).and_then(
            |mut file| {
                file.write_all(content)?;
                // Whatever the umask is.
                file.set_permissions(fs::Permissions::from_mode(mode))?;
                file.sync_all()
            },
        );
    into_place(path, &unfinished, written).map_err(failed("write", path))
}

/// Puts a link in its place. False if it was there already.
pub(crate) fn link(path: &Path, to: &Path) -> Result<bool, PutError> {
    if fs::read_link(path).is_ok_and(|there| there == to) {
        return Ok(false);
    }
    let unfinished = beside(path);
    let _ = fs::remove_file(&unfinished);
    let made = symlink(to, &unfinished);
    into_place(path, &unfinished, made).map_err(failed("make the link", path))
}

/// Removes a file or link. One that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), PutError> {
    let removed = match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    removed.and_then(|()| sync_folder(path)).map_err(failed("remove", path))
}

fn into_place(path: &Path, unfinished: &Path, made: io::Result<()>) -> io::Result<bool> {
    let done = made.and_then(|()| fs::rename(unfinished, path)).and_then(|()| sync_folder(path));
    if done.is_err() {
        let _ = fs::remove_file(unfinished);
    }
    done.map(|()| true)
}

/// Runtimes read files whose names end as those of conflists do, and this one does not.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
