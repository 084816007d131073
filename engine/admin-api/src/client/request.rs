//! One request and its answer.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::connect::connect;
use super::{Client, ClientError};
use crate::{ErrorBody, ErrorReason, path};

#[derive(Clone)]
pub(super) struct Request {
    method: Method,
    path_and_query: String,
    body: String,
}

impl Request {
    pub(super) fn get(path: &str) -> Self {
        Self::of(Method::GET, path)
    }

    pub(super) fn post(path: &str) -> Self {
        Self::of(Method::POST, path)
    }

    pub(super) fn put(path: &str) -> Self {
        Self::of(Method::PUT, path)
    }

    fn of(method: Method, path: &str) -> Self {
        Request {
            method,
            path_and_query: path.to_string(),
            body: String::new(),
        }
    }

    pub(super) fn with(mut self, parameter: Option<String>) -> Self {
        if let Some(parameter) = parameter {
            self.path_and_query
                .push(if self.path_and_query.contains('?') {
                    '&'
                } else {
                    '?'
                });
            self.path_and_query.push_str(&parameter);
        }
        self
    }

    pub(super) fn body(mut self, text: &str) -> Self {
        self.body = text.to_string();
        self
    }

    pub(super) fn verb(&self) -> String {
        format!("{} {}", self.method, self.path_and_query)
    }
}

/// `name=value`, percent-encoded; nothing where there is no value.
pub(super) fn query(name: &str, value: Option<&str>) -> Option<String> {
    let mut parameter = format!("{name}=");
    for byte in value?.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            parameter.push(char::from(byte));
        } else {
            parameter.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(parameter)
}

/// A good answer.
pub(super) struct Exchanged {
    pub body: Bytes,
    /// Of a page.
    pub next: Option<String>,
    /// Of the engine's time.
    pub spent: Duration,
    /// Its part of the budget, until it was decoded.
    pub _room: Option<OwnedSemaphorePermit>,
}

impl Client {
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<T, ClientError> {
        let verb = request.verb();
        let answer = self.exchange(request, None, self.timeout).await?;
        serde_json::from_slice(&answer.body).map_err(|error| self.decode(verb, error.to_string()))
    }

    pub(super) async fn text(&self, request: Request) -> Result<String, ClientError> {
        let verb = request.verb();
        let answer = self.exchange(request, None, self.timeout).await?;
        String::from_utf8(answer.body.into()).map_err(|error| self.decode(verb, error.to_string()))
    }

    /// Of the budget, for an answer of this many bytes.
    pub(super) async fn room(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        let budget = self.budget.clone()?;
        budget.acquire_many_owned(bytes).await.ok()
    }

    /// What is left of the engine's time is `left`.
    async fn in_time<T>(
        &self,
        verb: &str,
        left: Duration,
        part: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        timeout(left, part).await.unwrap_or_else(|_| {
            Err(ClientError::Timeout {
                target: self.target.to_string(),
                verb: verb.to_owned(),
                timeout: self.timeout,
            })
        })
    }

    pub(super) fn too_large(&self, verb: &str, limit: u32) -> ClientError {
        ClientError::TooLarge {
            target: self.target.to_string(),
            verb: verb.to_owned(),
            limit,
        }
    }

    pub(super) fn decode(&self, verb: String, message: String) -> ClientError {
        ClientError::Decode {
            target: self.target.to_string(),
            verb,
            message,
        }
    }

    /// An engine that is slow to answer holds nothing of the budget, and waiting for room does not count as the engine's time. An answer that says
    /// that it is a page has at most `page_bytes`.
    pub(super) async fn exchange(
        &self,
        request: Request,
        page_bytes: Option<u32>,
        time: Duration,
    ) -> Result<Exchanged, ClientError> {
        let verb = request.verb();
        let began = Instant::now();
        let broken = |error: &dyn std::error::Error| ClientError::Broken {
            target: self.target.to_string(),
            verb: verb.clone(),
            message: chain(error),
        };
        let mut http = http::Request::builder()
            .method(request.method)
            .uri(request.path_and_query)
            .header(header::HOST, "engine")
            .header(header::CONNECTION, "close");
        if let Some(epoch) = self.operator_epoch {
            http = http.header(path::OPERATOR_EPOCH_HEADER, epoch);
        }
        let http = http
            .body(Full::new(Bytes::from(request.body)))
            .map_err(|error| self.decode(verb.clone(), error.to_string()))?;

        let io = self.in_time(&verb, time, connect(&self.target)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .map_err(|error| broken(&error))?;
        // Driven in this task: the connection cannot outlive the request.
        let exchange = async {
            let left = time.saturating_sub(began.elapsed());
            let answered = async {
                let answered = sender.send_request(http).await;
                answered.map_err(|error| self.interrupted(&verb, error))
            };
            let answer = self.in_time(&verb, left, answered).await?;
            let left = time.saturating_sub(began.elapsed());
            let status = answer.status();
            let next = answer.headers().get(path::NEXT_HEADER);
            let next = next.map(|next| String::from_utf8_lossy(next.as_bytes()).into_owned());
            let limit = page_bytes
                .filter(|_| next.is_some())
                .map_or(self.max_answer_bytes, |page| {
                    page.min(self.max_answer_bytes)
                });
            // An answer without a length may be as long as it wants.
            let bytes = match answer.body().size_hint().exact() {
                None => limit,
                Some(bytes) => u32::try_from(bytes)
                    .ok()
                    .filter(|bytes| *bytes <= limit)
                    .ok_or_else(|| self.too_large(&verb, limit))?,
            };
            let asked = Instant::now();
            let room = self.room(bytes).await;
            let waited = asked.elapsed();
            let read = async {
                let body = Limited::new(answer.into_body(), limit as usize)
                    .collect()
                    .await;
                body.map_err(|error| match error.is::<LengthLimitError>() {
                    true => self.too_large(&verb, limit),
                    false => broken(error.as_ref()),
                })
            };
            let body = self.in_time(&verb, left, read).await?.to_bytes();
            Ok::<_, ClientError>((status, body, next, room, waited))
        };
        let (status, body, next, room, waited) = {
            tokio::pin!(exchange, connection);
            let mut is_connected = true;
            loop {
                tokio::select! {
                    biased;
                    answer = &mut exchange => break answer?,
                    _ = &mut connection, if is_connected => is_connected = false,
                }
            }
        };
        if status.is_success() {
            Ok(Exchanged {
                body,
                next,
                spent: began.elapsed().saturating_sub(waited),
                _room: room,
            })
        } else {
            Err(self.refused(verb, status, &body))
        }
    }

    /// With TLS 1.3 a server's refusal of the client's certificate arrives only after the handshake, as an alert in the place of
    /// the answer.
    fn interrupted(&self, verb: &str, error: hyper::Error) -> ClientError {
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(current) = cause {
            if let Some(io) = current.downcast_ref::<std::io::Error>()
                && io
                    .get_ref()
                    .is_some_and(|inner| inner.is::<rustls::Error>())
            {
                let source = std::io::Error::new(io.kind(), io.to_string());
                return ClientError::Tls {
                    target: self.target.to_string(),
                    source,
                };
            }
            cause = current.source();
        }
        ClientError::Broken {
            target: self.target.to_string(),
            verb: verb.to_string(),
            message: chain(&error),
        }
    }

    fn refused(&self, verb: String, status: StatusCode, body: &[u8]) -> ClientError {
        let body = serde_json::from_slice(body).unwrap_or_else(|_| ErrorBody {
            reason: ErrorReason::default(),
            message: String::from_utf8_lossy(body).into_owned(),
        });
        ClientError::Refused {
            target: self.target.to_string(),
            verb,
            status: status.as_u16(),
            body,
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        text.push_str(": ");
        text.push_str(&current.to_string());
        cause = current.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(
            query("stream", Some("a b&c/ü")).as_deref(),
            Some("stream=a%20b%26c%2F%C3%BC")
        );
        assert_eq!(query("stream", None), None);
        let request = Request::get("/x")
            .with(query("a", Some("1")))
            .with(query("b", None))
            .with(query("c", Some("2")));
        assert_eq!(request.path_and_query, "/x?a=1&c=2");
    }
}
