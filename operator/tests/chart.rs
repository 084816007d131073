//! The chart, rendered by Helm: it grants what the operator uses, in the namespaces it was told, to a pod that is restricted.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use aof2_operator::args::Args;
use aof2_operator::rbac;
use clap::{CommandFactory, Parser};
use serde_json::Value;

const NAMESPACE: &str = "storage";

/// `None`, said aloud, where there is no Helm. `cargo xtask test` brings one and names its folder.
fn helm(arguments: &[&str]) -> Option<Output> {
    let folder = env::var_os("AOF2_E2E_BIN").map(PathBuf::from);
    let program = folder
        .as_ref()
        .map_or_else(|| PathBuf::from("helm"), |folder| folder.join("helm"));
    match Command::new(&program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound && folder.is_none() => {
            eprintln!("skipped: no helm in PATH; `cargo xtask test` runs this test with one");
            None
        }
        Err(error) => panic!("{}: {error}", program.display()),
    }
}

fn chart() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../charts/aof2-operator")
        .display()
        .to_string()
}

fn template(release: &str, namespace: &str, settings: &[&str]) -> Option<Output> {
    let chart = chart();
    let mut arguments = vec![
        "template",
        release,
        &chart,
        "--namespace",
        namespace,
        "--kube-version",
        "1.36.3",
    ];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    helm(&arguments)
}

/// The rendered objects.
fn objects(release: &str, namespace: &str, settings: &[&str]) -> Option<Vec<Value>> {
    let output = template(release, namespace, settings)?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("Helm prints UTF-8");
    let documents = text
        .split("\n---\n")
        .filter(|document| document.contains("kind:"));
    Some(
        documents
            .map(|document| serde_saphyr::from_str(document).expect("Helm prints YAML"))
            .collect(),
    )
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = of_kind(objects, kind)
        .into_iter()
        .find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

type Rules = BTreeMap<(String, String), BTreeSet<String>>;

fn words(value: &Value) -> Vec<String> {
    let words = value.as_array().into_iter().flatten();
    words
        .map(|word| word.as_str().unwrap_or_default().to_owned())
        .collect()
}

fn granted(role: &Value) -> Rules {
    let mut rules = Rules::new();
    for rule in role["rules"].as_array().expect("a role has rules") {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                rules
                    .entry((group.clone(), resource))
                    .or_default()
                    .extend(words(&rule["verbs"]));
            }
        }
    }
    rules
}

fn used(rules: &[rbac::Rule]) -> Rules {
    let verbs = |rule: &rbac::Rule| rule.verbs.iter().map(|verb| (*verb).to_owned()).collect();
    rules
        .iter()
        .map(|rule| {
            (
                (rule.group.to_owned(), rule.resource.to_owned()),
                verbs(rule),
            )
        })
        .collect()
}

fn environment(objects: &[Value]) -> BTreeMap<String, String> {
    let container = &of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
    let entries = container["env"]
        .as_array()
        .expect("the container has an environment");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    entries
        .iter()
        .map(|entry| (text(&entry["name"]), text(&entry["value"])))
        .collect()
}

#[test]
fn helm_lint_finds_nothing() {
    let Some(output) = helm(&["lint", "--strict", &chart()]) else {
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn the_roles_grant_exactly_what_the_operator_uses() {
    let Some(objects) = objects("aof2", NAMESPACE, &[]) else {
        return;
    };
    assert_eq!(
        granted(named(&objects, "Role", "storage-aof2-aof2-operator")),
        used(rbac::CLUSTERS)
    );
    assert_eq!(
        granted(named(&objects, "Role", "aof2-aof2-operator-own")),
        used(rbac::OWN_NAMESPACE)
    );
}

#[test]
fn no_role_can_read_a_secret() {
    for settings in [&[] as &[&str], &["watch.allNamespaces=true"]] {
        let Some(objects) = objects("aof2", NAMESPACE, settings) else {
            return;
        };
        for role in of_kind(&objects, "Role")
            .into_iter()
            .chain(of_kind(&objects, "ClusterRole"))
        {
            for ((_, resource), verbs) in granted(role) {
                assert!(resource != "*" && !verbs.contains("*"), "{role}");
                let reads = ["get", "list", "watch", "patch"]
                    .iter()
                    .any(|verb| verbs.contains(*verb));
                assert!(resource != "secrets" || !reads, "{role}");
            }
        }
    }
}

#[test]
fn it_stays_within_its_namespace_unless_told_otherwise() {
    let Some(objects) = objects("aof2", NAMESPACE, &[]) else {
        return;
    };
    for object in objects.iter().filter(|object| {
        !object["kind"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("ClusterRole"))
    }) {
        assert_eq!(object["metadata"]["namespace"], NAMESPACE, "{object}");
    }
    let roles: Vec<&str> = of_kind(&objects, "ClusterRole")
        .into_iter()
        .filter_map(|role| role["metadata"]["name"].as_str())
        .collect();
    let wide =
        ["nodes", "viewer", "editor"].map(|it| format!("{NAMESPACE}-aof2-aof2-operator-{it}"));
    assert_eq!(
        roles, wide,
        "nodes, and those of people, which nobody has yet"
    );
    let bound = of_kind(&objects, "ClusterRoleBinding");
    assert_eq!(bound.len(), 1);
    assert_eq!(bound[0]["roleRef"]["name"], wide[0]);
    assert_eq!(
        granted(named(&objects, "ClusterRole", &wide[0])),
        used(rbac::NODES)
    );
    if let Some(objects) = self::objects("aof2", NAMESPACE, &["watch.nodes=false"]) {
        assert_eq!(of_kind(&objects, "ClusterRoleBinding").len(), 0);
    }
}

/// What `helm install` says at its end.
fn notes(settings: &[&str]) -> Option<String> {
    let chart = chart();
    let mut arguments = vec!["install", "aof2", &chart, "--namespace", NAMESPACE];
    arguments.push("--dry-run=client");
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let output = helm(&arguments)?;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_once("NOTES:").map(|(_, notes)| notes.to_owned())
}

#[test]
fn clusters_in_the_namespace_of_the_operator_are_warned_about_and_can_be_accepted() {
    let Some(shared) = notes(&[]) else {
        return;
    };
    for part in [
        "WARNING",
        "certificate authority",
        "watch.namespace=",
        "watch.ownNamespace",
    ] {
        assert!(shared.contains(part), "{part} is missing in {shared}");
    }
    let accepted = "watch.ownNamespace=true";
    for settings in [
        accepted,
        "watch.namespace=orders",
        "watch.allNamespaces=true",
    ] {
        let said = notes(&[settings]).unwrap_or_default();
        assert!(!said.contains("WARNING"), "{settings}: {said}");
    }
    let objects = objects("aof2", NAMESPACE, &[accepted]).unwrap_or_default();
    assert_eq!(environment(&objects)["AOF2_ALLOW_OWN_NAMESPACE"], "true");
}

#[test]
fn another_namespace_gets_the_role_and_nothing_else() {
    let Some(objects) = objects("aof2", NAMESPACE, &["watch.namespace=orders"]) else {
        return;
    };
    let elsewhere: Vec<&Value> = objects
        .iter()
        .filter(|object| object["metadata"]["namespace"] == "orders")
        .collect();
    let kinds: Vec<&str> = elsewhere
        .iter()
        .filter_map(|object| object["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["Role", "RoleBinding"]);
    assert_eq!(granted(elsewhere[0]), used(rbac::CLUSTERS));
    assert_eq!(environment(&objects)["AOF2_WATCH_NAMESPACE"], "orders");
}

#[test]
fn all_namespaces_makes_a_cluster_role_of_the_same_rules() {
    let Some(objects) = objects("aof2", NAMESPACE, &["watch.allNamespaces=true"]) else {
        return;
    };
    assert_eq!(
        granted(named(&objects, "ClusterRole", "storage-aof2-aof2-operator")),
        used(rbac::CLUSTERS)
    );
    assert_eq!(
        of_kind(&objects, "ClusterRoleBinding").len(),
        2,
        "and nodes"
    );
    assert_eq!(environment(&objects)["AOF2_ALL_NAMESPACES"], "true");
    assert!(!environment(&objects).contains_key("AOF2_WATCH_NAMESPACE"));
}

#[test]
fn two_releases_in_two_namespaces_share_no_object() {
    let identity = |object: &Value| {
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        [
            text(&object["kind"]),
            text(&metadata["namespace"]),
            text(&metadata["name"]),
        ]
    };
    for settings in [&[] as &[&str], &["watch.allNamespaces=true"]] {
        let Some(first) = objects("aof2", "storage", settings) else {
            return;
        };
        let Some(second) = objects("aof2", "orders", settings) else {
            return;
        };
        let first: BTreeSet<_> = first.iter().map(identity).collect();
        let shared: Vec<_> = second
            .iter()
            .map(identity)
            .filter(|object| first.contains(object))
            .collect();
        assert!(shared.is_empty(), "{shared:?}");
    }
}

#[test]
fn every_variable_it_sets_is_one_that_the_operator_reads() {
    let Some(objects) = objects("aof2", NAMESPACE, &[]) else {
        return;
    };
    let command = Args::command();
    let known: BTreeSet<&str> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str())
        .collect();
    for name in environment(&objects).keys() {
        assert!(
            known.contains(name.as_str()),
            "{name} is not read; known are {known:?}"
        );
    }
}

#[test]
fn the_operator_runs_restricted() {
    let Some(objects) = objects("aof2", NAMESPACE, &[]) else {
        return;
    };
    let pod = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert!(container["resources"]["limits"]["memory"].is_string());
    assert_eq!(
        pod["volumes"][0]["secret"]["optional"], true,
        "the authority does not exist at the first start"
    );
}

#[test]
fn a_value_that_does_not_exist_is_refused_by_name() {
    for (settings, message) in [
        (
            &["wach.allNamespaces=true"] as &[&str],
            "'wach' not allowed",
        ),
        (&["concurrency=0"], "at '/concurrency'"),
        (&["image.pullPolicy=Sometimes"], "at '/image/pullPolicy'"),
        (
            &["engine.image.repository=example.com/aof2-engine:1"],
            "at '/engine/image/repository'",
        ),
        (
            &["watch.allNamespaces=true", "watch.namespace=orders"],
            "at '/watch/namespace'",
        ),
    ] {
        let Some(output) = template("aof2", NAMESPACE, settings) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(message),
            "{settings:?}: {said}"
        );
    }
}

#[test]
fn an_older_kubernetes_is_refused() {
    let Some(output) = helm(&["template", "aof2", &chart(), "--kube-version", "1.32.9"]) else {
        return;
    };
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(">=1.33.0-0"),
        "{output:?}"
    );
}

fn operator_pod(settings: &[&str]) -> Option<Value> {
    let objects = objects("aof2", NAMESPACE, settings)?;
    Some(of_kind(&objects, "Deployment")[0]["spec"]["template"].clone())
}

#[test]
fn engines_admit_the_operator_whatever_the_release_is_called() {
    let (key, value) = aof2_operator::names::OPERATOR_LABEL;
    for setting in [
        "nameOverride=aof2-op",
        "fullnameOverride=x",
        "podLabels.aof2\\.dev/component=y",
    ] {
        let Some(pod) = operator_pod(&[setting]) else {
            return;
        };
        assert_eq!(pod["metadata"]["labels"][key], value, "{setting}");
    }
}

/// A strict reader of YAML, such as the one of this test, refuses a key that stands twice.
#[test]
fn labels_and_annotations_of_the_user_are_merged_with_those_of_the_chart() {
    let settings = [
        "podLabels.app\\.kubernetes\\.io/component=controller",
        "podLabels.app\\.kubernetes\\.io/instance=other",
        "podAnnotations.kubectl\\.kubernetes\\.io/default-container=mesh",
    ];
    let Some(pod) = operator_pod(&settings) else {
        return;
    };
    let metadata = &pod["metadata"];
    assert_eq!(
        metadata["labels"]["app.kubernetes.io/component"],
        "controller"
    );
    assert_eq!(
        metadata["labels"]["app.kubernetes.io/instance"], "aof2",
        "the Deployment selects by it"
    );
    let container = "kubectl.kubernetes.io/default-container";
    assert_eq!(metadata["annotations"][container], "mesh");
}

#[test]
fn a_platform_that_assigns_users_gets_a_pod_without_any() {
    let keys = ["runAsUser", "runAsGroup", "fsGroup"];
    let settings = keys.map(|key| format!("podSecurityContext.{key}=null"));
    let Some(pod) = operator_pod(&settings.each_ref().map(String::as_str)) else {
        return;
    };
    let context = &pod["spec"]["securityContext"];
    for key in keys {
        assert!(context.get(key).is_none(), "{context}");
    }
    assert_eq!(context["runAsNonRoot"], true);
    for (value, is_said) in [("false", false), ("true", true)] {
        let setting = format!("engine.assignedUsers={value}");
        let pod = operator_pod(&[&setting]).expect("a pod");
        let said = pod.to_string().contains("AOF2_ASSIGNED_USERS");
        assert_eq!(said, is_said, "{pod}");
    }
}

#[test]
fn a_chart_that_depends_on_this_one_may_say_whether_it_is_enabled() {
    if let Some(output) = template("aof2", NAMESPACE, &["enabled=true"]) {
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
    }
}

#[test]
fn only_those_who_are_named_may_read_the_metrics() {
    let Some(rendered) = objects("aof2", NAMESPACE, &[]) else {
        return;
    };
    let policy = of_kind(&rendered, "NetworkPolicy")[0].clone();
    let ingress = policy["spec"]["ingress"].as_array().expect("rules");
    assert!(
        ingress
            .iter()
            .all(|rule| rule["from"].as_array().is_some_and(|from| !from.is_empty())),
        "{policy:#}"
    );
    let nobody = ["networkPolicy.metricsFrom=null"];
    let Some(rendered) = objects("aof2", NAMESPACE, &nobody) else {
        return;
    };
    let policy = of_kind(&rendered, "NetworkPolicy")[0].clone();
    assert!(policy["spec"]["ingress"].is_null(), "{policy:#}");
}

#[test]
fn people_get_roles_that_write_no_status_and_no_object_of_kubernetes() {
    let Some(objects) = objects("aof2", NAMESPACE, &[]) else {
        return;
    };
    for (who, can_write) in [("viewer", false), ("editor", true)] {
        let role = named(
            &objects,
            "ClusterRole",
            &format!("{NAMESPACE}-aof2-aof2-operator-{who}"),
        );
        let labels = role["metadata"]["labels"].as_object().expect("labels");
        assert!(
            !labels.keys().any(|key| key.contains("aggregate")),
            "{role}"
        );
        for ((group, resource), verbs) in granted(role) {
            assert_eq!(group, "aof2.dev");
            assert!(!resource.ends_with("/status"), "{resource}");
            assert_eq!(verbs.contains("update"), can_write, "{who} {resource}");
            assert!(!verbs.contains("deletecollection"), "{verbs:?}");
        }
    }
    let without = &["roles.create=false", "watch.nodes=false"];
    let without = self::objects("aof2", NAMESPACE, without).expect("Helm");
    assert_eq!(of_kind(&without, "ClusterRole").len(), 0);
    let aggregated = &["roles.aggregate=true", "watch.nodes=false"];
    let aggregated = self::objects("aof2", NAMESPACE, aggregated).expect("Helm");
    for (role, into) in of_kind(&aggregated, "ClusterRole")
        .iter()
        .zip(["view", "edit"])
    {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{into}");
        assert_eq!(role["metadata"]["labels"][label], "true");
    }
}

#[test]
fn what_pods_may_ask_for_reaches_the_operator_and_is_nothing_by_default() {
    let Some(objects) = objects("aof2", NAMESPACE, &[]) else {
        return;
    };
    assert!(!environment(&objects).contains_key("AOF2_ALLOW_IN_PODS"));
    let settings = ["podTemplates.allow={hostNetwork,serviceAccountName=vault}"];
    let objects = self::objects("aof2", NAMESPACE, &settings).expect("Helm");
    let said = environment(&objects)["AOF2_ALLOW_IN_PODS"].clone();
    assert_eq!(said, "hostNetwork,serviceAccountName=vault");
    let read = Args::try_parse_from(["aof2-operator", "--allow-in-pods", &said]).expect("known");
    assert_eq!(read.allow_in_pods.len(), 2);
}
