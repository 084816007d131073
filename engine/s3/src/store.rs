//! The verbs of a store, each as a request of S3 and what its answer proves.

use std::future::Future;
use std::time::Instant;

use aof2_core::objects::bounds::too_large;
use aof2_core::objects::{
    Attempt, Listed, ListedPage, Object, ObjectError, ObjectMeta, ObjectStore, Page, PutOutcome,
    Refusal, Removal, Upload,
};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::head_object::{HeadObjectError, HeadObjectOutput};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, StorageClass};
use bytes::{Bytes, BytesMut};

use crate::body::Body;
use crate::classify::Answer;
use crate::meta::{CRC64, MD5, PUT_ID, digests_of, encode_crc64, hex, meta};
use crate::pace::Pace;
use crate::requests::Requests;
use crate::settings::{Checksum, OpenError, S3Settings};

pub struct S3Store {
    requests: Requests,
}

#[derive(Clone, Copy)]
enum Condition<'a> {
    None,
    Absent,
    Match(&'a str),
}

impl S3Store {
    /// Makes no request.
    pub fn open(settings: S3Settings) -> Result<S3Store, OpenError> {
        Ok(S3Store {
            requests: Requests::open(settings)?,
        })
    }

    fn put_once(
        &self,
        key: &str,
        upload: &Upload,
        condition: Condition<'_>,
    ) -> Result<PutOutcome, ObjectError> {
        let attempt = self.requests.attempt("put", key);
        let size_bytes = upload.size_bytes();
        let content_length = i64::try_from(size_bytes).map_err(|_| ObjectError::Refused {
            attempt: attempt.clone(),
            refusal: Refusal::Other,
            cause: format!("{size_bytes} bytes exceed the object size limit"),
        })?;
        let unreadable = |error: std::io::Error| ObjectError::Source {
            attempt: attempt.clone(),
            cause: error.to_string(),
        };
        let md5 = match self.requests.settings.checksum {
            Checksum::Md5 => {
                let (md5, crc) = digests_of(upload.source.as_ref()).map_err(unreadable)?;
                if crc != upload.crc64nvme {
                    return Err(ObjectError::Corrupt {
                        attempt,
                        cause: "local bytes do not match their checksum".into(),
                    });
                }
                Some(md5)
            }
            Checksum::Crc64Nvme | Checksum::None => None,
        };
        let body = Body::of(&upload.source).map_err(unreadable)?;
        let answered = self.requests.call(&attempt, size_bytes, |client, pace| {
            let mut request = client
                .put_object()
                .bucket(&self.requests.settings.bucket)
                .key(key)
                .metadata(PUT_ID, &upload.put_id)
                .content_length(content_length);
            match (self.requests.settings.checksum, md5) {
                (Checksum::Crc64Nvme, _) => {
                    request = request.checksum_crc64_nvme(encode_crc64(upload.crc64nvme));
                }
                (Checksum::Md5, Some(md5)) => {
                    request = request
                        .content_md5(aws_smithy_types::base64::encode(md5))
                        .metadata(MD5, hex(md5))
                        .metadata(CRC64, format!("{:016x}", upload.crc64nvme));
                }
                (Checksum::Md5 | Checksum::None, _) => {}
            }
            match condition {
                Condition::None => {}
                Condition::Absent => request = request.if_none_match("*"),
                Condition::Match(etag) => request = request.if_match(etag),
            }
            let body = body.clone();
            async move {
                let request = request.body(body.stream(pace));
                // The checksum covers the body; hashing it once more would cost as much as compressing it.
                request.customize().disable_payload_signing().send().await
            }
        })?;
        match answered {
            Ok(output) => Ok(PutOutcome::Created {
                etag: etag_of(&output),
            }),
            Err(no) if no.is_precondition_failed() => Ok(PutOutcome::PreconditionFailed),
            Err(no) if matches!(condition, Condition::Match(_)) && no.is_missing_key() => {
                Ok(PutOutcome::PreconditionFailed)
            }
            Err(no) => Err(no.into_error(attempt, self.requests.settings.checksum.header())),
        }
    }

    /// A body is part of the answer: one that breaks off is no answer.
    fn read(
        &self,
        key: &str,
        range: Option<String>,
        body_bytes: u64,
        max_bytes: u64,
    ) -> Result<Option<Object>, ObjectError> {
        let attempt = self.requests.attempt("get", key);
        let whole = range.is_none();
        let answered = self.requests.call(&attempt, body_bytes, |client, pace| {
            let mut request = client
                .get_object()
                .bucket(&self.requests.settings.bucket)
                .key(key)
                .set_range(range.clone());
            if whole {
                request = request.checksum_mode(ChecksumMode::Enabled);
            }
            async move {
                let output = request.send().await?;
                let meta = meta(
                    output.content_length(),
                    output.e_tag(),
                    output.checksum_crc64_nvme(),
                    output.metadata(),
                );
                if meta.size_bytes > max_bytes {
                    // Dropped here, the body is not read; the connection goes with it.
                    let size_bytes = Some(meta.size_bytes);
                    return Ok((meta, Err(Broken::TooLarge { size_bytes })));
                }
                Ok((meta, collect(output.body, max_bytes, &pace).await))
            }
        })?;
        let (meta, body) = match answered {
            Ok(answered) => answered,
            Err(no) if no.is_missing_key() => return Ok(None),
            Err(Answer::Service { status: 416, .. }) => {
                return Err(ObjectError::Corrupt {
                    attempt,
                    cause: "object ends before the range".into(),
                });
            }
            Err(no) if no.is_archived() => return Err(self.archived(attempt, no)),
            Err(no) => return Err(no.into_error(attempt, None)),
        };
        match body {
            Ok(bytes) => Ok(Some(Object { meta, bytes })),
            Err(Broken::TooLarge { size_bytes }) if whole => {
                Err(too_large(attempt, size_bytes, max_bytes))
            }
            Err(Broken::TooLarge { .. }) => Err(ObjectError::Corrupt {
                attempt,
                cause: format!("more came back than the range of {max_bytes} bytes"),
            }),
            Err(Broken::Transfer(error)) => Err(body_error(attempt, &*error)),
        }
    }

    /// Names the storage class: the answer to a GET has the refusal only.
    fn archived(&self, attempt: Attempt, no: Answer) -> ObjectError {
        let head = self.requests.call(&attempt, 0, |client, _| {
            self.head_request(client, &attempt.key)
        });
        let class = match head {
            Ok(Ok(output)) => output.storage_class().map(plain_class),
            Ok(Err(_)) | Err(_) => None,
        };
        let mut error = no.into_error(attempt, None);
        if let (ObjectError::Refused { cause, .. }, Some(class)) = (&mut error, class) {
            cause.push_str(", storage class ");
            cause.push_str(&class);
        }
        error
    }

    fn head_request(
        &self,
        client: Client,
        key: &str,
    ) -> impl Future<Output = Result<HeadObjectOutput, SdkError<HeadObjectError, HttpResponse>>> + use<>
    {
        client
            .head_object()
            .bucket(&self.requests.settings.bucket)
            .key(key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
    }

    /// The answer to a HEAD that was refused says not why; a GET of the first byte does.
    fn explained(&self, attempt: &Attempt, no: Answer) -> Result<Answer, ObjectError> {
        if !no.has_no_code() {
            return Ok(no);
        }
        let asked = self.requests.call(attempt, 0, |client, _| {
            client
                .get_object()
                .bucket(&self.requests.settings.bucket)
                .key(&attempt.key)
                .range("bytes=0-0")
                .send()
        })?;
        Ok(match asked {
            Err(why @ Answer::Service { .. }) if !why.has_no_code() && !why.is_missing_key() => why,
            Ok(_) | Err(_) => no,
        })
    }

    fn list_once(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        continuation: Option<&str>,
    ) -> Result<ListObjectsV2Output, ObjectError> {
        let attempt = self.requests.attempt("list", prefix);
        let answered = self.requests.call(&attempt, 0, |client, _| {
            let request = client
                .list_objects_v2()
                .bucket(&self.requests.settings.bucket)
                .prefix(prefix);
            match continuation {
                Some(token) => request.continuation_token(token),
                None => request.set_start_after(start_after.map(str::to_owned)),
            }
            .send()
        })?;
        let page = answered.map_err(|no| no.into_error(attempt, None))?;
        self.ensure_whole(prefix, &page)?;
        Ok(page)
    }

    /// A page that says how many keys it has and whether more follow, and has as many: an answer that broke off has not.
    fn ensure_whole(&self, prefix: &str, page: &ListObjectsV2Output) -> Result<(), ObjectError> {
        let keys = page.contents().len();
        let counted = page.key_count().and_then(|it| usize::try_from(it).ok());
        let problem = match (page.is_truncated(), counted) {
            (None, _) => "the listing does not say whether more keys follow".to_owned(),
            (Some(_), Some(counted)) if counted != keys => {
                format!("the listing has {keys} keys and says that it has {counted}")
            }
            (Some(_), Some(_) | None) => return Ok(()),
        };
        Err(ObjectError::Refused {
            attempt: self.requests.attempt("list", prefix),
            refusal: Refusal::Other,
            cause: problem,
        })
    }

    /// Where a listing goes on. `None`: that was all.
    fn continuation_of(
        &self,
        prefix: &str,
        page: &ListObjectsV2Output,
    ) -> Result<Option<String>, ObjectError> {
        if !page.is_truncated().unwrap_or(false) {
            return Ok(None);
        }
        match page.next_continuation_token() {
            Some(token) => Ok(Some(token.to_owned())),
            None => Err(ObjectError::Refused {
                attempt: self.requests.attempt("list", prefix),
                refusal: Refusal::Other,
                cause: "listing is truncated without a continuation token".into(),
            }),
        }
    }
}

enum Broken {
    TooLarge { size_bytes: Option<u64> },
    Transfer(Box<dyn std::error::Error + Send + Sync>),
}

/// The length that was announced is the store's word only.
async fn collect(mut body: ByteStream, max_bytes: u64, pace: &Pace) -> Result<Bytes, Broken> {
    let mut bytes = BytesMut::new();
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| Broken::Transfer(error.into()))?;
        pace.note(part.len() as u64, Instant::now());
        if (bytes.len() + part.len()) as u64 > max_bytes {
            return Err(Broken::TooLarge { size_bytes: None });
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

/// A server may send anything.
fn plain_class(class: &StorageClass) -> String {
    let letters = class.as_str().chars();
    let plain = letters.filter(|it| it.is_ascii_alphanumeric() || *it == '_');
    plain.take(64).collect()
}

fn keys_of(page: &ListObjectsV2Output) -> Vec<String> {
    let objects = page.contents().iter();
    objects
        .filter_map(|object| object.key().map(str::to_owned))
        .collect()
}

fn listed(object: &aws_sdk_s3::types::Object) -> Option<Listed> {
    let modified = object
        .last_modified()
        .and_then(|at| at.as_nanos().try_into().ok());
    Some(Listed {
        key: object.key()?.to_owned(),
        size_bytes: u64::try_from(object.size()?).ok()?,
        etag: object.e_tag()?.to_owned(),
        modified_unix_nanos: modified,
    })
}

/// Byte order is promised by S3, not by everything that speaks it.
fn in_order(mut keys: Vec<String>, start_after: Option<&str>) -> Vec<String> {
    keys.sort();
    keys.retain(|key| start_after.is_none_or(|after| key.as_str() > after));
    keys
}

impl ObjectStore for S3Store {
    fn place(&self) -> String {
        self.requests.place()
    }

    fn put_if_absent(&self, key: &str, upload: &Upload) -> Result<PutOutcome, ObjectError> {
        self.put_once(key, upload, Condition::Absent)
    }

    fn put_if_match(
        &self,
        key: &str,
        upload: &Upload,
        etag: &str,
    ) -> Result<PutOutcome, ObjectError> {
        self.put_once(key, upload, Condition::Match(etag))
    }

    fn put(&self, key: &str, upload: &Upload) -> Result<String, ObjectError> {
        match self.put_once(key, upload, Condition::None)? {
            PutOutcome::Created { etag } => Ok(etag),
            PutOutcome::PreconditionFailed => Err(ObjectError::Refused {
                attempt: self.requests.attempt("put", key),
                refusal: Refusal::Other,
                cause: "412 without a condition".into(),
            }),
        }
    }

    fn get_within(&self, key: &str, max_bytes: u64) -> Result<Option<Object>, ObjectError> {
        let Some(object) = self.read(key, None, 0, max_bytes)? else {
            return Ok(None);
        };
        let found = aof2_core::objects::crc64nvme(&object.bytes);
        let is_whole = object.meta.size_bytes == object.bytes.len() as u64;
        if !is_whole || object.meta.crc64nvme.is_some_and(|kept| kept != found) {
            let cause = format!(
                "{} bytes with checksum {found:016x}, the object store reports {:?}",
                object.bytes.len(),
                object.meta
            );
            return Err(ObjectError::Corrupt {
                attempt: self.requests.attempt("get", key),
                cause,
            });
        }
        Ok(Some(object))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectError> {
        let Some(last) = length
            .checked_sub(1)
            .and_then(|last| offset.checked_add(last))
        else {
            return Ok(self.head(key)?.map(|_| Bytes::new()));
        };
        let Some(object) =
            self.read(key, Some(format!("bytes={offset}-{last}")), length, length)?
        else {
            return Ok(None);
        };
        if object.bytes.len() as u64 != length {
            let cause = format!(
                "{} bytes came back for {offset}+{length}",
                object.bytes.len()
            );
            return Err(ObjectError::Corrupt {
                attempt: self.requests.attempt("get", key),
                cause,
            });
        }
        Ok(Some(object.bytes))
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        let attempt = self.requests.attempt("head", key);
        match self
            .requests
            .call(&attempt, 0, |client, _| self.head_request(client, key))?
        {
            Ok(output) => Ok(Some(meta(
                output.content_length(),
                output.e_tag(),
                output.checksum_crc64_nvme(),
                output.metadata(),
            ))),
            Err(no) if no.is_missing_key() => Ok(None),
            Err(no) => Err(self.explained(&attempt, no)?.into_error(attempt, None)),
        }
    }

    /// S3 names the class of every object but those in `STANDARD`.
    fn class(&self, key: &str) -> Result<Option<String>, ObjectError> {
        let attempt = self.requests.attempt("head", key);
        let head = |client, _| self.head_request(client, key);
        match self.requests.call(&attempt, 0, head)? {
            Ok(output) => {
                let named = output.storage_class().map(plain_class);
                Ok(Some(named.unwrap_or_else(|| "STANDARD".to_owned())))
            }
            Err(no) if no.is_missing_key() => Ok(None),
            Err(no) => Err(self.explained(&attempt, no)?.into_error(attempt, None)),
        }
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<String>, ObjectError> {
        let mut keys = Vec::new();
        let mut continuation: Option<String> = None;
        loop {
            let page = self.list_once(prefix, start_after, continuation.as_deref())?;
            keys.extend(keys_of(&page));
            continuation = self.continuation_of(prefix, &page)?;
            if continuation.is_none() {
                return Ok(in_order(keys, start_after));
            }
        }
    }

    fn list_page(&self, prefix: &str, start_after: Option<&str>) -> Result<Page, ObjectError> {
        let mut continuation: Option<String> = None;
        // An answer may hold no key and not be the last: a caller has nothing to go on from.
        loop {
            let page = self.list_once(prefix, start_after, continuation.as_deref())?;
            let keys = in_order(keys_of(&page), start_after);
            continuation = self.continuation_of(prefix, &page)?;
            let is_last = continuation.is_none();
            if is_last || !keys.is_empty() {
                return Ok(Page { keys, is_last });
            }
        }
    }

    fn list_objects(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<ListedPage, ObjectError> {
        let mut continuation: Option<String> = None;
        loop {
            let page = self.list_once(prefix, start_after, continuation.as_deref())?;
            continuation = self.continuation_of(prefix, &page)?;
            let is_last = continuation.is_none();
            let objects: Vec<Listed> = page.contents().iter().filter_map(listed).collect();
            if is_last || !objects.is_empty() {
                return Ok(ListedPage { objects, is_last });
            }
        }
    }

    fn delete(&self, key: &str) -> Result<Removal, ObjectError> {
        let attempt = self.requests.attempt("delete", key);
        let answered = self.requests.call(&attempt, 0, |client, _| {
            client
                .delete_object()
                .bucket(&self.requests.settings.bucket)
                .key(key)
                .send()
        })?;
        match answered {
            // A delete marker lies before the bytes, which stay until a rule of the bucket removes them.
            Ok(answer) if answer.delete_marker() == Some(true) => Ok(Removal::KeptAsVersion),
            Ok(_) => Ok(Removal::Removed),
            Err(no) if no.is_missing_key() => Ok(Removal::Missing),
            Err(no) => Err(no.into_error(attempt, None)),
        }
    }

    fn checks_what_it_receives(&self) -> bool {
        self.requests.settings.checksum != Checksum::None
    }

    fn stop(&self) {
        self.requests.stop();
    }
}

/// The SDK compares the body with the checksum that the store keeps; a difference is damage, anything else a broken connection.
fn body_error(attempt: Attempt, error: &(dyn std::error::Error + 'static)) -> ObjectError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.to_string().to_ascii_lowercase().contains("checksum") {
            return ObjectError::Corrupt {
                attempt,
                cause: "body does not match the stored checksum".into(),
            };
        }
        cause = error.source();
    }
    ObjectError::Unknown {
        attempt,
        cause: format!("body ended early: {error}"),
    }
}

fn etag_of(output: &PutObjectOutput) -> String {
    output.e_tag().unwrap_or_default().to_owned()
}
