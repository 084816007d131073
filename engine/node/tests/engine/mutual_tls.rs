//! Who may use the admin API over the network.

use std::path::Path;
use std::sync::Arc;

use aof2_admin_api::client::{Client, ClientError};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::{Engine, Home};

const SERVER: &str = "0192f0aa.engine.aof2.dev";
const OPERATOR: &str = "operator.aof2.dev";

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Leaf {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_string()]).expect("parameters");
        params.extended_key_usages = vec![usage];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("a certificate")
            .pem();
        Leaf {
            certificate,
            key: key.serialize_pem(),
        }
    }

    fn server(&self) -> Leaf {
        self.sign(SERVER, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn client(&self, name: &str) -> Leaf {
        self.sign(name, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

/// Each file by rename, as the kubelet would never do more gently.
fn install(directory: &Path, server: &Leaf, authorities: &[&Authority]) {
    std::fs::create_dir_all(directory).expect("a directory");
    let bundle: String = authorities
        .iter()
        .map(|authority| authority.pem.as_str())
        .collect();
    for (name, text) in [
        ("ca.crt", &bundle),
        ("tls.crt", &server.certificate),
        ("tls.key", &server.key),
    ] {
        let fresh = directory.join("new");
        std::fs::write(&fresh, text).expect("a file");
        std::fs::rename(&fresh, directory.join(name)).expect("a file");
    }
}

fn client(engine: &Engine, trusted: &Authority, leaf: Option<&Leaf>) -> Client {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(trusted.pem.as_bytes()).expect("PEM"))
        .expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => {
            let chain =
                vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    Client::tls(engine.admin_address(), SERVER, Arc::new(config)).expect("a name")
}

async fn start(home: &Home) -> Engine {
    let directory = home.path("tls").display().to_string();
    home.start_with(&[
        "--admin-address",
        "127.0.0.1:0",
        "--tls-directory",
        &directory,
        "--tls-client-name",
        OPERATOR,
    ])
    .await
}

async fn wait_served(engine: &Engine, client: &Client) {
    engine
        .wait_for("serving over TLS", async || client.dump().await.is_ok())
        .await;
}

fn assert_tls(result: Result<aof2_admin_api::Dump, ClientError>) {
    match result {
        Err(ClientError::Tls { .. }) => {}
        other => panic!("not refused by TLS: {other:?}"),
    }
}

#[tokio::test]
async fn only_a_certificate_of_the_authority_with_the_exact_name_is_admitted() {
    let home = Home::new();
    let authority = Authority::new();
    install(&home.path("tls"), &authority.server(), &[&authority]);
    let engine = start(&home).await;
    let operator = client(&engine, &authority, Some(&authority.client(OPERATOR)));
    wait_served(&engine, &operator).await;
    assert!(operator.dump().await.expect("admitted").ready);

    assert_tls(client(&engine, &authority, None).dump().await);
    assert_tls(
        client(
            &engine,
            &authority,
            Some(&authority.client("other.aof2.dev")),
        )
        .dump()
        .await,
    );
    assert_tls(
        client(&engine, &authority, Some(&authority.client("*.aof2.dev")))
            .dump()
            .await,
    );
    let stranger = Authority::new();
    assert_tls(
        client(&engine, &authority, Some(&stranger.client(OPERATOR)))
            .dump()
            .await,
    );
    // A server's certificate is no client's, even with the right name.
    let server = authority.sign(OPERATOR, ExtendedKeyUsagePurpose::ServerAuth);
    assert_tls(client(&engine, &authority, Some(&server)).dump().await);
    operator.dump().await.expect("still admitted");
    assert!(engine.log().contains("client certificate has another name"));
}

#[tokio::test]
async fn a_verb_is_in_the_log_with_the_name_of_the_certificate_and_the_epoch() {
    let home = Home::new();
    let authority = Authority::new();
    install(&home.path("tls"), &authority.server(), &[&authority]);
    let engine = start(&home).await;
    let operator = client(&engine, &authority, Some(&authority.client(OPERATOR)));
    wait_served(&engine, &operator).await;
    operator
        .with_operator_epoch(7)
        .flush()
        .await
        .expect("flushed");
    let older = client(&engine, &authority, Some(&authority.client(OPERATOR)));
    let refused = older.with_operator_epoch(6).seal(Some("a")).await;
    refused.expect_err("an older operator");
    // Nobody resets it from outside.
    let outside = client(&engine, &authority, Some(&authority.client(OPERATOR)));
    let refused = outside.reset_operator_epoch().await;
    let message = refused.expect_err("not over the network").to_string();
    assert!(message.contains("in the pod"), "{message}");
    let audit = engine.audit();
    let shown: Vec<[&str; 5]> = audit
        .iter()
        .map(|line| {
            ["verb", "caller", "operator_epoch", "arguments", "outcome"]
                .map(|key| line[key].as_str().unwrap_or_default())
        })
        .collect();
    let caller = format!("{OPERATOR} (127.0.0.1)");
    let (done, stale) = ("done", "StaleOperatorEpoch");
    let expected: [[&str; 5]; 3] = [
        ["flush", &caller, "7", "", done],
        ["seal", &caller, "6", "stream=a", stale],
        ["operator-epoch:reset", &caller, "", "", "BadRequest"],
    ];
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn an_engine_without_certificates_is_ready_and_serves_tls_as_soon_as_they_come() {
    let home = Home::new();
    let authority = Authority::new();
    let engine = start(&home).await;
    let operator = client(&engine, &authority, Some(&authority.client(OPERATOR)));
    operator.dump().await.expect_err("no certificates yet");
    assert_eq!(engine.get("/readyz").await.0, 200);
    install(&home.path("tls"), &authority.server(), &[&authority]);
    wait_served(&engine, &operator).await;
}

#[tokio::test]
async fn authorities_rotate_through_a_bundle_without_a_restart() {
    let home = Home::new();
    let (old, new) = (Authority::new(), Authority::new());
    install(&home.path("tls"), &old.server(), &[&old]);
    let engine = start(&home).await;
    let by_old = client(&engine, &old, Some(&old.client(OPERATOR)));
    wait_served(&engine, &by_old).await;
    let start = by_old.dump().await.expect("dump").process_start;

    // Both are trusted, the server still shows the old certificate.
    install(&home.path("tls"), &old.server(), &[&old, &new]);
    let new_client = client(&engine, &old, Some(&new.client(OPERATOR)));
    wait_served(&engine, &new_client).await;
    by_old.dump().await.expect("the old one too");

    install(&home.path("tls"), &new.server(), &[&new]);
    let by_new = client(&engine, &new, Some(&new.client(OPERATOR)));
    wait_served(&engine, &by_new).await;
    assert_tls(
        client(&engine, &new, Some(&old.client(OPERATOR)))
            .dump()
            .await,
    );
    assert_eq!(
        by_new.dump().await.expect("dump").process_start,
        start,
        "the same process all along"
    );
}

#[tokio::test]
async fn a_set_that_does_not_fit_together_leaves_the_one_before_in_force() {
    let home = Home::new();
    let authority = Authority::new();
    install(&home.path("tls"), &authority.server(), &[&authority]);
    let engine = start(&home).await;
    let operator = client(&engine, &authority, Some(&authority.client(OPERATOR)));
    wait_served(&engine, &operator).await;
    let mismatched = Leaf {
        certificate: authority.server().certificate,
        key: authority.server().key,
    };
    install(&home.path("tls"), &mismatched, &[&authority]);
    engine
        .wait_for("refusing the set", async || {
            engine
                .log()
                .contains("new certificates of the admin API rejected")
        })
        .await;
    operator.dump().await.expect("the old set is in force");
}
