//! One ticket at a time, of those at the head of the pool's queue the first that this worker can use.
//!
//! With a ticket in hand all others go back and the consumer is cancelled; then the ticket is acknowledged. Dead before that, it comes back;
//! dead after, the coordinator hears nothing and renews it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fanfold_shared::backend::rabbitmq::{Broker, Consumer, Received};
use fanfold_shared::failpoint;
use fanfold_shared::fleet::wire::{self, WireError};
use fanfold_shared::fleet::{Ticket, names};
use fanfold_shared::ids::JobId;

use super::log::say;

/// How long tickets of a job are left to others after one was refused.
const REFUSED: Duration = Duration::from_secs(5);
/// A ticket that is left to others comes back at once if there are none: until then nothing is taken.
const PAUSE: Duration = Duration::from_secs(1);

/// Tickets looked at together: one that nobody here can use must not hide those behind it.
const AHEAD: u16 = 64;

/// What becomes of a ticket.
enum Verdict {
    Take(Ticket),
    /// It is for others.
    Leave,
    /// It is for nobody.
    Reject,
}

/// See the module documentation.
pub struct Tickets {
    broker: Broker,
    queue: String,
    consumer: Option<Consumer>,
    refused: Refused,
    resume: Instant,
    /// What was said last of tickets that are left to others.
    told: Option<String>,
}

impl Tickets {
    /// Those of `pool`.
    pub fn new(broker: Broker, pool: &str) -> Tickets {
        let (queue, resume) = (names::nodes_queue(pool), Instant::now());
        Tickets { broker, queue, consumer: None, refused: Refused::default(), resume, told: None }
    }

    /// The next ticket, if one comes within `wait`.
    pub fn next(&mut self, wait: Duration) -> Option<Ticket> {
        let pause = self.resume.saturating_duration_since(Instant::now());
        if !pause.is_zero() {
            std::thread::sleep(pause.min(wait));
            return None;
        }
        let consumer = self.consumer.take().unwrap_or_else(|| self.broker.consumer(&self.queue, AHEAD));
        let received = consumer.receive(AHEAD.into(), wait).ok()?;
        let (mut mine, mut left) = (None, Vec::new());
        for message in received {
            match self.judge(&message) {
                Verdict::Take(ticket) if mine.is_none() => mine = Some((ticket, message)),
                Verdict::Take(_) | Verdict::Leave => left.push(message),
                Verdict::Reject => message.reject(),
            }
        }
        if mine.is_some() || !left.is_empty() {
            consumer.cancel();
            drop(left);
        } else {
            self.consumer = Some(consumer);
        }
        let Some((ticket, message)) = mine else {
            if self.consumer.is_none() {
                self.resume = Instant::now() + PAUSE;
            }
            return None;
        };
        failpoint!("fleet_ticket_in_hand");
        message.ack();
        failpoint!("fleet_ticket_acknowledged");
        Some(ticket)
    }

    fn judge(&mut self, message: &Received) -> Verdict {
        match wire::decode::<Ticket>(&message.body) {
            Ok(ticket) if self.refused.contains(&ticket.job, Instant::now()) => Verdict::Leave,
            Ok(ticket) => Verdict::Take(ticket),
            // Another worker may be newer, or older. What does not expire is nobody's ticket.
            Err(error @ WireError::Version { .. }) if message.properties.expiration.is_some() => {
                if self.told != Some(error.to_string()) {
                    say(&format!("a ticket is left to others: {error}"));
                    self.told = Some(error.to_string());
                }
                Verdict::Leave
            }
            Err(error) => {
                say(&format!("a ticket is rejected: {error}"));
                Verdict::Reject
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
