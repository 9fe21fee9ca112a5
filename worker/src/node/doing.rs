//! What the processes of a node do now, for those who look at the job. It is read from their pages: nobody who works is asked.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use fanfold_shared::message::{Activity, Doing};

use super::Node;
use crate::slot::page;

impl Node {
    /// Each living process.
    pub(super) fn doing(&self) -> Vec<Doing> {
        let pages = (0..self.plan.processes as usize).filter_map(|slot| page::glance(&self.page(slot)));
        let pages: HashMap<u32, page::Glance> = pages.map(|glance| (glance.pid, glance)).collect();
        let doing = |(process, pid, age): (_, u32, Duration)| {
            let age_us = age.as_micros() as u64;
            let (activity, for_us, mini_batch) = match pages.get(&pid) {
                Some(glance) => (glance.phase.activity(), glance.for_us, glance.mini_batch),
                // It has not come so far that it knows its page.
                None => (Activity::Starting, age_us, None),
            };
            Doing { process, pid, age_us, activity, for_us, mini_batch, delayed_us: delayed_us(pid) }
        };
        self.running.all().into_iter().map(doing).collect()
    }
}

/// How long the process's main thread, in which the script runs, was ready to run and another had the processor.
fn delayed_us(pid: u32) -> u64 {
    // Not every kernel keeps count.
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|ns| ns.parse::<u64>().ok()).unwrap_or_default() / 1000
}
