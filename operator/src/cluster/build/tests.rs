//! The objects as they are sent, in full.

use serde_json::{Value, json};

use super::{
    Owner, disruption_budget, network_policy, service, service_account, stateful_set,
    template::{self, Platform},
};
use crate::cluster::testing::{self, CLUSTER_ID};
use crate::pod_policy::Users;

const PLATFORM: Platform<'_> = Platform {
    repository: "registry.test/aof2-engine",
    users: Users::Fixed,
};

fn owner() -> Owner {
    Owner::of(&testing::cluster()).unwrap()
}

#[test]
fn the_stateful_set_of_a_cluster_with_a_writer_beside_the_engine() {
    let set = stateful_set::build(
        &owner(),
        &testing::cluster().spec,
        CLUSTER_ID,
        3,
        PLATFORM,
        true,
    );
    insta::assert_json_snapshot!(set);
}

#[test]
fn the_other_objects() {
    insta::assert_json_snapshot!(json!([
        service::build(&owner()),
        service_account::build(&owner()),
        disruption_budget::build(&owner(), 3),
        network_policy::build(&owner(), "storage", false),
        network_policy::build(&owner(), "storage", true),
    ]));
}

fn pod(spec: Value) -> Value {
    let mut cluster = testing::cluster();
    cluster.spec.pod_template.spec = spec.as_object().unwrap().clone();
    template::build("orders", &cluster.spec, PLATFORM)["spec"].clone()
}

#[test]
fn without_containers_of_the_user_the_engine_is_the_main_container() {
    let pod = pod(json!({}));
    assert_eq!(pod["containers"][0]["name"], "aof2-engine");
    assert_eq!(pod["containers"][0].get("restartPolicy"), None);
    assert_eq!(pod.get("initContainers"), None);
}

#[test]
fn the_engine_starts_before_the_users_init_containers_and_shares_its_socket_with_them() {
    let pod =
        pod(json!({"initContainers": [{"name": "prepare"}], "containers": [{"name": "app"}]}));
    assert_eq!(
        (
            &pod["initContainers"][0]["name"],
            &pod["initContainers"][0]["restartPolicy"]
        ),
        (&json!("aof2-engine"), &json!("Always"))
    );
    for container in [&pod["initContainers"][1], &pod["containers"][0]] {
        assert_eq!(
            container["volumeMounts"],
            json!([{"name": "aof2-data-socket", "mountPath": "/run/aof2"}])
        );
        assert_eq!(
            container["securityContext"]["allowPrivilegeEscalation"],
            false
        );
    }
}

#[test]
fn what_the_user_says_stays_and_the_grace_period_is_at_least_a_minute() {
    let said = json!({
        "terminationGracePeriodSeconds": 300, "serviceAccountName": "app", "automountServiceAccountToken": true, "unknownField": {"a": 1},
        "securityContext": {"fsGroup": 1000}, "containers": [{"name": "app", "securityContext": {"capabilities": {"add": ["X"]}}}],
    });
    let pod_said = pod(said);
    assert_eq!(pod_said["terminationGracePeriodSeconds"], 300);
    assert_eq!(pod_said["serviceAccountName"], "app");
    assert_eq!(pod_said["automountServiceAccountToken"], true);
    assert_eq!(pod_said["unknownField"], json!({"a": 1}));
    assert_eq!(pod_said["securityContext"]["fsGroup"], 1000);
    assert_eq!(
        pod_said["containers"][0]["securityContext"]["capabilities"],
        json!({"add": ["X"]})
    );
    assert_eq!(
        pod(json!({"terminationGracePeriodSeconds": 5}))["terminationGracePeriodSeconds"],
        60
    );
}

#[test]
fn the_digest_follows_what_a_pod_cannot_take_up_and_nothing_else() {
    let spec = testing::cluster().spec;
    let digest = |change: &dyn Fn(&mut aof2_crds::Aof2ClusterSpec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        template::digest(&spec, PLATFORM.repository)
    };
    let same = digest(&|_| {});
    assert_eq!(same, digest(&|spec| spec.replicas = 7));
    assert_eq!(
        same,
        digest(&|spec| spec.tier2.as_mut().unwrap().region = "other".into())
    );
    assert_ne!(same, digest(&|spec| spec.version = "0.1.1".into()));
    assert_ne!(
        same,
        digest(&|spec| spec.tier2.as_mut().unwrap().credentials.secret_ref.name = "other".into())
    );
    assert_ne!(
        same,
        digest(&|spec| spec.pod_template.spec =
            json!({"containers": [{"name": "writer", "image": "writer:2"}]})
                .as_object()
                .unwrap()
                .clone())
    );
    let with_cpu = |cpu: &str| {
        digest(&|spec| {
            spec.resources = serde_json::from_value(json!({"limits": {"cpu": cpu}})).unwrap();
            spec.pod_template.spec = json!({"containers": [{"name": "writer", "resources": {"requests": {"cpu": cpu}}}]})
                .as_object()
                .unwrap()
                .clone();
        })
    };
    assert_eq!(with_cpu("1000m"), with_cpu("1"), "another spelling");
    assert_ne!(with_cpu("1000m"), with_cpu("1001m"));
    // Running pods carry this: another value for the same wish would restart them all after an upgrade of the operator.
    assert_eq!(same, "9d9bd36c0b");
}

#[test]
fn a_node_may_be_scaled_away_under_our_sockets_and_what_the_user_named_stays_named() {
    let annotation = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
    for (given, expected) in [
        (json!({}), "aof2-data-socket,aof2-admin-socket"),
        (
            json!({annotation: "scratch"}),
            "aof2-data-socket,aof2-admin-socket,scratch",
        ),
    ] {
        let mut cluster = testing::cluster();
        cluster.spec.pod_template.metadata.annotations = serde_json::from_value(given).unwrap();
        let built = template::build("orders", &cluster.spec, PLATFORM);
        assert_eq!(built["metadata"]["annotations"][annotation], expected);
        let empty: Vec<&str> = built["spec"]["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|volume| volume.get("emptyDir").is_some())
            .filter_map(|volume| volume["name"].as_str())
            .collect();
        assert_eq!(empty.join(","), "aof2-data-socket,aof2-admin-socket");
    }
}

#[test]
fn a_field_that_is_null_does_not_stand_in_the_place_of_a_safe_default() {
    let nothing = serde_json::json!({
        "serviceAccountName": null, "automountServiceAccountToken": null, "affinity": null, "volumes": null,
        "securityContext": {"runAsNonRoot": null, "seccompProfile": null},
        "containers": [{"name": "app", "securityContext": null, "volumeMounts": null}],
    });
    let absent = serde_json::json!({"securityContext": {}, "containers": [{"name": "app"}]});
    let build = |fields: serde_json::Value| {
        let mut cluster = crate::cluster::testing::cluster();
        cluster.spec.pod_template.spec = fields.as_object().expect("fields").clone();
        template::build("orders", &cluster.spec, PLATFORM)["spec"].clone()
    };
    assert_eq!(build(nothing), build(absent));
}

#[test]
fn where_the_platform_assigns_users_no_pod_names_one() {
    let platform = Platform {
        users: Users::Assigned,
        ..PLATFORM
    };
    let spec = testing::cluster().spec;
    let text = template::build("orders", &spec, platform)["spec"].to_string();
    for key in ["runAsUser", "runAsGroup", "fsGroup\""] {
        assert!(!text.contains(key), "{text}");
        let fixed = template::build("orders", &spec, PLATFORM)["spec"].to_string();
        assert!(fixed.contains(key), "{fixed}");
    }
    assert!(text.contains("\"runAsNonRoot\":true"), "{text}");
}
