//! Env.
