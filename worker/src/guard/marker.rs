//! The mark that everything started for one process carries in its environment.

use std::fs::File;
use std::io::{self, Read};

use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};

/// The environment variable that holds the mark.
///
/// Its value is `<job>/<node>/<process>/<run>`, where `<run>` is the random token of one run of a worker. Where a worker is
/// itself started by the script of another one, the outer marks follow after commas: the outer worker answers for it too.
pub const VARIABLE: &str = "FANFOLD_PROCESS";

/// What this run of a worker writes into its marks.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub job: JobId,
    pub node: NodeId,
    pub token: String,
    /// The marks that the worker was itself started with.
    pub outer: Option<String>,
}

impl Mark {
    /// The mark of a new run: with a new token, inside whatever this program was started by.
    pub fn new(job: &JobId, node: &NodeId) -> io::Result<Mark> {
        let mut random = [0u8; 8];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let token = format!("{:016x}", u64::from_ne_bytes(random));
        let outer = std::env::var(VARIABLE).ok().filter(|outer| !outer.is_empty());
        Ok(Mark { job: job.clone(), node: node.clone(), token, outer })
    }

    /// The value of [`VARIABLE`] for one process.
    pub fn value(&self, process: ProcessNumber) -> String {
        let own = format!("{}/{}/{}/{}", self.job, self.node, process.0, self.token);
        match &self.outer {
            Some(outer) => format!("{own},{outer}"),
            None => own,
        }
    }
}

/// Whose marks are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// One process of one run.
    Process { token: String, process: ProcessNumber },
    /// All of one run.
    Run { token: String },
    /// All of one node of a job, whichever run it was.
    Node { job: JobId, node: NodeId },
}

impl Scope {
    /// Whether `environ`, NUL-separated as in `/proc/<pid>/environ`, carries such a mark.
    pub fn covers(&self, environ: &[u8]) -> bool {
        environ
            .split(|&byte| byte == 0)
            .filter_map(|entry| entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))
            .filter_map(|value| std::str::from_utf8(value).ok())
            .any(|value| value.split(',').any(|mark| self.covers_mark(mark)))
    }

    fn covers_mark(&self, mark: &str) -> bool {
        // From the right: only the job's and the node's own rules keep slashes out of their names.
        let mut parts = mark.rsplitn(4, '/');
        let (Some(token), Some(process), Some(node), Some(job)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        match self {
            Scope::Process { token: meant, process: number } => token == meant && process == number.0.to_string(),
            Scope::Run { token: meant } => token == meant,
            Scope::Node { job: meant, node: place } => job == meant.0 && node == place.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(outer: Option<&str>) -> Mark {
        Mark {
            job: JobId("score-1a2b3c4d".into()),
            node: NodeId("0".into()),
            token: "feedfacefeedface".into(),
            outer: outer.map(String::from),
        }
    }

    fn environ(value: &str) -> Vec<u8> {
        format!("HOME=/root\0{VARIABLE}={value}\0LANG=C\0").into_bytes()
    }

    #[test]
    fn a_mark_is_found_by_process_by_run_and_by_node() {
        let environ = environ(&mark(None).value(ProcessNumber(7)));
        let token = || "feedfacefeedface".to_string();
        let node = |job: &str, node: &str| Scope::Node { job: JobId(job.into()), node: NodeId(node.into()) };
        assert!(Scope::Process { token: token(), process: ProcessNumber(7) }.covers(&environ));
        assert!(!Scope::Process { token: token(), process: ProcessNumber(77) }.covers(&environ));
        assert!(Scope::Run { token: token() }.covers(&environ));
        assert!(!Scope::Run { token: "feedface".into() }.covers(&environ));
        assert!(node("score-1a2b3c4d", "0").covers(&environ));
        assert!(!node("score-1a2b3c4d", "1").covers(&environ));
        assert!(!node("core-1a2b3c4d", "0").covers(&environ));
    }

    #[test]
    fn an_outer_worker_answers_for_what_an_inner_one_started() {
        let outer = mark(None).value(ProcessNumber(3));
        let mut inner = mark(Some(&outer));
        inner.token = "0123456789abcdef".into();
        let environ = environ(&inner.value(ProcessNumber(0)));
        assert!(Scope::Process { token: "feedfacefeedface".into(), process: ProcessNumber(3) }.covers(&environ));
        assert!(Scope::Process { token: "0123456789abcdef".into(), process: ProcessNumber(0) }.covers(&environ));
        assert!(!Scope::Process { token: "0123456789abcdef".into(), process: ProcessNumber(3) }.covers(&environ));
    }

    #[test]
    fn other_variables_carry_no_mark() {
        let scope = Scope::Run { token: "feedfacefeedface".into() };
        assert!(!scope.covers(b"NOT_FANFOLD_PROCESS=a/b/0/feedfacefeedface\0"));
        assert!(!scope.covers(b"FANFOLD_PROCESS_OLD=a/b/0/feedfacefeedface\0"));
        assert!(!scope.covers(b"FANFOLD_PROCESS=feedfacefeedface\0"));
        assert!(!scope.covers(b""));
    }

    #[test]
    fn two_runs_have_different_tokens() {
        let (job, node) = (JobId("score-1a2b3c4d".into()), NodeId("0".into()));
        assert_ne!(Mark::new(&job, &node).unwrap().token, Mark::new(&job, &node).unwrap().token);
    }
}
