//! Every relative link of every page leads to a file that is there, and to a heading that it has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

#[test]
fn every_link_leads_somewhere() {
    let pages = files(root(), &["md"]);
    assert!(pages.len() > 30, "pages are missing: {pages:?}");
    let mut seen = 0;
    let mut broken = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for (line, target) in links(&text) {
            seen += 1;
            if let Some(why) = wrong(page, &target) {
                broken.push(format!("{}:{line}: {target}: {why}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(seen > 200, "links are overlooked: {seen} were found");
    assert!(broken.is_empty(), "links that lead nowhere:\n{}\n", broken.join("\n"));
}

#[test]
fn every_page_that_the_program_names_is_there() {
    let mut named = 0;
    for file in files(root(), &["rs", "py", "sh", "md", "yaml"]) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (at, _) in text.match_indices("docs/") {
            // Of another repository, or in the middle of a longer path.
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '/' || c == '_') {
                continue;
            }
            let path: String =
                text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || "/-_.".contains(*c)).collect();
            let Some(end) = path.find(".md") else { continue };
            named += 1;
            let path = &path[..end + 3];
            assert!(root().join(path).is_file(), "{} names `{path}`, which is not there", file.display());
        }
    }
    assert!(named > 50, "names are overlooked: {named} were found");
}

#[test]
fn a_page_is_found_from_the_readme() {
    // Whoever starts at the README, or at the list of design pages, comes to every page.
    for (list, folder) in [("README.md", "docs"), ("docs/design/README.md", "docs/design")] {
        let text = fs::read_to_string(root().join(list)).unwrap();
        let linked: Vec<String> = links(&text).into_iter().map(|(_, target)| target).collect();
        for entry in fs::read_dir(root().join(folder)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let target = if list == "README.md" { format!("docs/{name}") } else { name.clone() };
            let is_page = name.ends_with(".md") && name != "README.md";
            assert!(!is_page || linked.contains(&target), "{list} does not lead to {folder}/{name}");
        }
    }
}

/// What is wrong with a link of `page`, if something is.
fn wrong(page: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { page.to_path_buf() } else { page.parent().unwrap().join(path) };
    if !file.exists() {
        return Some("there is no such file".into());
    }
    let anchor = anchor?;
    let anchors = anchors(&fs::read_to_string(&file).ok()?);
    let near: Vec<_> = anchors.iter().filter(|other| other.contains(anchor) || anchor.contains(*other)).collect();
    (!anchors.iter().any(|other| other == anchor)).then(|| format!("it has no such heading; near are {near:?}"))
}

/// The links of a page, each with its line: `[text](target)` outside of code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let plain = without_code(line);
        for (at, _) in plain.match_indices("](") {
            let rest = &plain[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push((number, rest[..end].to_string()));
            }
        }
    }
    found
}

/// The anchors of a page, as GitHub makes them of its headings.
fn anchors(text: &str) -> Vec<String> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text).filter(|(_, line)| {
        let level = line.chars().take_while(|c| *c == '#').count();
        (1..=6).contains(&level) && line[level..].starts_with(' ')
    });
    headings
        .map(|(_, line)| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
            let time = times.entry(slug.clone()).or_default();
            *time += 1;
            if *time == 1 { slug } else { format!("{slug}-{}", *time - 1) }
        })
        .collect()
}

/// The lines outside of fenced blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((number + 1, line))
    })
}

/// The line without what stands in backticks, so that code with brackets is no link.
fn without_code(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].chars().take_while(|c| *c == '`').count();
        let body = start + ticks;
        let Some(end) = rest[body..].find(&"`".repeat(ticks)) else { break };
        out.push_str(&rest[..start]);
        rest = &rest[body + end + ticks..];
    }
    out + rest
}

/// The files under `folder` that end so, without those that are made or belong to others.
fn files(folder: &Path, ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().unwrap().is_dir() {
            let others = name.starts_with('.') || matches!(&*name, "target" | "fanfold-jobs" | "node_modules");
            if !others {
                found.extend(files(&path, ends));
            }
        } else if path.extension().is_some_and(|end| ends.iter().any(|known| end == *known)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn links_and_anchors_are_read_as_they_are_shown() {
    let text = "# A page\n[x](a.md) and `[y](b.md)`\n```\n[z](c.md)\n# none\n```\n## The kinds of `errors.jsonl`\n## Twice\n## Twice\n";
    assert_eq!(links(text), [(2, "a.md".to_string())]);
    assert_eq!(anchors(text), ["a-page", "the-kinds-of-errorsjsonl", "twice", "twice-1"]);
    let page = root().join("README.md");
    assert_eq!(wrong(&page, "docs/failures.md#the-kinds-of-errorsjsonl"), None);
    assert!(wrong(&page, "docs/failures.md#the-kinds-of-errors.jsonl").unwrap().contains("no such heading"));
    let page = root().join("docs/tables.md");
    assert!(wrong(&page, "faliures.md").unwrap().contains("no such file"));
}
