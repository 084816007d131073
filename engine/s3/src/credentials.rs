//! Credentials as files, as Kubernetes mounts a Secret: read again by content every 10 s, since a rotation swaps a link and
//! nobody is told. No message of this file holds a value.

// The only files that this crate reads are the mounted ones; they are not the store's, so they do not pass its `Disk`.
#![allow(clippy::disallowed_methods)]

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const READ_AGAIN_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// The directory's content as it was last read.
pub(crate) struct KeyFiles {
    directory: PathBuf,
    last: Option<(Instant, Keys)>,
}

impl KeyFiles {
    pub fn new(directory: PathBuf) -> KeyFiles {
        KeyFiles {
            directory,
            last: None,
        }
    }

    /// The keys, at most 10 s old. A directory that cannot be read is reported each time, and no old key is used instead: it was
    /// taken away on purpose, or nothing can be signed anyway after the next rotation.
    pub fn keys(&mut self, now: Instant) -> Result<Keys, String> {
        if let Some((read_at, keys)) = &self.last
            && now.saturating_duration_since(*read_at) < READ_AGAIN_AFTER
        {
            return Ok(keys.clone());
        }
        let keys = read(&self.directory)?;
        self.last = Some((now, keys.clone()));
        Ok(keys)
    }

    /// The store refused the keys: perhaps they were rotated just now.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

fn read(directory: &Path) -> Result<Keys, String> {
    let required = |name: &str| match read_value(directory, name)? {
        Some(value) => Ok(value),
        None => Err(format!(
            "credentials directory {} holds no {name}; mount the Secret with that key",
            directory.display()
        )),
    };
    Ok(Keys {
        access_key_id: required("access_key_id")?,
        secret_access_key: required("secret_access_key")?,
        session_token: read_value(directory, "session_token")?,
    })
}

fn read_value(directory: &Path, name: &str) -> Result<Option<String>, String> {
    let path = directory.join(name);
    match fs::read_to_string(&path) {
        // Editors and `echo` end a file with a newline; no key has one.
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|value| !value.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {}", path.display(), error.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(id: &str, secret: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a folder");
        fs::write(directory.path().join("access_key_id"), format!("{id}\n")).expect("written");
        fs::write(directory.path().join("secret_access_key"), secret).expect("written");
        directory
    }

    #[test]
    fn a_rotation_is_noticed_after_ten_seconds_and_not_before() {
        let directory = directory("one", "s1");
        let mut files = KeyFiles::new(directory.path().to_owned());
        let start = Instant::now();
        assert_eq!(files.keys(start).expect("keys").access_key_id, "one");
        fs::write(directory.path().join("access_key_id"), "two").expect("written");
        fs::write(directory.path().join("session_token"), "t").expect("written");
        assert_eq!(
            files
                .keys(start + Duration::from_secs(9))
                .expect("keys")
                .access_key_id,
            "one"
        );
        let rotated = files.keys(start + READ_AGAIN_AFTER).expect("keys");
        assert_eq!(
            (
                rotated.access_key_id.as_str(),
                rotated.session_token.as_deref()
            ),
            ("two", Some("t"))
        );
    }

    #[test]
    fn refused_keys_are_read_again_at_once() {
        let directory = directory("one", "s1");
        let mut files = KeyFiles::new(directory.path().to_owned());
        let now = Instant::now();
        files.keys(now).expect("keys");
        fs::write(directory.path().join("access_key_id"), "two").expect("written");
        files.forget();
        assert_eq!(files.keys(now).expect("keys").access_key_id, "two");
    }

    #[test]
    fn a_missing_or_empty_key_is_named_and_no_value_is_shown() {
        let directory = directory("one", " \n");
        let error = KeyFiles::new(directory.path().to_owned())
            .keys(Instant::now())
            .expect_err("no secret");
        assert!(error.contains("holds no secret_access_key"), "{error}");
        assert!(
            !format!(
                "{:?}",
                Keys {
                    access_key_id: "id".into(),
                    secret_access_key: "hush".into(),
                    session_token: None
                }
            )
            .contains("hush")
        );
    }
}
