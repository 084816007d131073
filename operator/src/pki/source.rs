//! Where the authority comes from: the mounted Secret, or a new one that becomes that Secret.

use std::{path::Path, time::Duration};

use jiff::Timestamp;

use crate::{
    kube::{Created, Door},
    pki::{
        Authority, PkiError,
        authority::{BUNDLE_FILE, CERTIFICATE_FILE, KEY_FILE},
    },
};

/// The kubelet mounts an optional Secret within about a minute of its creation.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Where the authority is kept.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub namespace: &'a str,
    pub secret: &'a str,
    pub directory: &'a Path,
}

/// Waits as long as it takes: without an authority no engine can be asked anything.
pub async fn obtain(door: &Door, place: Place<'_>) -> Authority {
    loop {
        match attempt(door, place).await {
            Ok(Some(authority)) => return authority,
            Ok(None) => {
                tracing::info!(secret = place.secret, directory = %place.directory.display(), "waiting for the kubelet to mount the Secret of the certificate authority")
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate authority is not available yet; retrying")
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn attempt(door: &Door, place: Place<'_>) -> anyhow::Result<Option<Authority>> {
    if let Some(mounted) = read(place.directory)? {
        return Ok(Some(mounted));
    }
    let authority = Authority::generate(place.namespace, Timestamp::now())?;
    let data = [
        (CERTIFICATE_FILE, authority.certificate_pem()),
        (KEY_FILE, authority.key_pem()),
        (BUNDLE_FILE, authority.bundle_pem()),
    ];
    match door
        .create_authority_secret(place.namespace, place.secret, &data)
        .await?
    {
        Created::New => Ok(Some(authority)),
        Created::Existed => Ok(None),
    }
}

/// `None` while nothing is mounted.
pub fn read(directory: &Path) -> Result<Option<Authority>, PkiError> {
    let [Some(certificate), Some(key), Some(bundle)] = [
        file(directory, CERTIFICATE_FILE)?,
        file(directory, KEY_FILE)?,
        file(directory, BUNDLE_FILE)?,
    ] else {
        return Ok(None);
    };
    Authority::from_pem(
        &directory.display().to_string(),
        &certificate,
        &key,
        &bundle,
    )
    .map(Some)
}

fn file(directory: &Path, name: &str) -> Result<Option<String>, PkiError> {
    let path = directory.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::ReadFile {
            path: path.display().to_string(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_or_missing_mount_is_waited_for_and_a_full_one_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(&directory.path().join("missing")).unwrap().is_none());
        assert!(read(directory.path()).unwrap().is_none());
        let made = Authority::generate("storage", Timestamp::now()).unwrap();
        std::fs::write(
            directory.path().join(CERTIFICATE_FILE),
            made.certificate_pem(),
        )
        .unwrap();
        std::fs::write(directory.path().join(KEY_FILE), made.key_pem()).unwrap();
        assert!(read(directory.path()).unwrap().is_none());
        std::fs::write(directory.path().join(BUNDLE_FILE), made.bundle_pem()).unwrap();
        assert_eq!(
            read(directory.path()).unwrap().unwrap().bundle(),
            made.bundle()
        );
    }
}
