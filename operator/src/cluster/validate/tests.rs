//! Attacks by a pod template, and what an application ordinarily has.

use super::*;
use crate::cluster::testing;
use serde_json::json;

fn check(template: Value) -> Result<(), String> {
    let mut observed = testing::observed();
    observed.cluster.spec.pod_template = serde_json::from_value(template).unwrap();
    validate(&observed).map_err(|error| error.to_string())
}

#[test]
fn what_the_engine_needs_for_itself_is_refused_with_field_value_and_remedy() {
    for (template, words) in [
        (
            json!({"metadata": {"labels": {"aof2.dev/cluster": "x"}}}),
            ["metadata", "aof2.dev/cluster", "choose another"],
        ),
        (
            json!({"spec": {"containers": [{"name": "aof2-engine"}]}}),
            [
                "spec.containers[0].name",
                "aof2-engine",
                "adds the engine itself",
            ],
        ),
        (
            json!({"spec": {"containers": {"name": "x"}}}),
            ["containers", "{\"name\":\"x\"}", "a list"],
        ),
        (
            json!({"spec": {"initContainers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "tier0"}]}]}}),
            [
                "spec.initContainers[1].volumeMounts[0].name",
                "tier0",
                "aof2-data-socket",
            ],
        ),
        (
            json!({"spec": {"volumes": [{"name": "aof2-tls"}]}}),
            ["spec.volumes[0].name", "aof2-tls", "another name"],
        ),
        (
            json!({"spec": {"restartPolicy": "Never"}}),
            ["spec.restartPolicy", "Never", "remove it"],
        ),
    ] {
        let error = check(template).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{error} lacks {word}");
        }
    }
}

#[test]
fn an_ordinary_application_is_taken() {
    let template = json!({"metadata": {"labels": {"team": "shop"}}, "spec": {
        "containers": [{"name": "app", "volumeMounts": [{"name": "aof2-data-socket", "mountPath": "/sock"}, {"name": "tmp", "mountPath": "/tmp"}]}],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }});
    assert_eq!(check(template), Ok(()));
}

/// In the operator's namespace, where `orders` is the cluster and `pay` another.
fn judge(metadata: Value, fields: Value, allow: &[&str]) -> Result<(), String> {
    let mut observed = testing::observed();
    observed.cluster.metadata.namespace = Some(observed.operator_namespace.clone());
    observed.credentials_of_others = BTreeSet::from(["pay-s3".to_owned()]);
    observed.pod_policy = Policy::new(
        allow
            .iter()
            .map(|entry| crate::pod_policy::Allowed::parse(entry).unwrap())
            .collect(),
    );
    let template = json!({"metadata": metadata, "spec": fields});
    observed.cluster.spec.pod_template = serde_json::from_value(template).unwrap();
    validate(&observed).map_err(|error| error.to_string())
}

fn beside(container: Value) -> Value {
    json!({"initContainers": [{"name": "first"}], "containers": [{"name": "app"}, container]})
}

fn secured(context: Value) -> Value {
    beside(json!({"name": "x", "securityContext": context}))
}

fn with_volume(source: Value) -> Value {
    let mut volume = json!({"name": "x"});
    let fields = volume.as_object_mut().unwrap();
    fields.extend(source.as_object().unwrap().clone());
    json!({"containers": [{"name": "app"}], "volumes": [volume]})
}

/// Each got a pod with it, before.
#[test]
fn what_gives_more_than_a_pod_of_ones_own_is_refused_until_it_is_allowed() {
    let cases = [
        (
            json!({"hostNetwork": true}),
            "spec.hostNetwork",
            "hostNetwork",
        ),
        (json!({"hostPID": true}), "spec.hostPID", "hostPID"),
        (json!({"hostIPC": true}), "spec.hostIPC", "hostIPC"),
        (json!({"hostUsers": true}), "spec.hostUsers", "hostUsers"),
        (
            json!({"shareProcessNamespace": true}),
            "spec.shareProcessNamespace",
            "shareProcessNamespace",
        ),
        (
            json!({"serviceAccountName": "aof2-operator"}),
            "spec.serviceAccountName",
            "serviceAccountName=aof2-operator",
        ),
        (
            json!({"serviceAccountName": ""}),
            "spec.serviceAccountName",
            "serviceAccountName",
        ),
        (
            json!({"serviceAccount": "default"}),
            "spec.serviceAccount",
            "serviceAccountName=default",
        ),
        (
            json!({"nodeName": "control-plane"}),
            "spec.nodeName",
            "nodeName=control-plane",
        ),
        (
            json!({"schedulerName": "mine"}),
            "spec.schedulerName",
            "schedulerName=mine",
        ),
        (
            json!({"runtimeClassName": "raw"}),
            "spec.runtimeClassName",
            "runtimeClassName=raw",
        ),
        (
            json!({"priorityClassName": "system-node-critical"}),
            "spec.priorityClassName",
            "priorityClassName=system-node-critical",
        ),
        (
            json!({"priority": 2_000_000_000}),
            "spec.priority",
            "priority",
        ),
        (
            json!({"resourceClaims": [{"name": "gpu"}]}),
            "spec.resourceClaims",
            "resourceClaims",
        ),
        (
            json!({"ephemeralContainers": [{"name": "x"}]}),
            "spec.ephemeralContainers",
            "ephemeralContainers",
        ),
        (
            json!({"tolerations": [{"operator": "Exists"}]}),
            "spec.tolerations[0]",
            "tolerations",
        ),
        (
            json!({"tolerations": [{"key": "a"}, {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]}),
            "spec.tolerations[1]",
            "tolerations",
        ),
        (
            json!({"imagePullSecrets": [{"name": "pay-engine-tls"}]}),
            "spec.imagePullSecrets[0].name",
            "secret=pay-engine-tls",
        ),
        (
            json!({"securityContext": {"runAsNonRoot": false}}),
            "spec.securityContext.runAsNonRoot",
            "runAsNonRoot",
        ),
        (
            json!({"securityContext": {"runAsUser": 0}}),
            "spec.securityContext.runAsUser",
            "runAsUser=0",
        ),
        (
            json!({"securityContext": {"runAsUser": 0.0}}),
            "spec.securityContext.runAsUser",
            "runAsUser=0",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "spec.securityContext.seccompProfile.type",
            "seccompProfile=Unconfined",
        ),
        (
            json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
            "spec.securityContext.appArmorProfile.type",
            "appArmorProfile",
        ),
        (
            json!({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}),
            "spec.securityContext.seLinuxOptions.type",
            "seLinuxOptions=spc_t",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
            "spec.securityContext.sysctls[0].name",
            "sysctls=kernel.msgmax",
        ),
        (
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "spec.securityContext.windowsOptions",
            "windowsOptions",
        ),
        (
            secured(json!({"privileged": true})),
            "spec.containers[1].securityContext.privileged",
            "privileged",
        ),
        (
            secured(json!({"allowPrivilegeEscalation": true})),
            "spec.containers[1].securityContext.allowPrivilegeEscalation",
            "allowPrivilegeEscalation",
        ),
        (
            secured(
                json!({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "SYS_ADMIN"]}}),
            ),
            "spec.containers[1].securityContext.capabilities.add",
            "capabilities=SYS_ADMIN",
        ),
        (
            secured(json!({"procMount": "Unmasked"})),
            "spec.containers[1].securityContext.procMount",
            "procMount=Unmasked",
        ),
        (
            secured(json!({"runAsUser": 0, "runAsNonRoot": false})),
            "spec.containers[1].securityContext.runAsNonRoot",
            "runAsNonRoot",
        ),
        (
            secured(json!({"seccompProfile": {"type": "Unconfined"}})),
            "spec.containers[1].securityContext.seccompProfile.type",
            "seccompProfile",
        ),
        (
            json!({"initContainers": [{"name": "x", "securityContext": {"privileged": true}}]}),
            "spec.initContainers[0].securityContext.privileged",
            "privileged",
        ),
        (
            beside(json!({"name": "x", "ports": [{"containerPort": 1, "hostPort": 22}]})),
            "spec.containers[1].ports[0].hostPort",
            "hostPort=22",
        ),
        (
            beside(json!({"name": "x", "ports": [{"containerPort": 1, "hostIP": "0.0.0.0"}]})),
            "spec.containers[1].ports[0].hostIP",
            "hostPort=0.0.0.0",
        ),
        (
            beside(
                json!({"name": "x", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "aof2-operator-ca", "key": "tls.key"}}}]}),
            ),
            "spec.containers[1].env[0].valueFrom.secretKeyRef.name",
            "secret=aof2-operator-ca",
        ),
        (
            beside(json!({"name": "x", "envFrom": [{"secretRef": {"name": "pay-s3"}}]})),
            "spec.containers[1].envFrom[0].secretRef.name",
            "secret=pay-s3",
        ),
        (
            beside(
                json!({"name": "x", "volumeMounts": [{"name": "tmp", "mountPropagation": "Bidirectional"}]}),
            ),
            "spec.containers[1].volumeMounts[0].mountPropagation",
            "mountPropagation",
        ),
        (
            beside(
                json!({"name": "x", "livenessProbe": {"httpGet": {"host": "169.254.169.254", "port": 80}}}),
            ),
            "spec.containers[1].livenessProbe.httpGet.host",
            "host=169.254.169.254",
        ),
        (
            beside(
                json!({"name": "x", "lifecycle": {"postStart": {"tcpSocket": {"host": "10.0.0.1"}}}}),
            ),
            "spec.containers[1].lifecycle.postStart.tcpSocket.host",
            "host=10.0.0.1",
        ),
        (
            beside(json!({"name": "x", "resources": {"claims": [{"name": "gpu"}]}})),
            "spec.containers[1].resources.claims",
            "resourceClaims",
        ),
        (
            with_volume(json!({"hostPath": {"path": "/"}})),
            "spec.volumes[0].hostPath",
            "volumes=hostPath",
        ),
        (
            with_volume(json!({"nfs": {"server": "10.0.0.1", "path": "/"}})),
            "spec.volumes[0].nfs",
            "volumes=nfs",
        ),
        (
            with_volume(json!({"csi": {"driver": "x"}})),
            "spec.volumes[0].csi",
            "volumes=csi",
        ),
        (
            with_volume(json!({"iscsi": {}})),
            "spec.volumes[0].iscsi",
            "volumes=iscsi",
        ),
        (
            with_volume(json!({"flexVolume": {"driver": "x"}})),
            "spec.volumes[0].flexVolume",
            "volumes=flexVolume",
        ),
        (
            with_volume(json!({"ofALaterKubernetes": {}})),
            "spec.volumes[0].ofALaterKubernetes",
            "volumes=ofALaterKubernetes",
        ),
        (
            with_volume(json!({"emptyDir": {}, "hostPath": {"path": "/"}})),
            "spec.volumes[0].hostPath",
            "volumes=hostPath",
        ),
        (
            with_volume(json!({"secret": {"secretName": "aof2-operator-ca"}})),
            "spec.volumes[0].secret.secretName",
            "secret=aof2-operator-ca",
        ),
        (
            with_volume(json!({"secret": {"secretName": "orders-engine-tls"}})),
            "spec.volumes[0].secret.secretName",
            "secret=orders-engine-tls",
        ),
        (
            with_volume(json!({"secret": {"secretName": "sh.helm.release.v1.aof2.v1"}})),
            "spec.volumes[0].secret.secretName",
            "secret=sh.helm.release.v1.aof2.v1",
        ),
        (
            with_volume(
                json!({"projected": {"sources": [{"secret": {"name": "pay-engine-tls"}}]}}),
            ),
            "spec.volumes[0].projected.sources[0].secret.name",
            "secret=pay-engine-tls",
        ),
        (
            with_volume(json!({"projected": {"sources": [{"podCertificate": {}}]}})),
            "spec.volumes[0].projected.sources[0].podCertificate",
            "volumes=podCertificate",
        ),
        (
            with_volume(json!({"persistentVolumeClaim": {"claimName": "tier0-pay-0"}})),
            "spec.volumes[0].persistentVolumeClaim.claimName",
            "persistentVolumeClaim=tier0-pay-0",
        ),
        (
            with_volume(
                json!({"persistentVolumeClaim": {"claimName": "tier1-orders-12", "readOnly": true}}),
            ),
            "spec.volumes[0].persistentVolumeClaim.claimName",
            "persistentVolumeClaim",
        ),
        (
            with_volume(
                json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "tier0-pay-0"}}}}}),
            ),
            "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.dataSource",
            "volumes=dataSource",
        ),
        (
            with_volume(
                json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"volumeName": "pv-of-pay"}}}}),
            ),
            "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.volumeName",
            "volumes=volumeName",
        ),
    ];
    for (fields, field, entry) in cases {
        let error = judge(json!({}), fields.clone(), &[]).expect_err(field);
        assert!(
            error.starts_with(&format!("spec.podTemplate.{field} is "))
                && error.contains(entry)
                && error.contains("podTemplates.allow"),
            "{error}"
        );
        assert_eq!(judge(json!({}), fields.clone(), &["*"]), Ok(()), "{field}");
        let opened = entry.split('=').next().unwrap();
        let still = judge(json!({}), fields, &[opened]);
        // A root user needs two of them.
        assert!(still.is_ok() || opened == "runAsNonRoot", "{still:?}");
    }
}

#[test]
fn annotations_that_a_runtime_obeys_are_refused() {
    for (key, value) in [
        (
            "container.apparmor.security.beta.kubernetes.io/app",
            "unconfined",
        ),
        (
            "container.seccomp.security.alpha.kubernetes.io/app",
            "unconfined",
        ),
        ("seccomp.security.alpha.kubernetes.io/pod", "unconfined"),
        ("io.kubernetes.cri-o.userns-mode", "host"),
        ("cdi.k8s.io/gpu", "vendor.com/gpu=all"),
        ("devices.nri.io/container.app", "- path: /dev/mem"),
        ("k8s.v1.cni.cncf.io/networks", "host"),
        ("sidecar.istio.io/userVolume", "[{\"hostPath\":{}}]"),
    ] {
        let error = judge(json!({"annotations": {key: value}}), json!({}), &[]).expect_err(key);
        assert!(
            error.contains(key) && error.contains("podTemplates.allow"),
            "{error}"
        );
        let allow = format!("annotations={key}");
        assert_eq!(
            judge(json!({"annotations": {key: value}}), json!({}), &[&allow]),
            Ok(())
        );
    }
}

#[test]
fn what_an_application_ordinarily_has_is_taken() {
    let metadata = json!({
        "labels": {"team": "shop", "sidecar.istio.io/inject": "true"},
        "annotations": {
            "sidecar.istio.io/inject": "true", "sidecar.istio.io/nativeSidecar": "false", "prometheus.io/scrape": "true",
            "container.apparmor.security.beta.kubernetes.io/app": "runtime/default",
        },
    });
    let fields = json!({
        "serviceAccountName": "orders-aof2", "automountServiceAccountToken": true, "hostNetwork": false, "hostUsers": false, "nodeName": "",
        "priorityClassName": "storage", "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 90, "dnsPolicy": "ClusterFirst",
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}], "nodeSelector": {"disk": "ssd"}, "runtimeClassName": null,
        "tolerations": [{"key": "dedicated", "operator": "Exists"}], "topologySpreadConstraints": [{"maxSkew": 1}],
        "imagePullSecrets": [{"name": "registry"}], "readinessGates": [], "ephemeralContainers": [],
        "securityContext": {
            "runAsUser": 1000, "runAsGroup": 0, "fsGroup": 2000, "runAsNonRoot": true, "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"},
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}], "seLinuxOptions": {"level": "s0:c1,c2"},
        },
        "initContainers": [{"name": "migrate", "restartPolicy": "Always"}],
        "containers": [{
            "name": "app", "image": "app:1", "securityContext": {"privileged": false, "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}, "procMount": "Default"},
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "app-token", "key": "token"}}}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "envFrom": [{"configMapRef": {"name": "app"}}, {"secretRef": {"name": "orders-s3"}}],
            "ports": [{"containerPort": 8080, "hostPort": 0}], "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
            "lifecycle": {"preStop": {"exec": {"command": ["true"]}}}, "resources": {"limits": {"nvidia.com/gpu": "1"}},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp", "mountPropagation": "None"}],
        }],
        "volumes": [
            {"name": "tmp", "emptyDir": {"medium": "Memory"}}, {"name": "config", "configMap": {"name": "app"}},
            {"name": "s", "secret": {"secretName": "app-token"}}, {"name": "d", "downwardAPI": {"items": []}},
            {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"secret": {"name": "app"}}, {"configMap": {"name": "app"}}]}},
            {"name": "c", "persistentVolumeClaim": {"claimName": "reports"}}, {"name": "tier", "persistentVolumeClaim": {"claimName": "tier0-cache"}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}},
            {"name": "i", "image": {"reference": "data:1"}},
        ],
    });
    assert_eq!(judge(metadata, fields, &[]), Ok(()));
}

#[test]
fn what_has_the_wrong_type_is_left_to_the_api_server() {
    for fields in [
        json!({"hostNetwork": "true", "securityContext": "x", "tolerations": [1], "nodeName": 7, "imagePullSecrets": ["x"]}),
        json!({"containers": [{"name": "app", "ports": "8080", "env": 1, "securityContext": []}], "volumes": [{"name": "x", "secret": 1}]}),
        json!({"containers": [{"name": "app", "livenessProbe": 1, "lifecycle": "x", "resources": []}]}),
    ] {
        assert_eq!(judge(json!({}), fields, &[]), Ok(()));
    }
}

#[test]
fn the_engine_is_given_no_secret_of_the_operator_or_of_another_cluster() {
    let mut observed = testing::observed();
    observed.cluster.metadata.namespace = Some(observed.operator_namespace.clone());
    for name in ["aof2-operator-ca", "pay-engine-tls"] {
        let tier2 = observed.cluster.spec.tier2.as_mut().unwrap();
        tier2.credentials.secret_ref.name = name.to_owned();
        let error = validate(&observed).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!(
                "spec.tier2.credentials.secretRef.name is {name}. "
            )),
            "{error}"
        );
    }
    observed.cluster.metadata.namespace = Some("shop".to_owned());
    let tier2 = observed.cluster.spec.tier2.as_mut().unwrap();
    tier2.credentials.secret_ref.name = "aof2-operator-ca".to_owned();
    assert_eq!(
        validate(&observed),
        Ok(()),
        "a namesake in another namespace"
    );
}
