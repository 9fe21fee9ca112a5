//! The directory that coordinator and workers share, wherever each has it mounted.

use std::io;
use std::path::{Component, Path, PathBuf};

/// Where this program has the shared directory. Paths travel relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRoot {
    root: PathBuf,
}

/// A path that other machines can't see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not under the shared directory `{}`", path.display(), root.display())]
pub struct Outside {
    /// The path.
    pub path: PathBuf,
    /// The shared directory.
    pub root: PathBuf,
}

impl SharedRoot {
    /// The shared directory is mounted at `root`, an absolute path.
    pub fn new(root: impl Into<PathBuf>) -> SharedRoot {
        SharedRoot { root: root.into() }
    }

    /// The shared directory as somebody typed it: made absolute, without `.` and `..`.
    ///
    /// # Errors
    /// There is no such directory.
    pub fn find(typed: &Path) -> io::Result<SharedRoot> {
        let mut root = PathBuf::new();
        for component in std::path::absolute(typed)?.components() {
            match component {
                Component::ParentDir => drop(root.pop()),
                component => root.push(component),
            }
        }
        match std::fs::metadata(&root)?.is_dir() {
            true => Ok(SharedRoot { root }),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Where it is mounted here.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// An absolute path of this machine as it travels: relative to the shared directory.
    ///
    /// # Errors
    /// It lies elsewhere, or climbs out with `..`.
    pub fn relative(&self, path: &Path) -> Result<PathBuf, Outside> {
        let outside = || Outside { path: path.to_path_buf(), root: self.root.clone() };
        let relative = path.strip_prefix(&self.root).map_err(|_| outside())?;
        is_plain(relative).then(|| relative.to_path_buf()).ok_or_else(outside)
    }

    /// A path that travelled, on this machine.
    ///
    /// # Errors
    /// It is not relative, or climbs out with `..`.
    pub fn local(&self, relative: &Path) -> Result<PathBuf, Outside> {
        match is_plain(relative) {
            true => Ok(self.root.join(relative)),
            false => Err(Outside { path: relative.to_path_buf(), root: self.root.clone() }),
        }
    }

    /// A path as a machine with the shared directory at `theirs` wrote it, on this machine. What lies elsewhere stays as it is.
    pub fn adopt(&self, theirs: &Path, path: &Path) -> PathBuf {
        match path.strip_prefix(theirs) {
            Ok(relative) if theirs != self.root => self.root.join(relative),
            _ => path.to_path_buf(),
        }
    }
}

fn is_plain(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_travel_relative_to_the_shared_directory() {
        let (there, here) = (SharedRoot::new("/mnt/shared"), SharedRoot::new("/data"));
        let travels = there.relative(Path::new("/mnt/shared/jobs/a")).unwrap();
        assert_eq!(here.local(&travels).unwrap(), Path::new("/data/jobs/a"));
        assert_eq!(here.adopt(there.root(), Path::new("/mnt/shared/in/x.png")), Path::new("/data/in/x.png"));
        assert_eq!(here.adopt(there.root(), Path::new("/usr/bin/python3")), Path::new("/usr/bin/python3"));
        let all = SharedRoot::new("/");
        assert_eq!(all.local(&all.relative(Path::new("/x/y")).unwrap()).unwrap(), Path::new("/x/y"));
    }

    #[test]
    fn a_shared_directory_is_found_as_it_was_typed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let typed = dir.path().join("nowhere/../");
        assert_eq!(SharedRoot::find(&typed).unwrap().root(), dir.path());
        assert_eq!(SharedRoot::find(&dir.path().join("file")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert!(SharedRoot::find(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn nothing_climbs_out() {
        let root = SharedRoot::new("/mnt/shared");
        for path in ["/mnt/shared/../x", "/mnt/sharedx", "/etc/passwd", "relative"] {
            assert!(root.relative(Path::new(path)).is_err(), "{path}");
        }
        for path in ["../x", "/etc/passwd", "a/../../b"] {
            assert!(root.local(Path::new(path)).is_err(), "{path}");
        }
    }
}
