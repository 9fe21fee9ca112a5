//! How many may talk to the service at once. Without a bound, somebody without a token could open connections until the service has no
//! descriptors left for the ledgers of its jobs.

use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use axum::{Extension, Router};
use axum_server::accept::Accept;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at once; more are closed as they come. Half of what a process may have open where nobody raised that.
const MOST: usize = 512;

/// Lets a bounded number of connections through to `inner`.
#[derive(Clone)]
pub(super) struct Gate<A> {
    inner: A,
    places: Arc<Semaphore>,
}

impl<A> Gate<A> {
    pub(super) fn before(inner: A) -> Gate<A> {
        Gate { inner, places: Arc::new(Semaphore::new(MOST)) }
    }
}

/// What a connection holds as long as it is there. Only ever dropped.
#[derive(Clone)]
struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

type Accepting<T, S> = Pin<Box<dyn Future<Output = io::Result<(T, S)>> + Send>>;

impl<A> Accept<TcpStream, Router> for Gate<A>
where
    A: Accept<TcpStream, Router>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = A::Stream;
    type Service = A::Service;
    type Future = Accepting<A::Stream, A::Service>;

    fn accept(&self, stream: TcpStream, service: Router) -> Self::Future {
        let Ok(permit) = self.places.clone().try_acquire_owned() else {
            return Box::pin(ready(Err(io::Error::other("too many connections"))));
        };
        // The service of a connection lives as long as that does.
        Box::pin(self.inner.accept(stream, service.layer(Extension(Place { _permit: Arc::new(permit) }))))
    }
}
