//! Two releases and one namespace.

use std::time::Duration;

use axum::http::Method;
use tokio::time::Instant;

use super::fault;
use super::server::{Server, client};
use crate::args::Scope;
use crate::kube::scope::{ScopeError, Scopes};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/aof2-operator-scope";

fn release(server: &Server, own: &str, scope: &Scope) -> Scopes {
    Scopes::new(client(server), own.to_owned(), scope)
}

fn one() -> Scope {
    Scope::Namespace("shop".to_owned())
}

fn writes(server: &Server) -> usize {
    let calls = &server.lock().calls;
    calls
        .iter()
        .filter(|(method, _)| *method != Method::GET)
        .count()
}

/// A clock that the test moves.
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    /// So much time passes, in which these reconcile.
    async fn pass(&mut self, seconds: u64, releases: &[&Scopes]) {
        for _ in 0..seconds / 20 {
            self.0 += Duration::from_secs(20);
            for release in releases {
                let _ = release.ensure_at("shop", self.0).await;
            }
        }
    }

    /// Whom a refusal names.
    async fn holder(&self, scopes: &Scopes) -> Option<String> {
        match scopes.ensure_at("shop", self.0).await {
            Ok(()) => None,
            Err(ScopeError::Held { holder, .. }) => Some(holder),
            Err(error) => panic!("{error}"),
        }
    }

    async fn is_unknown(&self, scopes: &Scopes) -> bool {
        let asked = scopes.ensure_at("shop", self.0).await;
        matches!(asked, Err(ScopeError::Unknown { .. }))
    }
}

#[tokio::test]
async fn the_second_release_refuses_names_the_first_and_writes_nothing() {
    for (scope_1, scope_2) in [(one(), one()), (Scope::All, one()), (one(), Scope::All)] {
        let server = Server::default();
        let mut clock = Clock::new();
        let first = release(&server, "storage/aof2", &scope_1);
        let second = release(&server, "other/aof2", &scope_2);
        assert_eq!(clock.holder(&first).await, None);
        let before = writes(&server);
        assert_eq!(clock.holder(&second).await.as_deref(), Some("storage/aof2"));
        assert_eq!(writes(&server), before);
        // For as long as the first is there.
        clock.pass(3600, &[&first, &second]).await;
        assert_eq!(clock.holder(&first).await, None);
        assert_eq!(clock.holder(&second).await.as_deref(), Some("storage/aof2"));
        // About once a minute, or in five for all namespaces.
        let count = writes(&server) - before;
        assert!(count <= 61, "{count}");
        let said = second
            .ensure_at("shop", clock.0)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("kubectl -n shop delete lease aof2-operator-scope"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_release_that_was_uninstalled_or_died_is_followed_and_refused_when_it_comes_back() {
    for (scope, seconds) in [(one(), 240), (Scope::All, 900)] {
        let server = Server::default();
        let mut clock = Clock::new();
        let first = release(&server, "storage/aof2", &scope);
        let second = release(&server, "other/aof2", &one());
        assert_eq!(clock.holder(&first).await, None);
        clock.pass(seconds - 40, &[&second]).await;
        assert!(clock.holder(&second).await.is_some(), "too early");
        clock.pass(120, &[&second]).await;
        assert_eq!(clock.holder(&second).await, None);
        assert_eq!(clock.holder(&first).await.as_deref(), Some("other/aof2"));
    }
    // Or at once, where a person deletes the Lease.
    let server = Server::default();
    let mut clock = Clock::new();
    let first = release(&server, "storage/aof2", &one());
    let second = release(&server, "other/aof2", &one());
    assert_eq!(clock.holder(&first).await, None);
    assert!(clock.holder(&second).await.is_some());
    server.lock().objects.remove(LEASE);
    clock.pass(20, &[&second]).await;
    assert_eq!(clock.holder(&second).await, None);
}

#[tokio::test]
async fn an_upgrade_in_place_goes_on_at_once() {
    let server = Server::default();
    let clock = Clock::new();
    assert_eq!(
        clock
            .holder(&release(&server, "storage/aof2", &one()))
            .await,
        None
    );
    assert_eq!(
        clock
            .holder(&release(&server, "storage/aof2", &Scope::All))
            .await,
        None
    );
}

#[tokio::test]
async fn an_api_server_in_trouble_stops_nobody_who_holds_it_and_nobody_else_begins() {
    let server = Server::default();
    let mut clock = Clock::new();
    let first = release(&server, "storage/aof2", &one());
    assert_eq!(clock.holder(&first).await, None);
    server.lock().faults = vec![fault(Method::GET, "/leases/", 500, "etcd")];
    clock.0 += Duration::from_secs(61);
    assert_eq!(clock.holder(&first).await, None);
    clock.0 += Duration::from_secs(120);
    assert!(clock.is_unknown(&first).await);
    let second = release(&server, "other/aof2", &one());
    assert!(clock.is_unknown(&second).await);
    // Without the right nothing can be said, and the operator works as before.
    server.lock().faults = vec![fault(Method::GET, "/leases/", 403, "forbidden")];
    assert_eq!(clock.holder(&second).await, None);
}
