//! The memory of all Append calls together: bytes count from when they arrive until the request that they are part of is answered.
//!
//! Where the common budget is used up, a call waits before it takes more, and HTTP/2 holds its client back. So that requests that
//! are half here cannot wait for each other for ever, one call at a time goes on without the budget, and a client that stops in the
//! middle of a request loses its call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// Of all requests that are not answered.
const BUDGET_BYTES: usize = 32 << 20;
const UNIT_BYTES: usize = 1 << 10;
/// How long the rest of a request may be waited for.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const APPEND: &str = "/aof2.v1.Log/Append";

/// The budget of a node. Clones share it.
#[derive(Clone)]
pub struct Intake {
    units: Arc<Semaphore>,
    /// The right to go on without it.
    beyond: Arc<Semaphore>,
    limit: Duration,
}

impl Default for Intake {
    fn default() -> Self {
        Intake {
            units: Arc::new(Semaphore::new(BUDGET_BYTES / UNIT_BYTES)),
            beyond: Arc::new(Semaphore::new(1)),
            limit: REQUEST_LIMIT,
        }
    }
}

/// What a request counts. Given back when it is dropped.
#[derive(Debug, Default)]
pub struct Held {
    bytes: usize,
    units: Option<OwnedSemaphorePermit>,
    beyond: Option<OwnedSemaphorePermit>,
}

/// What a call has received since its last complete request.
#[derive(Clone, Debug, Default)]
pub struct Account(Arc<Mutex<Held>>);

impl Account {
    /// The request is complete: what it counts goes with it.
    pub fn take(&self) -> Held {
        std::mem::take(&mut *self.0.lock())
    }

    /// Units that `bytes` more need.
    fn add(&self, bytes: usize) -> usize {
        let mut held = self.0.lock();
        held.bytes += bytes;
        if held.beyond.is_some() {
            return 0;
        }
        let units = held
            .units
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        held.bytes.div_ceil(UNIT_BYTES).saturating_sub(units)
    }

    fn is_empty(&self) -> bool {
        self.0.lock().bytes == 0
    }

    fn give(&self, granted: Granted) {
        let mut held = self.0.lock();
        match granted {
            Granted::Units(more) => match &mut held.units {
                Some(units) => units.merge(more),
                None => held.units = Some(more),
            },
            Granted::Beyond(beyond) => held.beyond = Some(beyond),
        }
    }
}

enum Granted {
    Units(OwnedSemaphorePermit),
    Beyond(OwnedSemaphorePermit),
}

impl Intake {
    /// Waits for units, or for the right to go on without. `None`: the budget is gone.
    async fn grant(self, units: u32) -> Option<Granted> {
        let units = std::pin::pin!(self.units.acquire_many_owned(units));
        let beyond = std::pin::pin!(self.beyond.acquire_owned());
        match select(units, beyond).await {
            Either::Left((units, _)) => Some(Granted::Units(units.ok()?)),
            Either::Right((beyond, _)) => Some(Granted::Beyond(beyond.ok()?)),
        }
    }
}

impl<S> Layer<S> for Intake {
    type Service = Counting<S>;

    fn layer(&self, service: S) -> Counting<S> {
        Counting {
            service,
            intake: self.clone(),
        }
    }
}

/// Counts what Append calls receive.
#[derive(Clone)]
pub struct Counting<S> {
    service: S,
    intake: Intake,
}

impl<S: Service<Request<Body>, Response = Response<Body>>> Service<Request<Body>> for Counting<S> {
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        if request.uri().path() != APPEND {
            return self.service.call(request);
        }
        let account = Account::default();
        let mut request = request.map(|body| {
            Body::new(Received {
                body,
                intake: self.intake.clone(),
                account: account.clone(),
                waiting: None,
                late: None,
            })
        });
        request.extensions_mut().insert(account);
        self.service.call(request)
    }
}

type Grant = Pin<Box<dyn Future<Output = Option<Granted>> + Send>>;

/// The body of an Append call.
struct Received {
    body: Body,
    intake: Intake,
    account: Account,
    /// A frame that is here, and what it waits for.
    waiting: Option<(Frame<Bytes>, Grant)>,
    /// Runs while a request is half here.
    late: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some((_, grant)) = &mut this.waiting {
            let granted = ready!(grant.as_mut().poll(context));
            if let Some(granted) = granted {
                this.account.give(granted);
            }
            let frame = this.waiting.take().map(|(frame, _)| Ok(frame));
            return Poll::Ready(frame);
        }
        let polled = Pin::new(&mut this.body).poll_frame(context);
        let Poll::Ready(polled) = polled else {
            if this.account.is_empty() {
                this.late = None;
                return Poll::Pending;
            }
            let limit = this.intake.limit;
            let late = this.late.get_or_insert_with(|| Box::pin(sleep(limit)));
            ready!(late.as_mut().poll(context));
            let why =
                format!("the rest of a request did not arrive within {limit:?}; send it again");
            return Poll::Ready(Some(Err(Status::deadline_exceeded(why))));
        };
        this.late = None;
        let frame = match polled {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => return Poll::Ready(Some(Err(status))),
            None => return Poll::Ready(None),
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let units = u32::try_from(this.account.add(bytes)).unwrap_or(u32::MAX);
        if units > 0 {
            match this.intake.units.clone().try_acquire_many_owned(units) {
                Ok(units) => this.account.give(Granted::Units(units)),
                Err(_) => {
                    let grant = Box::pin(this.intake.clone().grant(units));
                    this.waiting = Some((frame, grant));
                    return self.poll_frame(context);
                }
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
