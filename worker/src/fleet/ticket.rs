//! One ticket at a time.
//!
//! With a ticket in hand the consumer is cancelled, then the ticket is acknowledged: a worker can't get a second one. Dead between the
//! two, the ticket comes back; dead after, the coordinator hears nothing and renews it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fanfold_shared::backend::rabbitmq::{Broker, Consumer};
use fanfold_shared::failpoint;
use fanfold_shared::fleet::wire::{self, WireError};
use fanfold_shared::fleet::{Ticket, names};
use fanfold_shared::ids::JobId;

use super::log::say;

/// How long tickets of a job are left to others after one was refused.
const REFUSED: Duration = Duration::from_secs(5);
/// A ticket that is left to others comes back at once if there are none: until then nothing is taken.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module documentation.
pub struct Tickets {
    broker: Broker,
    queue: String,
    consumer: Option<Consumer>,
    refused: Refused,
    resume: Instant,
}

impl Tickets {
    /// Those of `pool`.
    pub fn new(broker: Broker, pool: &str) -> Tickets {
        let (queue, resume) = (names::nodes_queue(pool), Instant::now());
        Tickets { broker, queue, consumer: None, refused: Refused::default(), resume }
    }

    /// The next ticket, if one comes within `wait`.
    pub fn next(&mut self, wait: Duration) -> Option<Ticket> {
        let pause = self.resume.saturating_duration_since(Instant::now());
        if !pause.is_zero() {
            std::thread::sleep(pause.min(wait));
            return None;
        }
        let consumer = self.consumer.take().unwrap_or_else(|| self.broker.consumer(&self.queue, 1));
        let received = consumer.receive(1, wait).ok()?.pop();
        let Some(received) = received else {
            self.consumer = Some(consumer);
            return None;
        };
        match wire::decode::<Ticket>(&received.body) {
            Ok(ticket) if self.refused.contains(&ticket.job, Instant::now()) => {
                self.resume = Instant::now() + PAUSE;
                consumer.cancel();
                received.requeue();
                None
            }
            Ok(ticket) => {
                consumer.cancel();
                failpoint!("fleet_ticket_in_hand");
                received.ack();
                failpoint!("fleet_ticket_acknowledged");
                Some(ticket)
            }
            // Another worker may be newer, or older.
            Err(error @ WireError::Version { .. }) => {
                say(&format!("a ticket is left to others: {error}"));
                self.resume = Instant::now() + REFUSED;
                consumer.cancel();
                received.requeue();
                None
            }
            Err(error) => {
                say(&format!("a ticket is rejected: {error}"));
                received.reject();
                self.consumer = Some(consumer);
                None
            }
        }
    }

    /// This worker can't be a node of `job`: leaves its tickets to others for a while.
    pub fn refuse(&mut self, job: &JobId) {
        self.refused.add(job, Instant::now());
    }
}

/// Jobs of which this worker can't be a node.
#[derive(Default)]
struct Refused(HashMap<JobId, Instant>);

impl Refused {
    fn add(&mut self, job: &JobId, now: Instant) {
        self.0.insert(job.clone(), now + REFUSED);
    }

    fn contains(&mut self, job: &JobId, now: Instant) -> bool {
        self.0.retain(|_, until| *until > now);
        self.0.contains_key(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_left_to_others_for_a_while() {
        let (mut refused, now) = (Refused::default(), Instant::now());
        let job = JobId("a-1".into());
        refused.add(&job, now);
        assert!(refused.contains(&job, now + REFUSED / 2));
        assert!(!refused.contains(&JobId("b-1".into()), now));
        assert!(!refused.contains(&job, now + REFUSED));
    }
}
