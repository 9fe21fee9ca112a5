//! What keeps strangers out and secrets in: TLS, credentials, a canary in each of them, and what somebody with access to the broker alone,
//! or to the service's port alone, can try. On real servers.

mod canary;
mod credentials;
#[allow(dead_code, reason = "each test binary uses its own part")]
#[path = "../fleet/world.rs"]
mod fleet;
mod http;
mod messages;
#[path = "../support/running.rs"]
mod running;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod world;

/// Returns its items at once.
const ECHO: &str = "def run(mini_batch):\n    return mini_batch\n";
