//! What a list of requirements means: the text that pip gets, and the content that names the environment.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::EnvironmentError;

/// Options whose value is a file of further requirements or constraints.
const FILE_OPTIONS: [&str; 4] = ["--requirement", "--constraint", "-r", "-c"];
/// Options whose value is a folder, a page or an archive where packages are looked for.
const LINK_OPTIONS: [&str; 2] = ["--find-links", "-f"];
const EDITABLE_OPTIONS: [&str; 2] = ["--editable", "-e"];
/// How deep requirement files may name each other: more is a circle.
const DEEPEST: usize = 16;
/// Files in a source folder that is named as a requirement: more is the wrong folder.
const MOST_FILES: usize = 20_000;

/// Requirements, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Requirements {
    /// For pip. Relative paths of other requirement files are made absolute, as pip would look for them beside this text.
    pub text: String,
    /// All that decides what gets installed: the lines without comments, and the content of all local files they name.
    pub content: String,
}

/// Reads `lines`, whose relative paths start at `base`.
pub(super) fn read(lines: &[String], base: &Path) -> Result<Requirements, EnvironmentError> {
    let mut requirements = Requirements { text: String::new(), content: String::new() };
    for line in logical_lines(lines.iter().map(String::as_str)) {
        let (text, content) = read_line(&line, base, base, 0)?;
        requirements.text += &format!("{text}\n");
        requirements.content += &format!("{content}\n");
    }
    Ok(requirements)
}

/// Joins continued lines; drops comments and blank lines.
fn logical_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut logical = Vec::new();
    let mut open = String::new();
    for line in lines {
        let line = strip_comment(line);
        match line.strip_suffix('\\') {
            Some(continued) => {
                open += continued;
                open.push(' ');
            }
            None => logical.push(std::mem::take(&mut open) + line),
        }
    }
    logical.push(open);
    logical.iter().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect()
}

/// As pip does it: `#` begins a comment at the line's start and after white space.
fn strip_comment(line: &str) -> &str {
    let begins = |&(at, _): &(usize, &str)| at == 0 || line[..at].ends_with([' ', '\t']);
    match line.match_indices('#').find(begins) {
        Some((at, _)) => line[..at].trim_end(),
        None => line.trim_end(),
    }
}

/// `beside` is where a requirement file's own references start, `base` where package paths do: pip's two rules.
fn read_line(line: &str, beside: &Path, base: &Path, depth: usize) -> Result<(String, String), EnvironmentError> {
    if let Some((option, value)) = option(line, &FILE_OPTIONS) {
        if value.contains("://") {
            return Ok((line.into(), line.into()));
        }
        let path = beside.join(value);
        if depth == DEEPEST {
            return Err(refused(line, "these files name each other in a circle".into()));
        }
        let nested = fs::read_to_string(&path).map_err(|error| unreadable(line, &path, error))?;
        let mut content = format!("{option} {{\n");
        for nested_line in logical_lines(nested.lines()) {
            let inside = path.parent().unwrap_or(beside);
            content += &format!("{}\n", read_line(&nested_line, inside, base, depth + 1)?.1);
        }
        return Ok((format!("{option} {}", path.display()), content + "}"));
    }
    if let Some((option, value)) = option(line, &LINK_OPTIONS) {
        let path = beside.join(value);
        if value.contains("://") || !path.exists() {
            return Ok((line.into(), line.into()));
        }
        let content = if path.is_dir() { listing(&path) } else { hash_file(&path) };
        let content = content.map_err(|error| unreadable(line, &path, error))?;
        return Ok((format!("{option} {}", path.display()), format!("{option} {content}")));
    }
    if option(line, &EDITABLE_OPTIONS).is_some() {
        return Err(refused(line, "an editable package changes behind the environment's back".into()));
    }
    let Some(path) = local_path(line, base) else {
        return Ok((line.into(), line.into()));
    };
    let hashed = if path.is_dir() { hash_tree(&path) } else { hash_file(&path) };
    let content = hashed.map_err(|error| unreadable(line, &path, error))?;
    Ok((line.into(), format!("{line} {content}")))
}

/// The option that `line` begins with, and its value: `-r file`, `-rfile`, `--requirement=file`.
fn option<'l>(line: &'l str, options: &[&'static str]) -> Option<(&'static str, &'l str)> {
    options.iter().find_map(|&option| {
        let rest = line.strip_prefix(option)?;
        let is_short = !option.starts_with("--");
        let value = if is_short { Some(rest) } else { rest.strip_prefix(['=', ' ', '\t']) };
        Some((option, value?.trim().trim_matches(['"', '\''])))
    })
}

/// The local file or folder that a requirement is: `./pkg`, `wheels/a.whl[extra]; python_version > "3.8"`, `a @ file:///…`.
fn local_path(line: &str, base: &Path) -> Option<PathBuf> {
    let requirement = line.split(" --").next()?.split([';', ' ']).next()?;
    let target = match line.split_once(" @ ").or_else(|| line.split_once("@ ")) {
        Some((_, url)) => url.split([';', ' ']).next()?,
        None => requirement,
    };
    if let Some(path) = target.strip_prefix("file://") {
        return Some(PathBuf::from(path.split('#').next()?));
    }
    if target.starts_with('-') || target.contains("://") {
        return None;
    }
    let without_extras = target.split('[').next()?;
    let is_archive = [".whl", ".zip", ".tar.gz", ".tar.bz2", ".tgz"].iter().any(|end| without_extras.ends_with(end));
    let is_path = without_extras.contains('/') || without_extras.starts_with('.') || is_archive;
    is_path.then(|| base.join(without_extras))
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Names and sizes: a wheel's name holds its version, and such folders can be large.
fn listing(folder: &Path) -> io::Result<String> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        entries.push(format!("{} {}", entry.file_name().to_string_lossy(), entry.metadata()?.len()));
    }
    entries.sort();
    Ok(blake3::hash(entries.join("\n").as_bytes()).to_hex().to_string())
}

/// Names and contents of a source tree, without what version control and builds leave in it.
fn hash_tree(root: &Path) -> io::Result<String> {
    const LEFT_OUT: [&str; 4] = [".git", "__pycache__", "build", "dist"];
    let (mut files, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kind = entry.file_type()?;
            if kind.is_dir() && !LEFT_OUT.contains(&&*name) && !name.ends_with(".egg-info") {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
        if files.len() > MOST_FILES {
            return Err(io::Error::other(format!("the folder has more than {MOST_FILES} files")));
        }
    }
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        hasher.update(format!("{name}\n{}\n", hash_file(&file)?).as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn refused(line: &str, reason: String) -> EnvironmentError {
    EnvironmentError::Requirement { line: line.into(), reason }
}

fn unreadable(line: &str, path: &Path, error: io::Error) -> EnvironmentError {
    refused(line, format!("cannot read `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, base: &Path) -> Result<Requirements, EnvironmentError> {
        read(&text.lines().map(String::from).collect::<Vec<_>>(), base)
    }

    fn content(text: &str, base: &Path) -> String {
        read_text(text, base).unwrap().content
    }

    #[test]
    fn comments_blank_lines_and_line_breaks_do_not_make_another_environment() {
        let base = Path::new("/nowhere");
        let plain = "numpy==1.26\npkg @ https://host/pkg.zip#sha256=1\nidna==3 --hash=sha256:0\n";
        let dressed =
            "# ours\n\nnumpy==1.26   # fast\npkg @ https://host/pkg.zip#sha256=1\nidna==3 \\\n--hash=sha256:0\n\n";
        assert_eq!(content(plain, base).replace("  ", " "), content(dressed, base).replace("  ", " "));
        assert_ne!(content("numpy==1.26", base), content("numpy==1.27", base));
    }

    #[test]
    fn a_file_that_is_named_counts_with_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), text).unwrap();
        };
        write("more/other.txt", "-c limits.txt\nscipy\n");
        write("more/limits.txt", "scipy<2\n");
        write("wheels/a-1-py3-none-any.whl", "wheel one");
        write("source/pyproject.toml", "[project]");
        let text = "-r more/other.txt\n./wheels/a-1-py3-none-any.whl ; python_version > '3'\n./source[extra]\n--find-links=wheels\n";
        let before = read_text(text, dir.path()).unwrap();
        assert!(before.text.starts_with(&format!("-r {}/more/other.txt\n", dir.path().display())), "{}", before.text);
        assert!(before.text.ends_with(&format!("--find-links {}/wheels\n", dir.path().display())), "{}", before.text);

        let mut seen = vec![before.content];
        for (name, text) in [
            ("more/limits.txt", "scipy<3\n"),
            ("wheels/a-1-py3-none-any.whl", "wheel two"),
            ("source/pyproject.toml", "[tool]"),
            ("source/new.py", ""),
            ("wheels/b-1-py3-none-any.whl", "found by a link"),
        ] {
            write(name, text);
            let now = content(&text_of(&dir), dir.path());
            assert!(!seen.contains(&now), "{name} changed nothing");
            seen.push(now);
        }
        write("source/__pycache__/a.pyc", "compiled");
        assert_eq!(content(&text_of(&dir), dir.path()), *seen.last().unwrap());

        fn text_of(_: &tempfile::TempDir) -> String {
            "-r more/other.txt\n./wheels/a-1-py3-none-any.whl ; python_version > '3'\n./source[extra]\n--find-links=wheels\n".into()
        }
    }

    #[test]
    fn local_paths_are_told_from_names_and_addresses() {
        let base = Path::new("/base");
        for (line, path) in [
            ("numpy", None),
            ("numpy>=1.2,<2 ; python_version < '3.9'", None),
            ("git+https://host/repo.git@v1", None),
            ("https://host/a-1.whl", None),
            ("--index-url https://host/simple", None),
            ("--no-index", None),
            ("./pkg", Some("/base/./pkg")),
            ("../a-1-py3-none-any.whl[gpu]; sys_platform == 'linux'", Some("/base/../a-1-py3-none-any.whl")),
            ("a-1-py3-none-any.whl", Some("/base/a-1-py3-none-any.whl")),
            ("/abs/pkg", Some("/abs/pkg")),
            ("file:///abs/pkg#egg=pkg", Some("/abs/pkg")),
            ("pkg @ file:///abs/pkg ; python_version > '3'", Some("/abs/pkg")),
            ("pkg @ https://host/pkg.zip", None),
        ] {
            assert_eq!(local_path(line, base).as_deref(), path.map(Path::new), "{line}");
        }
    }

    #[test]
    fn what_can_not_be_read_or_shared_is_refused_by_its_line() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("circle.txt"), "-r circle.txt\n").unwrap();
        for (text, reason) in [
            ("-r missing.txt", "No such file"),
            ("./missing.whl", "No such file"),
            ("-e ./source", "editable"),
            ("--editable=./source", "editable"),
            ("-r circle.txt", "circle"),
        ] {
            let error = read_text(text, dir.path()).unwrap_err().to_string();
            assert!(error.contains(text.split(['=', ' ']).next().unwrap()) && error.contains(reason), "{error}");
        }
    }
}
