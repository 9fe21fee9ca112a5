//! What coordinator and workers say to each other beside tasks and results, and what the things they use are called.
//!
//! A worker waits for a [`Ticket`] in its pool's queue, becomes a node of that job, and listens for [`Control`] meanwhile. Other services
//! ask for jobs with a [`JobRequest`] and hear of them in [`JobEvent`]s. `docs/design/fleet.md` is the whole picture.

pub mod config;
mod messages;
pub mod names;
mod shared_root;
pub mod wire;

pub use messages::{
    Command, Control, JobEvent, JobReply, JobRequest, JobSource, Ticket, WorkerId, WorkerState, WorkerStatus,
};
pub use shared_root::{Outside, SharedRoot};
