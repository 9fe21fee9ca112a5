//! The backend within one program: two queues under locks. It keeps the whole contract, redelivery included, so that
//! what runs on it runs on the fleet.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Backend, Closed, Delivery, Gather, OnSafe, Settled};
use crate::message::{FromNode, NodeMessage, Task};

/// Bytes of results that may wait to be committed before `publish_results` waits.
const WAITING_BYTES: usize = 32 << 20;

/// A commit takes milliseconds, most of them of the disk.
const GATHER: Gather = Gather { time: Duration::from_millis(20), bytes: 1 << 20 };

/// See the module documentation. Cloning gives another handle to the same queues.
#[derive(Clone, Default)]
pub struct Embedded {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    task_came: Condvar,
    result_came: Condvar,
    results_settled: Condvar,
}

#[derive(Default)]
struct State {
    closed: bool,
    tasks: VecDeque<(Task, bool)>,
    results: VecDeque<(FromNode, bool)>,
    /// Bytes of results that were published and not yet acknowledged.
    waiting_bytes: usize,
    /// Hand-overs of tasks that are not yet acknowledged, by their mini-batches and attempt.
    hand_overs: HashMap<(Range<u64>, u32), u32>,
}

impl Embedded {
    /// Two empty queues.
    pub fn new() -> Embedded {
        Embedded::default()
    }
}

impl Shared {
    /// A panic elsewhere leaves the queues whole: every change under the lock is one step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits on `condition` while `blocked`, at most until `deadline`.
    fn wait_while<'a>(
        &'a self,
        condition: &Condvar,
        mut state: MutexGuard<'a, State>,
        deadline: Option<Instant>,
        blocked: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        while blocked(&state) {
            state = match deadline {
                None => condition.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    condition.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state
    }

    fn settle_task(&self, task: Task, how: Settled) {
        let mut state = self.lock();
        match how {
            Settled::Acked | Settled::Rejected => {
                state.hand_overs.remove(&(task.mini_batches, task.attempt));
            }
            Settled::Requeued => {
                if let Some(count) = state.hand_overs.get_mut(&(task.mini_batches.clone(), task.attempt)) {
                    *count = count.saturating_sub(1);
                }
                state.tasks.push_front((task, true));
                self.task_came.notify_one();
            }
        }
    }

    fn settle_result(&self, message: FromNode, how: Settled) {
        let mut state = self.lock();
        match how {
            Settled::Acked | Settled::Rejected => {
                state.waiting_bytes -= weight(&message);
                self.results_settled.notify_all();
            }
            Settled::Requeued => {
                state.results.push_front((message, true));
                self.result_came.notify_one();
            }
        }
    }
}

/// What a message counts for against the bound, bytes: its rows, and its outcomes roughly.
fn weight(message: &FromNode) -> usize {
    match &message.body {
        NodeMessage::Results(results) => results.rows.len() + results.outcomes.len() * 128,
        NodeMessage::Event(_) => 128,
    }
}

impl Backend for Embedded {
    fn publish_tasks(&self, tasks: Vec<Task>) -> Result<(), Closed> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Closed);
        }
        state.tasks.extend(tasks.into_iter().map(|task| (task, false)));
        self.shared.task_came.notify_all();
        Ok(())
    }

    fn receive_tasks(&self, max: usize, wait: Duration) -> Result<Vec<Delivery<Task>>, Closed> {
        let state = self.shared.lock();
        let deadline = Some(Instant::now() + wait);
        let mut state =
            self.shared.wait_while(&self.shared.task_came, state, deadline, |s| s.tasks.is_empty() && !s.closed);
        if state.tasks.is_empty() && state.closed {
            return Err(Closed);
        }
        let count = max.min(state.tasks.len());
        let taken = state.tasks.drain(..count);
        Ok(taken
            .map(|(task, redelivered)| {
                let shared = self.shared.clone();
                Delivery::new(task, redelivered, Box::new(move |task, how| shared.settle_task(task, how)))
            })
            .collect())
    }

    fn publish_results(&self, messages: Vec<FromNode>, safe: OnSafe) -> Result<(), Closed> {
        for message in messages {
            let weight = weight(&message);
            let state = self.shared.lock();
            // One message always fits an empty queue, however large it is.
            let mut state = self.shared.wait_while(&self.shared.results_settled, state, None, |s| {
                !s.closed && s.waiting_bytes > 0 && s.waiting_bytes + weight > WAITING_BYTES
            });
            if state.closed {
                return Err(Closed);
            }
            state.waiting_bytes += weight;
            state.results.push_back((message, false));
            self.shared.result_came.notify_one();
        }
        // Coordinator and node die together: there is nothing to wait for.
        safe();
        Ok(())
    }

    fn receive_results(&self, max_bytes: usize, wait: Duration) -> Result<Vec<Delivery<FromNode>>, Closed> {
        let state = self.shared.lock();
        let deadline = Some(Instant::now() + wait);
        let mut state =
            self.shared.wait_while(&self.shared.result_came, state, deadline, |s| s.results.is_empty() && !s.closed);
        if state.results.is_empty() && state.closed {
            return Err(Closed);
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some((next, _)) = state.results.front() {
            bytes += weight(next);
            if !taken.is_empty() && bytes > max_bytes {
                break;
            }
            let (message, redelivered) = state.results.pop_front().expect("it has a front");
            let shared = self.shared.clone();
            let settle = Box::new(move |message, how| shared.settle_result(message, how));
            taken.push(Delivery::new(message, redelivered, settle));
        }
        Ok(taken)
    }

    fn count_hand_overs(&self, tasks: &[Delivery<Task>]) -> Result<Vec<u32>, Closed> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Closed);
        }
        let count = |task: &Delivery<Task>| {
            let count = state.hand_overs.entry((task.mini_batches.clone(), task.attempt)).or_insert(0);
            *count += 1;
            *count
        };
        Ok(tasks.iter().map(count).collect())
    }

    fn gather(&self) -> Gather {
        GATHER
    }

    fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.task_came.notify_all();
        self.shared.result_came.notify_all();
        self.shared.results_settled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::contract;

    #[test]
    fn the_embedded_backend_keeps_the_contract() {
        contract::check(Embedded::new);
    }
}
