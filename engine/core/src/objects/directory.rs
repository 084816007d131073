//! Tier 2 in a folder: one file per object, for local use and tests.
//!
//! Its files are not the store's own, so they do not pass the `Disk` seam, which has neither `link` nor exclusive locks and
//! whose failures poison the store; a failure here is an answer of Tier 2. Creation is exclusive by `link(2)` of a complete,
//! synced file; a reader sees all of an object or nothing.
//!
//! | bytes of a file   | content                                    |
//! | ----------------- | ------------------------------------------ |
//! | all but the last 64 | the object                               |
//! | 8                 | magic `AOF2OBJ1`                           |
//! | 8                 | CRC-64/NVME of the object, little endian   |
//! | 48                | put-id, filled up with zeroes              |

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use aof2_format::checksum::{Crc64Nvme, crc64nvme};
use bytes::Bytes;

use super::bounds::too_large;
use super::{
    Attempt, Listed, ListedPage, Object, ObjectError, ObjectMeta, ObjectStore, Page, PutOutcome,
    Refusal, Removal, Upload,
};

const MAGIC: &[u8; 8] = b"AOF2OBJ1";
const TRAILER_BYTES: usize = 64;
const PUT_ID_BYTES: usize = 48;

pub struct DirectoryStore {
    root: PathBuf,
    next_temporary: AtomicU64,
}

impl DirectoryStore {
    /// A folder beside the objects, and no key: keys do not begin with a dot.
    pub const PRIVATE: &str = ".aof2";

    /// Makes the folder if it is not there; its parent must be.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<DirectoryStore> {
        let root = root.into();
        fs::create_dir_all(root.join(DirectoryStore::PRIVATE))?;
        Ok(DirectoryStore {
            root,
            next_temporary: AtomicU64::new(0),
        })
    }

    fn attempt(&self, verb: &'static str, key: &str) -> Attempt {
        Attempt {
            verb,
            key: key.to_owned(),
            place: self.place(),
        }
    }

    fn path(&self, verb: &'static str, key: &str) -> Result<PathBuf, ObjectError> {
        let is_plain = |segment: &str| {
            !segment.is_empty() && !segment.starts_with('.') && segment.len() <= 255
        };
        if !key.split('/').all(is_plain) {
            let cause = "key parts must have 1 to 255 bytes and not begin with a dot".into();
            return Err(ObjectError::Refused {
                attempt: self.attempt(verb, key),
                refusal: Refusal::Other,
                cause,
            });
        }
        Ok(self.root.join(key))
    }

    /// Conditional replacement needs one writer at a time, over processes.
    fn lock(&self, attempt: &Attempt) -> Result<File, ObjectError> {
        let open = || {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(self.root.join(DirectoryStore::PRIVATE).join("lock"))?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(|error| failed(attempt, error))
    }

    /// A complete, synced file that nobody sees yet.
    fn stage(&self, attempt: &Attempt, upload: &Upload) -> Result<PathBuf, ObjectError> {
        // Another's file is neither written nor removed. A process number names nobody: in containers that share the folder every
        // engine is process 1.
        let (path, file) = loop {
            let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
            let path = self
                .root
                .join(DirectoryStore::PRIVATE)
                .join(format!("{number}.tmp"));
            match File::create_new(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(attempt, error)),
            }
        };
        match self.write_staged(file, attempt, upload) {
            Ok(()) => Ok(path),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn write_staged(
        &self,
        mut file: File,
        attempt: &Attempt,
        upload: &Upload,
    ) -> Result<(), ObjectError> {
        const PIECE_BYTES: u64 = 1 << 20;
        if upload.put_id.len() > PUT_ID_BYTES {
            let cause = format!(
                "put-id of {} bytes exceeds the limit of {PUT_ID_BYTES}",
                upload.put_id.len()
            );
            return Err(ObjectError::Refused {
                attempt: attempt.clone(),
                refusal: Refusal::Other,
                cause,
            });
        }
        let write = |error| failed(attempt, error);
        let mut digest = Crc64Nvme::default();
        let size_bytes = upload.size_bytes();
        let mut piece = vec![0; PIECE_BYTES.min(size_bytes) as usize];
        let mut offset = 0;
        while offset < size_bytes {
            let part = &mut piece[..PIECE_BYTES.min(size_bytes - offset) as usize];
            upload
                .source
                .read_at(offset, part)
                .map_err(|error| ObjectError::Source {
                    attempt: attempt.clone(),
                    cause: error.to_string(),
                })?;
            digest.update(part);
            file.write_all(part).map_err(write)?;
            offset += part.len() as u64;
        }
        if digest.finish() != upload.crc64nvme {
            let cause = "body does not match the checksum sent".into();
            return Err(ObjectError::Corrupt {
                attempt: attempt.clone(),
                cause,
            });
        }
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend_from_slice(MAGIC);
        trailer.extend_from_slice(&upload.crc64nvme.to_le_bytes());
        trailer.extend_from_slice(upload.put_id.as_bytes());
        trailer.resize(TRAILER_BYTES, 0);
        file.write_all(&trailer).map_err(write)?;
        file.sync_all().map_err(write)
    }

    fn sync_parent(path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Moves a staged file to its key, over what is there.
    fn replace(
        &self,
        attempt: &Attempt,
        path: &Path,
        upload: &Upload,
    ) -> Result<String, ObjectError> {
        let staged = self.stage(attempt, upload)?;
        // Where it was renamed, the name of the staged file is free, and perhaps another's.
        if let Err(error) = make_parent(path).and_then(|()| fs::rename(&staged, path)) {
            let _ = fs::remove_file(&staged);
            return Err(failed(attempt, error));
        }
        Self::sync_parent(path).map_err(|error| failed(attempt, error))?;
        Ok(etag_of(upload.crc64nvme, &upload.put_id))
    }

    fn open_object(
        &self,
        attempt: &Attempt,
        path: &Path,
    ) -> Result<Option<(File, ObjectMeta)>, ObjectError> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(failed(attempt, error)),
        };
        let corrupt = |cause: &str| ObjectError::Corrupt {
            attempt: attempt.clone(),
            cause: cause.to_owned(),
        };
        let metadata = file.metadata().map_err(|error| failed(attempt, error))?;
        if metadata.is_dir() {
            return Ok(None);
        }
        let Some(size_bytes) = metadata.len().checked_sub(TRAILER_BYTES as u64) else {
            return Err(corrupt("file is shorter than its trailer"));
        };
        let mut trailer = [0; TRAILER_BYTES];
        let read = file
            .seek(SeekFrom::Start(size_bytes))
            .and_then(|_| file.read_exact(&mut trailer));
        read.map_err(|error| failed(attempt, error))?;
        let (magic, rest) = trailer.split_at(8);
        let (crc, put_id) = rest.split_at(8);
        if magic != MAGIC {
            return Err(corrupt("file has no trailer"));
        }
        let crc = u64::from_le_bytes(crc.try_into().map_err(|_| corrupt("trailer is cut off"))?);
        let put_id = String::from_utf8_lossy(put_id)
            .trim_end_matches('\0')
            .to_owned();
        let etag = etag_of(crc, &put_id);
        Ok(Some((
            file,
            ObjectMeta {
                size_bytes,
                etag,
                crc64nvme: Some(crc),
                put_id: Some(put_id),
            },
        )))
    }

    fn collect(
        &self,
        directory: &Path,
        key: &str,
        prefix: &str,
        keys: &mut Vec<String>,
    ) -> io::Result<()> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let entry_key = format!("{key}{name}");
            if entry.file_type()?.is_dir() {
                let below = format!("{entry_key}/");
                if below.starts_with(prefix) || prefix.starts_with(&below) {
                    self.collect(&entry.path(), &below, prefix, keys)?;
                }
            } else if entry_key.starts_with(prefix) {
                keys.push(entry_key);
            }
        }
        Ok(())
    }
}

impl ObjectStore for DirectoryStore {
    fn place(&self) -> String {
        format!("directory {}", self.root.display())
    }

    fn put_if_absent(&self, key: &str, upload: &Upload) -> Result<PutOutcome, ObjectError> {
        let path = self.path("put", key)?;
        let attempt = self.attempt("put", key);
        let staged = self.stage(&attempt, upload)?;
        let linked = make_parent(&path).and_then(|()| fs::hard_link(&staged, &path));
        let _ = fs::remove_file(&staged);
        match linked {
            Ok(()) => {
                Self::sync_parent(&path).map_err(|error| failed(&attempt, error))?;
                Ok(PutOutcome::Created {
                    etag: etag_of(upload.crc64nvme, &upload.put_id),
                })
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(PutOutcome::PreconditionFailed)
            }
            Err(error) => Err(failed(&attempt, error)),
        }
    }

    fn put_if_match(
        &self,
        key: &str,
        upload: &Upload,
        etag: &str,
    ) -> Result<PutOutcome, ObjectError> {
        let path = self.path("put", key)?;
        let attempt = self.attempt("put", key);
        let _one_writer = self.lock(&attempt)?;
        match self.open_object(&attempt, &path)? {
            Some((_, meta)) if meta.etag == etag => Ok(PutOutcome::Created {
                etag: self.replace(&attempt, &path, upload)?,
            }),
            Some(_) | None => Ok(PutOutcome::PreconditionFailed),
        }
    }

    fn put(&self, key: &str, upload: &Upload) -> Result<String, ObjectError> {
        let path = self.path("put", key)?;
        let attempt = self.attempt("put", key);
        let _one_writer = self.lock(&attempt)?;
        self.replace(&attempt, &path, upload)
    }

    fn get_within(&self, key: &str, max_bytes: u64) -> Result<Option<Object>, ObjectError> {
        let attempt = self.attempt("get", key);
        let Some((file, meta)) = self.open_object(&attempt, &self.path("get", key)?)? else {
            return Ok(None);
        };
        if meta.size_bytes > max_bytes {
            return Err(too_large(attempt, Some(meta.size_bytes), max_bytes));
        }
        let mut bytes = vec![0; meta.size_bytes as usize];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|error| failed(&attempt, error))?;
        if meta.crc64nvme != Some(crc64nvme(&bytes)) {
            return Err(ObjectError::Corrupt {
                attempt,
                cause: "body does not match its checksum".into(),
            });
        }
        Ok(Some(Object {
            meta,
            bytes: bytes.into(),
        }))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectError> {
        let attempt = self.attempt("get", key);
        let Some((file, meta)) = self.open_object(&attempt, &self.path("get", key)?)? else {
            return Ok(None);
        };
        if offset
            .checked_add(length)
            .is_none_or(|end| end > meta.size_bytes)
        {
            let cause = format!("range {offset}+{length} of {} bytes", meta.size_bytes);
            return Err(ObjectError::Corrupt { attempt, cause });
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset)
            .map_err(|error| failed(&attempt, error))?;
        Ok(Some(bytes.into()))
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        let attempt = self.attempt("head", key);
        Ok(self
            .open_object(&attempt, &self.path("head", key)?)?
            .map(|(_, meta)| meta))
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<String>, ObjectError> {
        let mut keys = Vec::new();
        self.collect(&self.root, "", prefix, &mut keys)
            .map_err(|error| failed(&self.attempt("list", prefix), error))?;
        keys.retain(|key| start_after.is_none_or(|after| key.as_str() > after));
        keys.sort();
        Ok(keys)
    }

    fn list_page(&self, prefix: &str, start_after: Option<&str>) -> Result<Page, ObjectError> {
        Ok(page_of(self.list(prefix, start_after)?))
    }

    fn list_objects(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<ListedPage, ObjectError> {
        let Page { keys, is_last } = self.list_page(prefix, start_after)?;
        let attempt = self.attempt("list", prefix);
        let mut objects = Vec::with_capacity(keys.len());
        for key in keys {
            // Gone since it was listed.
            let Some((file, meta)) = self.open_object(&attempt, &self.path("list", &key)?)? else {
                continue;
            };
            let modified = file.metadata().and_then(|metadata| metadata.modified());
            let modified = modified.map_err(|error| failed(&attempt, error))?;
            let since = modified.duration_since(std::time::UNIX_EPOCH).ok();
            objects.push(Listed {
                key,
                size_bytes: meta.size_bytes,
                etag: meta.etag,
                modified_unix_nanos: since.and_then(|since| i64::try_from(since.as_nanos()).ok()),
            });
        }
        Ok(ListedPage { objects, is_last })
    }

    fn delete(&self, key: &str) -> Result<Removal, ObjectError> {
        let path = self.path("delete", key)?;
        match fs::remove_file(&path).and_then(|()| Self::sync_parent(&path)) {
            Ok(()) => Ok(Removal::Removed),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Removal::Missing),
            Err(error) => Err(failed(&self.attempt("delete", key), error)),
        }
    }
}

/// Keys that one answer of S3 holds.
pub(super) const PAGE_KEYS: usize = 1_000;

pub(super) fn page_of(mut keys: Vec<String>) -> Page {
    let is_last = keys.len() <= PAGE_KEYS;
    keys.truncate(PAGE_KEYS);
    Page { keys, is_last }
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn etag_of(crc: u64, put_id: &str) -> String {
    format!("\"{crc:016x}-{put_id}\"")
}

/// A folder that is gone is a missing bucket; what the disk did with a failed write is not known.
fn failed(attempt: &Attempt, error: io::Error) -> ObjectError {
    let attempt = attempt.clone();
    match error.kind() {
        ErrorKind::NotFound => ObjectError::BucketMissing { attempt },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => ObjectError::AccessDenied {
            attempt,
            cause: error.to_string(),
        },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ObjectError::Refused {
            attempt,
            refusal: Refusal::QuotaExceeded,
            cause: error.to_string(),
        },
        _ => ObjectError::Unknown {
            attempt,
            cause: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(bytes: &'static [u8]) -> Upload {
        Upload::of_bytes(Bytes::from_static(bytes), "put-1".into())
    }

    #[test]
    fn a_key_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DirectoryStore::open(folder.path().join("store")).expect("opens");
        for key in [
            "../out",
            "a/../../out",
            "/etc/passwd",
            "",
            "a//b",
            ".aof2/lock",
        ] {
            let error = store.put(key, &upload(b"x")).expect_err("refused");
            assert!(
                matches!(error, ObjectError::Refused { .. }),
                "{key}: {error}"
            );
        }
    }

    /// Engines in containers: each is process 1, and they share the folder.
    #[test]
    fn two_writers_with_one_process_number_never_write_into_each_others_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let stores = [(); 2].map(|()| DirectoryStore::open(folder.path()).expect("opens"));
        let keys = |writer: usize| (0..300).map(move |n| format!("writer-{writer}/{n:03}"));
        let body = |key: &str| Bytes::from(format!("{key} ").repeat(400));
        std::thread::scope(|scope| {
            for (writer, store) in stores.iter().enumerate() {
                scope.spawn(move || {
                    for key in keys(writer) {
                        let upload = Upload::of_bytes(body(&key), key.clone());
                        let put = store.put_if_absent(&key, &upload).expect("put");
                        assert!(matches!(put, PutOutcome::Created { .. }), "{key}: {put:?}");
                    }
                });
            }
        });
        for key in keys(0).chain(keys(1)) {
            let object = stores[0].get(&key).expect("whole").expect("there");
            assert_eq!(object.bytes, body(&key), "{key}");
        }
    }

    #[test]
    fn damage_on_disk_is_found_by_get() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DirectoryStore::open(folder.path()).expect("opens");
        store.put("a/b", &upload(b"hello")).expect("put");
        let file = OpenOptions::new()
            .write(true)
            .open(folder.path().join("a/b"))
            .expect("there");
        file.write_all_at(b"j", 0).expect("damaged");
        let error = store.get("a/b").expect_err("damage");
        assert!(matches!(error, ObjectError::Corrupt { .. }), "{error}");
    }

    #[test]
    fn a_body_that_differs_from_its_checksum_is_not_stored() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DirectoryStore::open(folder.path()).expect("opens");
        let wrong = Upload {
            crc64nvme: 1,
            ..upload(b"hello")
        };
        let error = store.put_if_absent("a", &wrong).expect_err("refused");
        assert!(matches!(error, ObjectError::Corrupt { .. }), "{error}");
        assert_eq!(store.list("", None).expect("lists"), Vec::<String>::new());
        let staged = fs::read_dir(folder.path().join(DirectoryStore::PRIVATE))
            .expect("there")
            .count();
        assert_eq!(staged, 0, "no temporary file stays");
    }

    #[test]
    fn a_folder_that_is_gone_is_a_missing_bucket() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DirectoryStore::open(folder.path().join("store")).expect("opens");
        fs::remove_dir_all(folder.path().join("store")).expect("removed");
        let error = store.put_if_absent("a", &upload(b"x")).expect_err("gone");
        assert_eq!(error.reason(), crate::objects::Tier2Reason::BucketMissing);
    }
}
