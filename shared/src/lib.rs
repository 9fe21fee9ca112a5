//! What coordinator and worker must agree on: ids, the job, messages, the backend between them, the items and their
//! split, the paths of a job directory, errors and exit codes.
//!
//! It stands at both ends of the flow and knows neither. Start at [`job`], then [`message`] and [`backend`].

pub mod backend;
pub mod clock;
pub mod durable;
pub mod failpoint;
pub mod fleet;
pub mod footer;
pub mod ids;
pub mod interval;
pub mod items;
pub mod job;
pub mod layout;
pub mod message;
pub mod partition;
pub mod report;
pub mod split;
pub mod state;
pub mod text;
pub mod uri;
