//! The backend of a fleet: one job's tasks and results on RabbitMQ, its hand-overs counted in Redis.

use std::time::Duration;

use super::rabbitmq::{Broker, BrokerError};
use super::redis::Store;
use super::{Backend, Closed, Delivery, OnSafe};
use crate::ids::JobId;
use crate::layout::JobDir;
use crate::message::{FromNode, Task};

/// One job's queues, as its coordinator or one of its nodes uses them. Channels are opened when they are first used.
pub struct Fleet {}

#[expect(unused_variables, reason = "interfaces first")]
impl Fleet {
    /// For the coordinator: declares the job's queues.
    ///
    /// # Errors
    /// The broker refuses, or does not answer within `limit`.
    pub fn coordinate(
        broker: &Broker,
        store: &Store,
        job: &JobId,
        dir: &JobDir,
        limit: Duration,
    ) -> Result<Fleet, BrokerError> {
        unimplemented!()
    }

    /// For a node: uses what is there.
    pub fn take_part(broker: &Broker, store: &Store, job: &JobId, dir: &JobDir) -> Fleet {
        unimplemented!()
    }

    /// Lets the broker send so many tasks ahead.
    pub fn set_prefetch(&self, tasks: u16) {
        unimplemented!()
    }

    /// Since when the job's queues have been missing, by the broker's word. For a node.
    pub fn missing_since(&self) -> Option<std::time::Instant> {
        unimplemented!()
    }

    /// Tasks that wait in the queue by the broker's word; None: the queue is gone (and declared again).
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn waiting_tasks(&self) -> Result<Option<u32>, BrokerError> {
        unimplemented!()
    }

    /// Takes back the tasks that nobody has received yet.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn purge_tasks(&self) -> Result<u32, BrokerError> {
        unimplemented!()
    }

    /// The job is over: deletes queues and counters.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn clean_up(&self) -> Result<(), BrokerError> {
        unimplemented!()
    }
}

#[expect(unused_variables, reason = "interfaces first")]
impl Backend for Fleet {
    fn publish_tasks(&self, tasks: Vec<Task>) -> Result<(), Closed> {
        unimplemented!()
    }

    fn receive_tasks(&self, max: usize, wait: Duration) -> Result<Vec<Delivery<Task>>, Closed> {
        unimplemented!()
    }

    fn publish_results(&self, messages: Vec<FromNode>, safe: OnSafe) -> Result<(), Closed> {
        unimplemented!()
    }

    fn receive_results(&self, max_bytes: usize, wait: Duration) -> Result<Vec<Delivery<FromNode>>, Closed> {
        unimplemented!()
    }

    fn count_hand_overs(&self, tasks: &[Delivery<Task>]) -> Result<Vec<u32>, Closed> {
        unimplemented!()
    }

    fn close(&self) {
        unimplemented!()
    }
}
