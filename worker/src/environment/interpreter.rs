//! Finds a Python interpreter and asks it who it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{AccessFlags, access};

use super::EnvironmentError;
use crate::devices::without_secrets;
use crate::guard::die_reason;

/// The oldest Python that the host program runs on.
pub(super) const OLDEST: (u32, u32) = (3, 7);

/// Runs on any Python, 2.7 included, and imports nothing that a file in the working directory could replace.
const WHO_ARE_YOU: &str = "import sys, os
u = os.uname()
i = getattr(sys, 'implementation', None)
for x in ('%d.%d.%d' % sys.version_info[:3], os.path.realpath(sys.executable), getattr(sys, 'base_prefix', sys.prefix),
          getattr(i, 'cache_tag', ''), u[0] + ' ' + u[4], str(sys.maxsize)): print(x)
";

/// Continues [`WHO_ARE_YOU`]: the packages, whose folders of metadata have their names and versions.
const WHAT_HAVE_YOU: &str = "for d in sys.path:
    try: names = os.listdir(d)
    except Exception: continue
    for n in sorted(names):
        if n.endswith(('.dist-info', '.egg-info', '.egg-link', '.pth')): print(repr(os.path.join(d, n)))
";

/// Lines of the answer to [`WHO_ARE_YOU`].
const ANSWERS: usize = 6;

/// What an interpreter says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interpreter {
    /// How it was found: what to start.
    pub path: PathBuf,
    /// `3.11.7`.
    pub version: String,
    /// Everything that decides which packages it can load: version, real path, prefix, implementation, platform.
    pub identity: String,
}

/// The executable that `python` means: as it is if it has a slash, else the first of that name on PATH. It is not started.
pub(super) fn find(python: &Path) -> Result<PathBuf, EnvironmentError> {
    find_on(python, std::env::var_os("PATH").as_deref().unwrap_or_default())
}

fn find_on(python: &Path, search: &OsStr) -> Result<PathBuf, EnvironmentError> {
    if python.as_os_str().as_bytes().contains(&b'/') {
        return if is_executable(python) {
            Ok(python.to_path_buf())
        } else if python.exists() {
            Err(EnvironmentError::NotExecutable { python: python.to_path_buf() })
        } else {
            Err(EnvironmentError::NoSuchFile { python: python.to_path_buf() })
        };
    }
    let directories: Vec<PathBuf> = std::env::split_paths(search).collect();
    // An empty entry means the working directory, which must not decide what is run.
    let found = |name: &Path| {
        directories.iter().filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|path| is_executable(path))
    };
    found(python).ok_or_else(|| EnvironmentError::NotOnPath {
        python: python.to_path_buf(),
        search: search.to_string_lossy().into_owned(),
        instead: found(Path::new("python3")).or_else(|| found(Path::new("python"))),
    })
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

/// Starts the interpreter once (some 15 ms) and checks its version.
pub(super) fn ask(path: PathBuf) -> Result<Interpreter, EnvironmentError> {
    let text = run(&path, WHO_ARE_YOU)?;
    understand(path, &text)
}

/// As [`ask`], with the packages that it can load, in as many lines.
pub(super) fn ask_with_packages(path: PathBuf) -> Result<(Interpreter, String), EnvironmentError> {
    let text = run(&path, &format!("{WHO_ARE_YOU}{WHAT_HAVE_YOU}"))?;
    let (own, packages) = match text.match_indices('\n').nth(ANSWERS - 1) {
        Some((end, _)) => text.split_at(end + 1),
        None => (text.as_str(), ""),
    };
    Ok((understand(path, own)?, packages.to_string()))
}

fn run(path: &Path, script: &str) -> Result<String, EnvironmentError> {
    let output = Command::new(path)
        .args(["-c", script])
        .env_clear()
        .envs(without_secrets(std::env::vars_os()))
        .stdin(Stdio::null())
        .output();
    let failed = |reason: String| EnvironmentError::NotPython { python: path.to_path_buf(), reason };
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        return Err(failed(format!("{}: {}", die_reason(output.status), last.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn understand(path: PathBuf, text: &str) -> Result<Interpreter, EnvironmentError> {
    let version = text.lines().next().unwrap_or_default();
    let number = parse_version(version).filter(|_| text.lines().count() == ANSWERS);
    let reason = || "it did not answer as a Python does".into();
    let number = number.ok_or_else(|| EnvironmentError::NotPython { python: path.clone(), reason: reason() })?;
    if number < OLDEST {
        return Err(EnvironmentError::TooOld { python: path, version: version.into() });
    }
    Ok(Interpreter { path, version: version.into(), identity: text.trim().into() })
}

fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

impl Interpreter {
    /// The module that is missing for making virtual environments, if one is.
    pub fn missing_module(&self) -> Option<&'static str> {
        // Debian has the one without the other.
        ["venv", "ensurepip"].into_iter().find(|module| {
            let import = Command::new(&self.path)
                .args(["-I", "-c", &format!("import {module}")])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            !import.is_ok_and(|status| status.success())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::executable;
    use fanfold_shared::report::{ExitCode, Report};

    #[test]
    fn a_bare_name_is_looked_for_on_path() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        executable(&second.join("python3"), "exit 0");
        std::fs::create_dir(&first).unwrap();
        std::fs::write(first.join("python3"), "not executable").unwrap();
        let search = std::env::join_paths([&first, &second]).unwrap();
        assert_eq!(find_on(Path::new("python3"), &search).unwrap(), second.join("python3"));

        let error = find_on(Path::new("python3.99"), &search).unwrap_err();
        assert_eq!(error.to_string(), format!("no `python3.99` on PATH ({})", search.to_string_lossy()));
        assert!(error.hint().unwrap().contains(&second.join("python3").display().to_string()));
        assert_eq!(error.exit_code(), ExitCode::Usage);
    }

    #[test]
    fn a_path_must_be_an_executable_file() {
        let dir = tempfile::tempdir().unwrap();
        let find_in = |name: &str| find_on(&dir.path().join(name), OsStr::new(""));
        assert!(matches!(find_in("missing"), Err(EnvironmentError::NoSuchFile { .. })));
        std::fs::write(dir.path().join("plain"), "").unwrap();
        assert!(matches!(find_in("plain"), Err(EnvironmentError::NotExecutable { .. })));
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        assert!(matches!(find_in("folder"), Err(EnvironmentError::NotExecutable { .. })));
    }

    #[test]
    fn what_is_no_python_or_too_old_is_named_with_its_version() {
        let dir = tempfile::tempdir().unwrap();
        let ask_script = |name: &str, script: &str| {
            let path = dir.path().join(name);
            executable(&path, script);
            ask(path).unwrap_err().to_string()
        };
        let old = ask_script("python2", "printf '2.7.18\\n/usr/bin/python2\\n/usr\\n\\nLinux x86_64\\n1\\n'");
        assert!(old.ends_with("python2` is Python 2.7.18"), "{old}");
        let other = ask_script("ruby", "echo 'no such option: -c' >&2; exit 3");
        assert!(other.ends_with("exited with code 3: no such option: -c"), "{other}");
        let silent = ask_script("true", "exit 0");
        assert!(silent.ends_with("it did not answer as a Python does"), "{silent}");
    }

    #[test]
    fn the_python_of_this_machine_answers() {
        let python = ask(find(Path::new("python3")).unwrap()).unwrap();
        assert!(parse_version(&python.version).unwrap() >= OLDEST);
        assert_eq!(python.identity.lines().count(), 6);
        assert_eq!(python.missing_module(), None);
        let (again, _) = ask_with_packages(python.path.clone()).unwrap();
        assert_eq!(again, python, "with its packages it says the same of itself");
    }
}
