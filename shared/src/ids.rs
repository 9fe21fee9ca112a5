//! Names of things, as types: a job, a node, a process of a node, a mini-batch.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_as_in_the_original() {
        assert_eq!(ProcessNumber(0).to_string(), "process000");
        assert_eq!(ProcessNumber(1234).to_string(), "process1234");
    }

    #[test]
    fn job_ids_are_the_name_and_eight_characters() {
        let id = JobId::new("score");
        let (name, suffix) = id.0.rsplit_once('-').unwrap();
        assert_eq!((name, suffix.len()), ("score", 8));
        assert_ne!(id, JobId::new("score"));
    }
}
