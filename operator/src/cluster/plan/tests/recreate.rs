//! A StatefulSet that was deleted by hand comes back as it was.

use super::*;
use crate::cluster::build::stateful_set::StatefulSet;

/// What the operator keeps of this cluster.
fn kept(plan: &Plan) -> Option<String> {
    plan.actions.iter().find_map(|action| match action {
        Action::Apply(Desired::KeptSpec(map)) => map.data.as_ref()?.values().next().cloned(),
        _ => None,
    })
}

/// Somebody deletes the StatefulSet, and with it the pods.
fn deleted(mut observed: Observed, kept: Option<String>) -> Observed {
    observed.stateful_set = None;
    observed.pods.clear();
    observed.reports.clear();
    observed.kept_spec = kept;
    observed
}

fn set(plan: &Plan) -> Option<&StatefulSet> {
    plan.actions.iter().find_map(|action| match action {
        Action::Apply(Desired::StatefulSet(set)) => Some(&**set),
        _ => None,
    })
}

/// Number of pods, version and the writer's image.
fn shape(plan: &Plan) -> (i64, String, String) {
    let set = set(plan).unwrap_or_else(|| panic!("{:?}", actions(plan)));
    let template = &set.spec["template"];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (
        set.spec["replicas"].as_i64().unwrap(),
        text(&template["metadata"]["annotations"]["aof2.dev/version"]),
        text(&template["spec"]["containers"][0]["image"]),
    )
}

fn as_it_was() -> (i64, String, String) {
    (3, "0.1.0".to_owned(), "writer:1".to_owned())
}

/// Version, template and number of pods at once.
fn change(observed: &mut Observed) {
    let spec = &mut observed.cluster.spec;
    spec.version = "0.1.1".into();
    spec.replicas = 1;
    let containers = json!([{"name": "writer", "image": "writer:2"}]);
    spec.pod_template
        .spec
        .insert("containers".into(), containers);
}

#[test]
fn it_comes_back_with_its_version_its_template_and_its_pods_whatever_the_spec_says_now() {
    let observed = at_rest();
    let text = kept(&plan(&observed));
    assert!(text.is_some());
    let mut observed = deleted(observed, text);
    change(&mut observed);
    let planned = plan(&observed);
    assert_eq!(shape(&planned), as_it_was());
    assert!(
        file(&planned, "orders-2").is_some(),
        "each pod has its file"
    );
    assert_eq!(
        waits(&planned)[0],
        (Gate::ObjectsInPlace, WaitReason::ObjectTerminating, "")
    );

    // A spec that cannot be followed does not keep it away either.
    let fields = &mut observed.cluster.spec.pod_template.spec;
    fields.insert("restartPolicy".into(), "Never".into());
    assert_eq!(shape(&plan(&observed)), as_it_was());
    // Nor does an API server that cannot check the wanted template.
    observed.answers.template_unknown = Some("no answer".into());
    assert_eq!(shape(&plan(&observed)), as_it_was());
}

#[test]
fn in_the_middle_of_a_rollout_it_comes_back_on_what_every_pod_ran() {
    let mut observed = at_rest();
    let text = kept(&plan(&observed));
    observed.cluster.spec.version = "0.1.1".into();
    let began = plan(&observed);
    assert_eq!(kept(&began), None, "only what every pod ran is kept");
    observed = carried_over(observed, began);
    // The new template is written and one pod is on it.
    let digest =
        crate::cluster::build::template::digest(&observed.cluster.spec, &observed.image_repository);
    let written = observed.stateful_set.as_mut().unwrap();
    (written.template, written.version) = (digest.clone(), "0.1.1".into());
    (observed.pods[2].template, observed.pods[2].version) = (digest, "0.1.1".into());
    let rolling = plan(&observed);
    assert_eq!(kept(&rolling), None);
    let memo = rolling.status.rollout.clone();
    assert!(memo.is_some());
    let observed = deleted(carried_over(observed, rolling), text);
    let planned = plan(&observed);
    assert_eq!(shape(&planned), as_it_was());
    assert_eq!(planned.status.rollout, memo, "the rollout goes on");

    // Nothing was kept: status has version and pods.
    let mut observed = observed;
    observed.kept_spec = None;
    assert_eq!(shape(&plan(&observed)), as_it_was());
}

#[test]
fn in_the_middle_of_a_change_of_configuration_each_pod_keeps_its_file() {
    let mut observed = at_rest();
    let text = kept(&plan(&observed));
    let in_force = in_status(&mut observed).config.last_good.clone();
    observed.config_source = ConfigSource::Found {
        name: "orders".into(),
        resource_version: "7".into(),
        text: "[log]\nlevel = \"debug\"\n".into(),
    };
    let began = plan(&observed);
    let memo = began.status.rollout.clone().unwrap();
    assert_eq!(memo.kind, RolloutKind::Config);
    assert_eq!(
        kept(&began),
        text,
        "a configuration is no part of what is kept"
    );
    let observed = deleted(carried_over(observed, began), text);
    let planned = plan(&observed);
    assert_eq!(shape(&planned), as_it_was());
    assert_eq!(planned.status.rollout, Some(memo));
    for pod in ["orders-0", "orders-1", "orders-2"] {
        let file = file(&planned, pod).unwrap();
        assert!(file.contains(&in_force), "{file}");
    }
}

#[test]
fn in_the_middle_of_a_scale_down_the_pods_that_may_hold_streams_come_back() {
    let mut observed = at_rest();
    observed.cluster.spec.replicas = 1;
    answer(&mut observed, "orders-2").dump.streams = 7;
    let held = plan(&observed);
    let text = kept(&held);
    let observed = deleted(carried_over(observed, held), text);
    assert_eq!(shape(&plan(&observed)).0, 3);
    let mut observed = observed;
    observed.kept_spec = None;
    assert_eq!(shape(&plan(&observed)).0, 3);
}

#[test]
fn a_paused_operator_recreates_nothing_and_says_what_is_missing() {
    let observed = at_rest();
    let text = kept(&plan(&observed));
    let mut observed = deleted(observed, text);
    change(&mut observed);
    observed.cluster.spec.operation.mode = OperationMode::Paused;
    let paused = plan(&observed);
    assert_eq!(actions(&paused), Vec::<String>::new());
    assert!(
        waits(&paused).contains(&(Gate::ObjectsInPlace, WaitReason::ObjectTerminating, "")),
        "{:?}",
        waits(&paused)
    );
    observed.cluster.spec.operation.mode = OperationMode::Active;
    assert_eq!(shape(&plan(&observed)), as_it_was());
}

#[test]
fn orphaned_pods_are_adopted_before_anything_is_decided_about_them() {
    let mut observed = at_rest();
    observed.cluster.spec.version = "0.1.1".into();
    observed.cluster.spec.replicas = 2;
    observed = carried_over(observed.clone(), plan(&observed));
    let memo = in_status(&mut observed).rollout.clone();
    // The StatefulSet is there again, as it was, and owns no pod yet.
    observed.pods.clear();
    observed.reports.clear();
    observed.orphans = vec!["orders-0".into(), "orders-1".into(), "orders-2".into()];
    let planned = plan(&observed);
    assert_eq!(set(&planned).map(|set| set.spec.clone()), None);
    assert!(!actions(&planned).iter().any(|it| it.starts_with("remove")));
    assert_eq!(planned.status.rollout, memo);
    assert_eq!(
        waits(&planned)[0],
        (Gate::ObjectsInPlace, WaitReason::ObjectTerminating, "")
    );
    // A stranger's pod beyond its number holds nothing up.
    let mut at_rest = at_rest();
    at_rest.orphans = vec!["orders-7".into()];
    assert_eq!(waits(&plan(&at_rest)), []);
}

#[test]
fn what_was_kept_is_judged_like_a_spec() {
    let observed = at_rest();
    let text = kept(&plan(&observed)).unwrap();
    let mut forged: serde_json::Value = serde_json::from_str(&text).unwrap();
    forged["podTemplate"]["spec"]["hostNetwork"] = true.into();
    for text in [
        forged.to_string(),
        "{".to_owned(),
        text.replace("\"replicas\":3", "\"replicas\":70000"),
    ] {
        let observed = deleted(observed.clone(), Some(text));
        let planned = plan(&observed);
        let set = set(&planned).unwrap();
        assert_eq!(set.spec["template"]["spec"]["hostNetwork"], json!(null));
        assert_eq!(set.spec["replicas"], json!(3));
    }
}

#[test]
fn no_template_is_written_before_a_recreated_stateful_set_has_its_pods() {
    let mut observed = at_rest();
    observed.cluster.spec.version = "0.1.1".into();
    let preflight = |observed: &Observed| {
        let rollout = observed.cluster.status.as_ref().unwrap().rollout.as_ref();
        rollout.is_some_and(|rollout| rollout.step == RolloutStep::Preflight)
    };
    while !preflight(&observed) {
        observed = carried_over(observed.clone(), plan(&observed));
    }
    assert!(
        set(&plan(&observed)).is_some(),
        "the template would be written now"
    );
    // It is recreated as it was, and its pods are still to come.
    observed.pods.clear();
    observed.reports.clear();
    observed.stateful_set.as_mut().unwrap().created_at = observed.now;
    let planned = plan(&observed);
    assert!(set(&planned).is_none(), "{:?}", actions(&planned));
    assert_eq!(
        waits(&planned)[0],
        (Gate::ObjectsInPlace, WaitReason::ObjectTerminating, "")
    );
    // Nor while its controller is away; pods that it cannot create do not keep a correction from coming.
    observed.now += SignedDuration::from_secs(61);
    let is_held = |observed: &Observed| {
        waits(&plan(observed)).contains(&(Gate::ObjectsInPlace, WaitReason::ObjectTerminating, ""))
    };
    observed.stateful_set.as_mut().unwrap().is_observed = false;
    assert!(is_held(&observed));
    observed.stateful_set.as_mut().unwrap().is_observed = true;
    assert!(!is_held(&observed));
}

#[test]
fn a_claim_that_an_orphaned_pod_protects_is_not_called_unused() {
    let observed = at_rest();
    let text = kept(&plan(&observed));
    let mut observed = deleted(observed, text);
    let claim = observed.claims.get_mut("tier0-orders-1").unwrap();
    claim.is_terminating = true;
    assert!(set(&plan(&observed)).is_none(), "no pod is created for it");
    observed.orphans = vec!["orders-0".into(), "orders-1".into(), "orders-2".into()];
    let planned = plan(&observed);
    assert!(set(&planned).is_some(), "its pod is adopted");
    assert!(
        !waits(&planned)
            .iter()
            .any(|wait| wait.0 == Gate::VolumeKept)
    );
}
