//! What is renamed into a folder, told as it happens (inotify).
//!
//! Only renaming counts. Who writes a file where it stands has it half-written for a while, and an editor
//! may move the old one out of the way first; a rename says that a file is whole. Kubernetes renames
//! `..data` when it changes a folder that is a ConfigMap, and only then makes the links of new files and
//! removes those of old ones. They are whole at once, so in such a folder they count, too: between the two the
//! folder may have been read.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::unix::AsyncFd;

/// What Kubernetes renames.
const CONFIG_MAP: &str = "..data";

/// What has happened in the folder since it was asked last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Happened {
    /// Anything at all.
    anything: bool,
    /// Something of a name that matters is there by renaming, or that may be.
    renamed: bool,
    /// The folder was removed, or is called otherwise now.
    gone: bool,
}

/// Listens to one folder, for names that end in one of `suffixes`.
#[derive(Debug)]
pub struct Renames {
    inotify: AsyncFd<Queue>,
    folder: PathBuf,
    suffixes: &'static [&'static str],
}

impl Renames {
    /// Nothing if there is no such folder. Called within a runtime.
    pub fn into(folder: &Path, suffixes: &'static [&'static str]) -> io::Result<Option<Self>> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let all = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        match inotify.add_watch(folder, all) {
            Ok(_) => {}
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        // SAFETY: the queue owns the one descriptor that it gives, and nothing takes it out or replaces it
        // before the `AsyncFd` around it is dropped.
        let inotify = unsafe { AsyncFd::register(Queue(inotify)) }.map_err(io::Error::from)?;
        Ok(Some(Self { inotify, folder: folder.to_owned(), suffixes }))
    }

    /// Waits until something happens there. Whether that is, or may be, a rename that matters. An error if
    /// the folder is not there any more.
    pub async fn next(&self) -> io::Result<bool> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let happened = self.take()?;
            ready.clear_ready();
            if happened.gone {
                return Err(io::Error::new(io::ErrorKind::NotFound, "it was removed or moved"));
            }
            if happened.anything {
                return Ok(happened.renamed);
            }
        }
    }

    /// Takes what has happened. Does not wait.
    fn take(&self) -> io::Result<Happened> {
        let mut happened = Happened::default();
        loop {
            match self.inotify.get_ref().0.read_events() {
                Ok(events) => {
                    happened.anything = true;
                    happened.renamed |= events.iter().any(|event| self.is_renamed(event));
                    let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF;
                    happened.gone |= events.iter().any(|event| event.mask.intersects(gone));
                }
                Err(Errno::EAGAIN) => return Ok(happened),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn is_renamed(&self, event: &InotifyEvent) -> bool {
        // More happened than the kernel keeps.
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        let name = event.name.as_ref().map(|name| name.to_string_lossy()).unwrap_or_default();
        let is_meant =
            !name.starts_with('.') && self.suffixes.iter().any(|end| name.ends_with(end));
        if event.mask.contains(AddWatchFlags::IN_MOVED_TO) {
            return is_meant || name == CONFIG_MAP;
        }
        let link = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE;
        is_meant && event.mask.intersects(link) && self.folder.join(CONFIG_MAP).is_symlink()
    }
}

/// The kernel's queue of events.
#[derive(Debug)]
struct Queue(Inotify);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::os::unix::fs::symlink;

    #[tokio::test(flavor = "current_thread")]
    async fn only_what_is_renamed_and_matters_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        assert!(Renames::into(&at("none"), &[".yaml"]).expect("listening").is_none());
        let renames = Renames::into(dir.path(), &[".yaml"]).expect("listening").expect("a folder");
        let take = || {
            let Happened { anything, renamed, .. } = renames.take().expect("readable");
            (anything, renamed)
        };
        assert_eq!(take(), (false, false));
        fs::write(at("a.yaml"), "written where it stands").expect("written");
        assert_eq!(take(), (true, false));
        // As an editor does that keeps what was there.
        fs::rename(at("a.yaml"), at("a.yaml~")).expect("renamed");
        assert_eq!(take(), (true, false));
        fs::rename(at("a.yaml~"), at(".a.yaml")).expect("renamed");
        assert_eq!(take(), (true, false));
        fs::rename(at(".a.yaml"), at("a.yaml")).expect("renamed");
        assert_eq!(take(), (true, true));
        assert_eq!(take(), (false, false));
        symlink("..1", at("..data_tmp")).expect("linked");
        assert_eq!(take(), (true, false));
        fs::rename(at("..data_tmp"), at("..data")).expect("renamed");
        assert!(renames.next().await.expect("heard"));
        assert_eq!(take(), (false, false));
        symlink("..data/b.yaml", at("b.yaml")).expect("linked");
        assert_eq!(take(), (true, true));
        fs::remove_file(at("b.yaml")).expect("removed");
        assert_eq!(take(), (true, true));
        fs::write(at("notes"), "no policy").expect("written");
        assert_eq!(take(), (true, false));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_folder_that_is_gone_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let (folder, other) = (dir.path().join("policy.d"), dir.path().join("old"));
        let listen = || Renames::into(&folder, &[".yaml"]).expect("listening").expect("a folder");
        fs::create_dir(&folder).expect("made");
        let renames = listen();
        fs::rename(&folder, &other).expect("moved");
        assert!(renames.next().await.is_err(), "moved");
        fs::create_dir(&folder).expect("made");
        let renames = listen();
        fs::remove_dir(&folder).expect("removed");
        assert!(renames.next().await.is_err(), "removed");
    }
}
