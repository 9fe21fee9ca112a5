//! Names of things, as types: a job, a copy of its script, a node, a process of a node.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The id of a job: `<name>-<8 characters>`, unique. It names the job directory and, on a fleet, the job's queues.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub String);

impl JobId {
    /// A new id for a job called `name`: the name, a dash, and 8 characters `[0-9a-z]` from a UUID's random bits
    /// (41 bits; one whose directory in `fanfold-jobs` is there already is not taken).
    pub fn new(name: &str) -> JobId {
        JobId(format!("{name}-{}", suffix(8)))
    }
}

/// So many random characters `[0-9a-z]`, 11 at most.
pub fn suffix(characters: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    // The low 62 bits of a version-7 UUID are random.
    let mut random = uuid::Uuid::now_v7().as_u128() & ((1 << 62) - 1);
    let draw = |_| {
        let digit = DIGITS[(random % 36) as usize] as char;
        random /= 36;
        digit
    };
    (0..characters).map(draw).collect()
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a node within a job, as it appears in log paths: `0` for the only node of an embedded job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub String);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a Python process on its node. Never reused on a node of a job, continuing the job included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessNumber(pub u32);

impl fmt::Display for ProcessNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process{:03}", self.0)
    }
}

/// Which copy of its script a job runs, counted from 1. `retry --failed --new-script` takes another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScriptNumber(pub u32);

impl ScriptNumber {
    /// The one that was taken when the job was submitted.
    pub const FIRST: ScriptNumber = ScriptNumber(1);

    /// Whether the job never ran another one.
    pub fn is_first(&self) -> bool {
        *self == ScriptNumber::FIRST
    }

    /// The one after it.
    pub fn next(self) -> ScriptNumber {
        ScriptNumber(self.0.saturating_add(1))
    }

    /// All before it, the first one first.
    pub fn earlier(self) -> impl Iterator<Item = ScriptNumber> {
        (1..self.0).map(ScriptNumber)
    }

    /// `name` for the first one, `name-2` for the second: what a job of one script has is called as if there were no others.
    pub fn in_name(self, name: &str) -> String {
        if self.is_first() { name.to_string() } else { format!("{name}-{}", self.0) }
    }
}

impl Default for ScriptNumber {
    fn default() -> ScriptNumber {
        ScriptNumber::FIRST
    }
}

impl fmt::Display for ScriptNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_as_in_the_original() {
        assert_eq!(ProcessNumber(0).to_string(), "process000");
        assert_eq!(ProcessNumber(1234).to_string(), "process1234");
    }

    #[test]
    fn only_later_scripts_show_in_names() {
        let second = ScriptNumber::FIRST.next();
        assert_eq!((ScriptNumber::default().in_name("work"), second.in_name("work")), ("work".into(), "work-2".into()));
        assert_eq!(second.next().earlier().collect::<Vec<_>>(), [ScriptNumber::FIRST, second]);
        assert_eq!(ScriptNumber::FIRST.earlier().count(), 0);
    }

    #[test]
    fn job_ids_are_the_name_and_eight_characters() {
        let id = JobId::new("score");
        let (name, suffix) = id.0.rsplit_once('-').unwrap();
        assert_eq!((name, suffix.len()), ("score", 8));
        assert_ne!(id, JobId::new("score"));
    }
}
