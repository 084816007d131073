//! Lists in pages, for who asks for them ([`path::PAGE_BYTES`]): an operator reads no large answer of anybody.

use aof2_admin_api::path::NEXT_HEADER;
use aof2_admin_api::{SnapshotReport, StreamReport};
use axum::Json;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::error::ApiError;

/// Damaged ranges of a stream in a page; a list without pages has all.
const MAX_RANGES: usize = 16;
/// Of a text for people in a page, in bytes.
const MAX_TEXT: usize = 1024;

#[derive(Debug, Default, Deserialize)]
pub struct PageQuery {
    page_bytes: Option<usize>,
    after: Option<String>,
}

/// Of an index.
pub struct IndexPart {
    pub from: u64,
    pub bytes: usize,
}

/// What a page is made of.
pub trait Entry: Serialize {
    fn stream(&self) -> &str;

    /// No entry is too large for a page.
    fn shorten(&mut self);
}

impl Entry for StreamReport {
    fn stream(&self) -> &str {
        &self.name
    }

    fn shorten(&mut self) {
        self.damaged_ranges.truncate(MAX_RANGES);
        let ranges = self.damaged_ranges.iter_mut();
        let texts = ranges.flat_map(|range| [&mut range.what, &mut range.remedy]);
        texts.chain(self.damage.as_mut()).for_each(cut);
    }
}

impl Entry for SnapshotReport {
    fn stream(&self) -> &str {
        &self.stream
    }

    fn shorten(&mut self) {
        self.message.iter_mut().for_each(cut);
    }
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
}

impl PageQuery {
    /// Everything, or a page of it.
    pub fn of<T: Entry>(self, mut entries: Vec<T>) -> Response {
        let PageQuery { page_bytes, after } = self;
        let Some(page_bytes) = page_bytes else {
            return Json(entries).into_response();
        };
        // Stable, so that what a stream has stays in its order.
        entries.sort_by(|one, other| one.stream().cmp(other.stream()));
        let after = after.unwrap_or_default();
        let behind = entries.partition_point(|entry| entry.stream() <= after.as_str());
        let mut page = String::from("[");
        let mut last = "";
        let mut rest = entries.split_off(behind);
        rest.iter_mut().for_each(Entry::shorten);
        let mut is_last = true;
        for of_stream in rest.chunk_by(|one, other| one.stream() == other.stream()) {
            let texts = of_stream.iter().map(serde_json::to_string);
            let Ok(texts) = texts.collect::<Result<Vec<_>, _>>() else {
                return ApiError::internal("a list cannot be written".to_owned()).into_response();
            };
            let text = texts.join(",");
            if !last.is_empty() && page.len() + text.len() + 2 > page_bytes {
                is_last = false;
                break;
            }
            if !last.is_empty() {
                page.push(',');
            }
            page.push_str(&text);
            last = of_stream.first().map_or("", Entry::stream);
        }
        page.push(']');
        let next = if is_last { "" } else { last };
        let headers = [
            (CONTENT_TYPE, "application/json".to_owned()),
            (HeaderName::from_static(NEXT_HEADER), next.to_owned()),
        ];
        (headers, page).into_response()
    }

    /// `None`: everything.
    pub fn part(self) -> Result<Option<IndexPart>, ApiError> {
        let PageQuery { page_bytes, after } = self;
        let Some(bytes) = page_bytes else {
            return Ok(None);
        };
        let after = after.unwrap_or_else(|| "0".to_owned());
        match after.parse() {
            Ok(from) if bytes > 0 => Ok(Some(IndexPart { from, bytes })),
            _ => Err(ApiError::bad_request(format!(
                "page of {bytes} bytes after {after:?} of an index is invalid; ask with page_bytes of at least 1 and the value of header {NEXT_HEADER}"
            ))),
        }
    }
}
