//! Who may have how many of a pool's workers. Decides; asks nobody and orders nothing.
//!
//! A job takes what it gets, and gives nothing back while nobody waits. Once a job of equal or higher priority has had no node for a
//! moment, whoever has more than its share is limited to it, and stays so for as long as the other one is there: a limit that came and
//! went with every node would have models loaded again and again.

use std::collections::BTreeMap;

use fanfold_shared::ids::JobId;

/// A job that wants nodes of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// The job.
    pub id: JobId,
    /// 0 to 9; higher comes first.
    pub priority: u8,
    /// Smaller came earlier.
    pub order: i64,
    /// The nodes that it has, or that are about to join.
    pub nodes: u32,
    /// The most that it can use.
    pub most: u32,
    /// It has had none for longer than a free worker needs to take a ticket.
    pub starves: bool,
}

/// The limit of each job that has one. `workers`: how many the pool has, the idle ones included; `before`: the limits so far.
pub fn limits(workers: u32, jobs: &[Contender], before: &BTreeMap<JobId, u32>) -> BTreeMap<JobId, u32> {
    let mut limits = BTreeMap::new();
    for job in jobs {
        let rivals: Vec<&Contender> =
            jobs.iter().filter(|other| other.id != job.id && other.priority >= job.priority).collect();
        let asked = rivals.iter().any(|rival| rival.starves) || (before.contains_key(&job.id) && !rivals.is_empty());
        if asked {
            limits.insert(job.id.clone(), share(workers, job, &rivals));
        }
    }
    limits
}

/// What `job` may have beside its rivals: everybody one, the most urgent and the oldest first, then another round, until the workers are
/// given out or nobody can use more.
fn share(workers: u32, job: &Contender, rivals: &[&Contender]) -> u32 {
    let mut all: Vec<&Contender> = rivals.iter().copied().chain([job]).collect();
    all.sort_by_key(|one| (std::cmp::Reverse(one.priority), one.order));
    let mut left = workers;
    let mut shares: Vec<u32> = vec![0; all.len()];
    while left > 0 {
        let before = left;
        for (one, share) in all.iter().zip(&mut shares) {
            if left > 0 && *share < one.most {
                *share += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    let at = all.iter().position(|one| one.id == job.id).expect("it was added");
    shares[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, priority: u8, order: i64, nodes: u32, most: u32) -> Contender {
        Contender { id: JobId(name.into()), priority, order, nodes, most, starves: nodes == 0 }
    }

    fn told(workers: u32, jobs: &[Contender], before: &[(&str, u32)]) -> Vec<(String, u32)> {
        let before = before.iter().map(|(id, limit)| (JobId((*id).into()), *limit)).collect();
        limits(workers, jobs, &before).into_iter().map(|(id, limit)| (id.0, limit)).collect()
    }

    fn is(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
        expected.iter().map(|(id, limit)| (id.to_string(), *limit)).collect()
    }

    const MAX: u32 = u32::MAX;

    #[test]
    fn nobody_is_limited_while_nobody_waits() {
        assert_eq!(told(4, &[job("a", 4, 1, 4, MAX)], &[]), is(&[]));
        assert_eq!(
            told(4, &[job("a", 4, 1, 3, MAX), job("b", 4, 2, 1, MAX)], &[]),
            is(&[]),
            "a has more, but b has one"
        );
    }

    #[test]
    fn equals_share_and_the_older_one_has_the_odd_node() {
        let jobs = [job("a", 4, 1, 5, MAX), job("b", 4, 2, 0, MAX)];
        assert_eq!(told(5, &jobs, &[]), is(&[("a", 3)]));
        let three = [job("a", 4, 1, 5, MAX), job("b", 4, 2, 0, MAX), job("c", 4, 3, 0, MAX)];
        assert_eq!(told(5, &three, &[]), is(&[("a", 2), ("b", 2), ("c", 1)]));
    }

    #[test]
    fn one_worker_is_not_passed_to_and_fro_between_equals_but_goes_to_the_more_urgent() {
        assert_eq!(told(1, &[job("old", 4, 1, 1, MAX), job("new", 4, 2, 0, MAX)], &[]), is(&[("old", 1)]));
        assert_eq!(told(1, &[job("old", 4, 1, 1, MAX), job("new", 7, 2, 0, MAX)], &[]), is(&[("old", 0)]));
        assert_eq!(
            told(1, &[job("old", 7, 1, 1, MAX), job("new", 4, 2, 0, MAX)], &[]),
            is(&[]),
            "the less urgent waits"
        );
    }

    #[test]
    fn a_limit_stays_while_the_other_one_is_there_and_goes_with_it() {
        let both = [job("old", 4, 1, 0, MAX), job("new", 7, 2, 1, MAX)];
        assert_eq!(told(1, &both, &[("old", 0)]), is(&[("old", 0)]));
        assert_eq!(told(1, &both[..1], &[("old", 0)]), is(&[]));
        let shared = [job("a", 4, 1, 2, MAX), job("b", 4, 2, 2, MAX)];
        assert_eq!(told(4, &shared, &[("a", 2)]), is(&[("a", 2)]));
        assert_eq!(told(6, &shared, &[("a", 2)]), is(&[("a", 3)]), "the pool grew");
    }

    #[test]
    fn what_others_cannot_use_is_left() {
        let jobs = [job("a", 4, 1, 8, MAX), job("b", 4, 2, 0, 1)];
        assert_eq!(told(8, &jobs, &[]), is(&[("a", 7)]));
    }
}
