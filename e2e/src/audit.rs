//! The API server's audit log: who asked for what, told by nobody under test.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

/// One answered request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub at: Timestamp,
    /// Who it was done as: with impersonation, the impersonated.
    pub user: String,
    pub impersonated: bool,
    /// Refused for want of a right; a refusal by admission, as in a namespace that goes, is none.
    pub is_forbidden: bool,
    pub verb: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    pub code: u64,
    /// Changed nothing: `dryRun=All`.
    pub dry_run: bool,
}

impl Request {
    /// A request that changed something.
    pub fn is_write(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        ) && (200..300).contains(&self.code)
            && !self.dry_run
            && !self.asks_only()
    }

    /// Takes a pod away.
    pub fn removes_a_pod(&self) -> bool {
        let evicts = self.verb == "create" && self.subresource == "eviction";
        let deletes = self.verb == "delete" && self.subresource.is_empty();
        self.is_write() && self.resource == "pods" && (evicts || deletes)
    }

    /// Created to be answered, never stored.
    fn asks_only(&self) -> bool {
        matches!(
            self.resource.as_str(),
            "selfsubjectaccessreviews" | "subjectaccessreviews" | "tokenreviews"
        )
    }
}

/// The part of the log from a moment on.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
    start: u64,
}

impl AuditLog {
    /// From now on.
    pub fn from_now(path: &Path) -> Result<Self> {
        let start = std::fs::metadata(path)
            .with_context(|| format!("cannot read the audit log {}", path.display()))?
            .len();
        Ok(Self {
            path: path.to_owned(),
            start,
        })
    }

    /// Everything that was logged.
    pub fn from_the_start(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            start: 0,
        }
    }

    /// Requests of users whose name ends so, without those that somebody else made in their name.
    pub fn requests_by(&self, user_suffix: &str) -> Result<Vec<Request>> {
        self.requests(user_suffix, |request| {
            request.user.ends_with(user_suffix) && !request.impersonated
        })
    }

    /// Requests in this namespace, in the order of their answers.
    pub fn requests_in(&self, namespace: &str) -> Result<Vec<Request>> {
        self.requests(&format!("\"namespace\":\"{namespace}\""), |request| {
            request.namespace == namespace
        })
    }

    /// Of the lines that contain `mark`, the requests that are wanted.
    fn requests(&self, mark: &str, wanted: impl Fn(&Request) -> bool) -> Result<Vec<Request>> {
        let mut file = File::open(&self.path)
            .with_context(|| format!("cannot read the audit log {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.start))?;
        // A line that is being written has no end yet and is left for the next reader.
        let mut requests = Vec::new();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            if line.ends_with('\n') && line.contains(mark) {
                requests.extend(parse(&line).filter(&wanted));
            }
            line.clear();
        }
        Ok(requests)
    }

    /// What this identity changed in this namespace between two moments.
    pub fn writes(
        &self,
        namespace: &str,
        user: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Request>> {
        let mut requests = self.requests_in(namespace)?;
        requests.retain(|request| {
            request.is_write() && request.user == user && (from..to).contains(&request.at)
        });
        Ok(requests)
    }
}

/// `None` for a line that is no answered request on an object.
fn parse(line: &str) -> Option<Request> {
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |pointer: &str| {
        event
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if event["stage"] != "ResponseComplete" {
        return None;
    }
    let impersonated = text("/impersonatedUser/username");
    Some(Request {
        at: text("/requestReceivedTimestamp").parse().ok()?,
        impersonated: !impersonated.is_empty(),
        is_forbidden: event["annotations"]["authorization.k8s.io/decision"] == "forbid",
        user: if impersonated.is_empty() {
            text("/user/username")
        } else {
            impersonated
        },
        verb: text("/verb"),
        namespace: text("/objectRef/namespace"),
        resource: text("/objectRef/resource"),
        subresource: text("/objectRef/subresource"),
        name: text("/objectRef/name"),
        code: event
            .pointer("/responseStatus/code")
            .and_then(Value::as_u64)?,
        dry_run: text("/requestURI").contains("dryRun="),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn event(verb: &str, subresource: &str, code: u64, uri: &str) -> String {
        format!(
            r#"{{"stage":"ResponseComplete","requestURI":"{uri}","verb":"{verb}","user":{{"username":"admin"}},"impersonatedUser":{{"username":"op"}},"objectRef":{{"resource":"pods","namespace":"n","name":"p","subresource":"{subresource}"}},"responseStatus":{{"code":{code}}},"requestReceivedTimestamp":"2026-01-01T00:00:00.5Z"}}"#
        ) + "\n"
    }

    #[test]
    fn an_eviction_that_was_granted_takes_a_pod_away_and_a_refused_or_rehearsed_one_does_not() {
        let granted = parse(&event("create", "eviction", 201, "/x")).unwrap();
        assert!(granted.removes_a_pod());
        assert_eq!(granted.user, "op");
        assert!(
            !parse(&event("create", "eviction", 429, "/x"))
                .unwrap()
                .removes_a_pod()
        );
        assert!(
            !parse(&event("delete", "", 200, "/x?dryRun=All"))
                .unwrap()
                .removes_a_pod()
        );
        assert!(
            parse(&event("delete", "", 200, "/x"))
                .unwrap()
                .removes_a_pod()
        );
    }

    #[test]
    fn only_what_comes_after_the_start_is_read_and_a_line_without_end_waits() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(event("delete", "", 200, "/before").as_bytes())
            .unwrap();
        let log = AuditLog::from_now(file.path()).unwrap();
        assert!(log.requests_in("n").unwrap().is_empty());
        file.write_all(event("patch", "", 200, "/after").as_bytes())
            .unwrap();
        file.write_all(event("patch", "", 200, "/unfinished").trim_end().as_bytes())
            .unwrap();
        let requests = log.requests_in("n").unwrap();
        assert_eq!(requests.len(), 1);
        let second: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let end: Timestamp = "2026-01-01T00:00:01Z".parse().unwrap();
        assert_eq!(log.writes("n", "op", second, end).unwrap().len(), 1);
        assert!(log.writes("n", "admin", second, end).unwrap().is_empty());
    }
}
