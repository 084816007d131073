//! How many calls are open at a time, whatever they are: each costs memory before its service has seen it.
//!
//! One process has half of them at most, so that a client that leaks calls leaves the others theirs.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aof2_listen::Peer;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// Calls of all connections together.
const IN_ALL: usize = 4096;
/// Calls of one process.
const PER_PEER: usize = IN_ALL / 2;
/// Calls of one connection. A gRPC library waits where it has as many.
pub const MAX_CALLS_PER_CONNECTION: u32 = 512;
/// Counted by itself, so that a client whose calls leak is not unhealthy too.
const PROBE: &str = "/grpc.health.v1.Health/Check";

/// Rejects calls beyond the limits.
#[derive(Clone, Default)]
pub struct CallLimit {
    calls: Count,
    probes: Count,
}

#[derive(Clone, Default)]
struct Count(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    in_all: usize,
    of_peer: BTreeMap<Peer, usize>,
}

impl Count {
    fn admit(&self, peer: Peer) -> Result<Call, Status> {
        let mut open = self.0.lock();
        let of_peer = open.of_peer.get(&peer).copied().unwrap_or(0);
        let reached = if peer == Peer::Ourselves {
            // Whether the socket answers is its answer.
            None
        } else if of_peer >= PER_PEER {
            Some((of_peer, "by this client"))
        } else if open.in_all >= IN_ALL {
            Some((open.in_all, "on this node"))
        } else {
            None
        };
        if let Some((calls, whose)) = reached {
            return Err(Status::resource_exhausted(format!(
                "{calls} calls are open {whose} (the limit); end some of them and retry"
            )));
        }
        open.in_all += 1;
        *open.of_peer.entry(peer).or_default() += 1;
        Ok(Call {
            count: self.clone(),
            peer,
        })
    }
}

/// Counts until it is dropped.
struct Call {
    count: Count,
    peer: Peer,
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut open = self.count.0.lock();
        open.in_all -= 1;
        if let Some(count) = open.of_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.of_peer.remove(&self.peer);
            }
        }
    }
}

impl<S> Layer<S> for CallLimit {
    type Service = Limited<S>;

    fn layer(&self, service: S) -> Limited<S> {
        Limited {
            service,
            limit: self.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Limited<S> {
    service: S,
    limit: CallLimit,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer<S::Error> {
        let count = if request.uri().path() == PROBE {
            &self.limit.probes
        } else {
            &self.limit.calls
        };
        // Each connection says whose it is.
        let peer = request.extensions().get::<Peer>().copied();
        let call = match count.admit(peer.unwrap_or(Peer::Ourselves)) {
            Ok(call) => call,
            Err(refused) => return Box::pin(std::future::ready(Ok(refused.into_http()))),
        };
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Body::new(Counted { body, _call: call })))
        })
    }
}

/// The answer of an open call.
struct Counted {
    body: Body,
    _call: Call,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(process: i32) -> Peer {
        Peer::Process { user: 0, process }
    }

    #[test]
    fn a_client_that_leaks_calls_leaves_the_others_theirs() {
        let limit = Count::default();
        let mut leaked: Vec<Call> = (0..PER_PEER)
            .map(|_| limit.admit(client(1)).expect("room"))
            .collect();
        let refused = limit.admit(client(1)).err().expect("one too many");
        let why = "2048 calls are open by this client (the limit); end some of them and retry";
        assert_eq!(refused.message(), why);
        let others: Vec<Call> = (PER_PEER..IN_ALL)
            .map(|_| limit.admit(client(2)).expect("room"))
            .collect();
        let refused = limit.admit(client(3)).err().expect("one too many");
        let why = "4096 calls are open on this node (the limit); end some of them and retry";
        assert_eq!(refused.message(), why);
        drop(limit.admit(Peer::Ourselves).expect("always"));
        leaked.pop();
        drop(limit.admit(client(3)).expect("room again"));
        drop((leaked, others));
        assert!(limit.0.lock().of_peer.is_empty());
        assert_eq!(limit.0.lock().in_all, 0);
    }
}
