//! Lists, page by page: no answer is larger than a page, and an engine that never comes to an end is left.
//!
//! Versions skew during a rollout. An engine that knows no pages ignores the parameters and answers the whole list, without
//! [`path::NEXT_HEADER`]; that is taken up to the limit of a whole answer. A client that asks for no pages gets the whole list of every engine.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::request::{Exchanged, Request, query};
use super::{Client, ClientError};
use crate::snapshot::{SnapshotIndex, SnapshotReport};
use crate::{StreamReport, bounded, path};

/// Entries of a list are asked and answered in the order of these.
pub(super) trait Named {
    fn name(&self) -> &str;
}

impl Named for StreamReport {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for SnapshotReport {
    fn name(&self) -> &str {
        &self.stream
    }
}

/// What a whole list may come to.
struct Sum<'a> {
    client: &'a Client,
    verb: String,
    left: Duration,
    bytes: usize,
}

impl<'a> Sum<'a> {
    fn new(client: &'a Client, request: &Request) -> Self {
        Sum {
            client,
            verb: request.verb(),
            left: client.timeout,
            bytes: 0,
        }
    }

    /// The page behind `after`. All pages together have the time and the size of one answer.
    async fn page(
        &mut self,
        request: &Request,
        page_bytes: u32,
        after: &str,
    ) -> Result<Exchanged, ClientError> {
        let limit = page_bytes.to_string();
        let page = request
            .clone()
            .with(query(path::PAGE_BYTES, Some(&limit)))
            .with(query(path::AFTER, Some(after).filter(|it| !it.is_empty())));
        let answer = self.client.exchange(page, Some(page_bytes), self.left);
        let answer = answer.await?;
        self.left = self.left.saturating_sub(answer.spent);
        self.bytes += answer.body.len();
        if self.bytes > self.client.max_answer_bytes as usize {
            return Err(self
                .client
                .too_large(&self.verb, self.client.max_answer_bytes));
        }
        Ok(answer)
    }

    fn invalid(&self, message: &str) -> ClientError {
        self.client.decode(self.verb.clone(), message.to_owned())
    }
}

impl Client {
    /// In the order of names where it comes in pages.
    pub(super) async fn list<T: DeserializeOwned + Named>(
        &self,
        request: Request,
    ) -> Result<Vec<T>, ClientError> {
        let Some(page_bytes) = self.page_bytes else {
            return self.json(request).await;
        };
        let mut sum = Sum::new(self, &request);
        let mut all: Vec<T> = Vec::new();
        loop {
            let after = all.last().map_or("", Named::name).to_owned();
            let Exchanged {
                body, next, _room, ..
            } = sum.page(&request, page_bytes, &after).await?;
            let room = bounded::MAX_ENTRIES.saturating_sub(all.len());
            let entries = bounded::entries::<T>(&body, room);
            let entries = entries.map_err(|error| sum.invalid(&error.to_string()))?;
            let Some(next) = next else {
                // It knows no pages, and would answer the same again.
                return match all.is_empty() {
                    true => Ok(entries),
                    false => Err(sum.invalid("a page does not say whether another one follows")),
                };
            };
            let is_ordered = entries.is_sorted_by(|one, other| one.name() <= other.name());
            let is_behind = entries
                .first()
                .is_none_or(|first| first.name() > after.as_str());
            if !is_ordered || !is_behind {
                return Err(sum.invalid("a page has entries out of their order, or once more"));
            }
            all.extend(entries);
            if next.is_empty() {
                return Ok(all);
            }
            let last = all.last().map_or("", Named::name);
            if next != last || last == after {
                return Err(sum.invalid("the next page begins elsewhere than this one ends"));
            }
        }
    }

    /// The bytes of an index, one part after the other.
    pub(super) async fn index(&self, request: Request) -> Result<SnapshotIndex, ClientError> {
        let Some(page_bytes) = self.page_bytes else {
            return self.json(request).await;
        };
        // What is kept until the last part has its room once, and the parts none: two readers that each hold half would wait for each other.
        let parts = Client {
            budget: None,
            ..self.clone()
        };
        let mut sum = Sum::new(self, &request);
        let mut whole = Vec::new();
        let mut _room = None;
        loop {
            let after = match whole.len() {
                0 => String::new(),
                bytes => bytes.to_string(),
            };
            let answer = sum.page(&request, page_bytes, &after).await?;
            let Exchanged {
                body,
                next,
                _room: of_part,
                ..
            } = answer;
            whole.extend_from_slice(&body);
            let end = whole.len().to_string();
            match next.as_deref() {
                None if !after.is_empty() => {
                    return Err(sum.invalid("a page does not say whether another one follows"));
                }
                None | Some("") => break,
                Some(next) if next == end && !body.is_empty() => {
                    drop(of_part);
                    if after.is_empty() {
                        _room = self.room(self.max_answer_bytes).await;
                        sum.client = &parts;
                    }
                }
                Some(_) => {
                    return Err(sum.invalid("the next page begins elsewhere than this one ends"));
                }
            }
        }
        serde_json::from_slice(&whole).map_err(|error| sum.invalid(&error.to_string()))
    }
}
