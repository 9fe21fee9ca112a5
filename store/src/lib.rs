//! The cloud: reads and writes objects at the addresses that jobs name ([`fanfold_shared::uri`]).
//!
//! It stands between the worker and `fanfold-shared`. Outside of it there are blocking calls and errors of ours: asynchronous code, the
//! library that speaks to the clouds, and secrets stay inside. A secret leaves this crate in a request only: `Debug`, errors and everything
//! that is shown are without ([`datastores`]).
//!
//! Start at [`Stores::open`]: it looks up the credentials for an address and gives a [`Client`] for the place and what lies there.

pub mod datastores;
mod error;
mod object;

#[cfg(feature = "cloud")]
mod client;
#[cfg(feature = "cloud")]
mod connect;
#[cfg(feature = "cloud")]
mod download;
#[cfg(feature = "cloud")]
mod listing;
#[cfg(feature = "cloud")]
mod patience;
#[cfg(feature = "cloud")]
mod put;
#[cfg(feature = "cloud")]
mod stores;
#[cfg(feature = "cloud")]
mod upload;
#[cfg(feature = "cloud")]
mod why;

#[cfg(not(feature = "cloud"))]
mod without;

pub use datastores::Datastores;
pub use error::{StoreError, Why, asked};
pub use object::{Next, Object, Over, Seen, Version};

#[cfg(feature = "cloud")]
pub use {
    client::Client,
    download::Download,
    put::{Parts, PutError},
    stores::Stores,
    upload::Upload,
};

#[cfg(not(feature = "cloud"))]
pub use without::{Client, Download, Parts, PutError, Stores, Upload};
