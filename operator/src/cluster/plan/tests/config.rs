//! Configurations: the first, changes, and revisions that nobody needs.

use aof2_crds::status::RolloutOutcome;

use super::*;
use crate::config_rollout::retention::Shortened;
use crate::config_rollout::takes::{Count, Counts, Takes};

#[test]
fn old_revisions_go_and_what_is_in_use_or_was_rejected_stays() {
    let mut rolling = at_rest();
    let in_use = in_status(&mut rolling).config.last_good.clone();
    in_status(&mut rolling).config.rejected = vec![
        serde_json::from_value(json!({
            "revision": "0000000b", "reason": "GateFailed", "gate": "Ready", "observed": "", "limit": "", "at": testing::NOW,
        }))
        .unwrap(),
    ];
    let stored = |kind, revision: &str, age: i64| StoredConfig {
        name: match kind {
            StoredKind::Revision => names::config_revision("orders", revision),
            StoredKind::Evidence => names::evidence("orders", revision),
        },
        kind,
        revision: revision.to_owned(),
        created_at: rolling.now - SignedDuration::from_hours(age),
    };
    // The one in use and the rejected one are the oldest.
    let all: Vec<StoredConfig> = (1..=10)
        .chain([12])
        .map(|age| stored(StoredKind::Revision, &format!("{age:08x}"), age))
        .chain([stored(StoredKind::Revision, &in_use, 99)])
        .chain([stored(StoredKind::Revision, "0000000b", 98)])
        .chain((1..=10).map(|age| stored(StoredKind::Evidence, &format!("{age:08x}"), age)))
        .collect();
    rolling.stored_configs = all;
    let removed: Vec<String> = actions(&plan(&rolling))
        .into_iter()
        .filter(|action| action.starts_with("remove ConfigMap"))
        .collect();
    assert_eq!(removed, ["remove ConfigMap orders-config-0000000c"]);
}

#[test]
fn a_name_is_read_as_it_was_made() {
    let read = |name: &str| names::stored_config("orders", name);
    assert_eq!(
        read("orders-config-9f31c2aa"),
        Some((StoredKind::Revision, "9f31c2aa".to_owned()))
    );
    assert_eq!(
        read("orders-evidence-9f31c2aa"),
        Some((StoredKind::Evidence, "9f31c2aa".to_owned()))
    );
    // Of a pipeline, of another cluster, of the pods.
    for other in [
        "orders-config-h5tg4k2b9f",
        "orders-eu-config-9f31c2aa",
        "orders-active-config",
    ] {
        assert_eq!(read(other), None, "{other}");
    }
}

#[test]
fn a_missing_or_bad_first_configuration_creates_nothing() {
    let name = "orders-aof2".to_owned();
    for (source, reason, word) in [
        (
            ConfigSource::MissingMap { name: name.clone() },
            WaitReason::ConfigMapMissing,
            "Create it",
        ),
        (
            ConfigSource::MissingKey {
                name: name.clone(),
                key: "aof2.toml".into(),
            },
            WaitReason::ConfigMapMissing,
            "has no key",
        ),
        (
            ConfigSource::Found {
                name,
                resource_version: "7".into(),
                text: "[listen]\nadmin_address = '0.0.0.0:1'".into(),
            },
            WaitReason::ConfigInvalid,
            "key listen.admin_address belongs to the operator",
        ),
    ] {
        let mut new = observed();
        new.config_source = source;
        let held = plan(&carried_over(new.clone(), plan(&new)));
        assert_eq!(waits(&held), [(Gate::Config, reason, "")]);
        assert!(
            held.status.waits[0].message.contains(word),
            "{}",
            held.status.waits[0].message
        );
        assert_eq!(actions(&held), Vec::<String>::new());
        assert_eq!(
            condition(&held, ConditionType::ConfigApplied).1,
            reason.as_str()
        );
        assert_eq!(condition(&held, ConditionType::Stalled).1, reason.as_str());
    }
}

#[test]
fn the_first_configuration_is_read_and_remembered() {
    let mut new = observed();
    let text = "[tier0]\ncluster_max_bytes = 9000\n".to_owned();
    new.config_source = ConfigSource::Found {
        name: "orders-aof2".into(),
        resource_version: "7".into(),
        text,
    };
    let plan = plan(&carried_over(new.clone(), plan(&new)));
    let source = plan.status.config.source.clone().unwrap();
    assert_eq!(
        (source.name.as_str(), source.resource_version.as_str()),
        ("orders-aof2", "7")
    );
    let text = file(&plan, "orders-2").unwrap();
    for line in [
        "instance_quota_bytes = 3000",
        "cluster_max_bytes = 9000",
        "bucket = \"acme-aof2\"",
        "name = \"orders-2\"",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

/// Another configuration than the one at rest.
pub(super) fn changed() -> Observed {
    let mut changed = at_rest();
    changed.config_source = ConfigSource::Found {
        name: "orders-aof2".into(),
        resource_version: "8".into(),
        text: "[log]\nlevel = \"debug\"".to_owned(),
    };
    changed
}

/// One look after the other, as if every action were done and an engine took the configuration, until the step is reached.
pub(super) fn roll_to(mut observed: Observed, step: RolloutStep) -> Observed {
    let rates: Rates = Rates::default();
    for pod in 0..3 {
        observed
            .rates
            .insert(format!("orders-{pod}"), rates.clone());
    }
    observed.answers.verdict = Some(Verdict {
        pod: "orders-2".into(),
        version: "0.1.0".into(),
        errors: Vec::new(),
        changes: Vec::new(),
        shortened: Vec::new(),
    });
    for _ in 0..10 {
        let planned = plan(&observed);
        observed.cluster.status = Some(planned.status.clone());
        if planned
            .status
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.step == step)
        {
            return observed;
        }
    }
    panic!("never in {step}: {:?}", observed.cluster.status);
}

#[test]
fn a_change_of_the_configuration_is_first_in_the_file_of_the_last_pod_alone() {
    let before = file(&plan(&at_rest()), "orders-0").unwrap();
    let validating = plan(&changed());
    assert_eq!(
        file(&validating, "orders-2")
            .unwrap()
            .matches("debug")
            .count(),
        0
    );
    assert_eq!(validating.next, NextLook::AT_ONCE);

    let canary = roll_to(changed(), RolloutStep::Canary);
    let planned = plan(&canary);
    assert_eq!(file(&planned, "orders-0").unwrap(), before);
    assert!(file(&planned, "orders-2").unwrap().contains("debug"));
    assert!(has(&planned, "nudge orders-2"));
    assert_eq!(condition(&planned, ConditionType::Ready).0, "True");
    assert_eq!(
        condition(&planned, ConditionType::Reconciling).0,
        "True",
        "and something is under way"
    );
    let config = &planned.status.config;
    assert_ne!(config.target, config.last_good);
    assert_eq!(config.validated_by.as_ref().unwrap().pod, "orders-2");
    assert!(
        planned.status.summary.contains("on canary orders-2"),
        "{}",
        planned.status.summary
    );
}

#[test]
fn a_source_that_is_gone_is_told_and_the_revision_stays() {
    let before = file(&plan(&at_rest()), "orders-0").unwrap();
    let mut gone = changed();
    gone.config_source = ConfigSource::MissingMap {
        name: "orders-aof2".into(),
    };
    let held = plan(&gone);
    assert_eq!(
        waits(&held),
        [(Gate::Config, WaitReason::ConfigMapMissing, "")]
    );
    assert_eq!(file(&held, "orders-0").unwrap(), before);
}

#[test]
fn a_revision_that_somebody_deleted_is_named_with_the_way_back() {
    let mut lost = changed();
    lost.revision_texts.clear();
    let held = plan(&lost);
    assert_eq!(
        waits(&held),
        [(Gate::Config, WaitReason::ConfigMapMissing, "")]
    );
    let message = &held.status.waits[0].message;
    assert!(
        message.contains("orders-config-") && message.contains("spec.configFrom"),
        "{message}"
    );
}

#[test]
fn a_first_configuration_that_no_engine_could_start_with_may_be_corrected() {
    let source = |text: &str, version: &str| ConfigSource::Found {
        name: "orders-aof2".into(),
        resource_version: version.into(),
        text: text.into(),
    };
    let mut sick = observed();
    sick.config_source = source("[log]\nlevl = 'info'\n", "7");
    let mut sick = carried_over(sick.clone(), plan(&sick));
    let first = plan(&sick).status.config.target;
    sick.config_source = source("[log]\nlevel = 'debug'\n", "8");
    let corrected = plan(&sick);
    assert_eq!(waits(&corrected), []);
    assert_ne!(corrected.status.config.target, first);
    assert!(file(&corrected, "orders-0").unwrap().contains("debug"));
}

#[test]
fn a_moved_bucket_endpoint_is_a_change_of_the_configuration() {
    let mut changed = at_rest();
    changed.cluster.spec.tier2.as_mut().unwrap().endpoint = "https://elsewhere.test".into();
    let planned = plan(&changed);
    assert_eq!(
        planned.status.rollout.map(|rollout| rollout.kind),
        Some(RolloutKind::Config)
    );
}

#[test]
fn a_change_before_the_first_was_loaded_everywhere_is_proved_too() {
    let mut early = changed();
    // One pod never came up, so that nothing is known to be good yet.
    early.pods[0].is_ready = false;
    early.reports.remove("orders-0");
    in_status(&mut early).config.last_good.clear();
    in_status(&mut early).nodes.clear();
    let before = file(&plan(&at_rest()), "orders-1").unwrap();
    let first = in_status(&mut early).config.target.clone();
    for _ in 0..2 {
        let planned = plan(&early);
        let rollout = planned.status.rollout.as_ref().unwrap();
        assert_eq!(rollout.step, RolloutStep::Validating);
        assert_eq!(rollout.from, first);
        assert!(has(&planned, &format!("orders-config-{first}")));
        for pod in ["orders-0", "orders-1", "orders-2"] {
            assert!(!file(&planned, pod).unwrap().contains("debug"), "{pod}");
        }
        assert_eq!(file(&planned, "orders-1").unwrap(), before);
        early = carried_over(early, planned);
    }
}

#[test]
fn what_was_never_loaded_everywhere_is_no_way_back_without_a_canary() {
    let mut early = changed();
    // One pod never came up, so that nothing is known to be good yet.
    early.pods[0].is_ready = false;
    let answer_of_the_broken = early.reports.remove("orders-0").unwrap();
    in_status(&mut early).config.last_good.clear();
    in_status(&mut early).nodes.clear();
    let first_source = at_rest().config_source;
    let first = in_status(&mut early).config.target.clone();
    let mut early = roll_to(early, RolloutStep::Preflight);
    // The corrected one is loaded by every pod.
    let mut memo = in_status(&mut early).rollout.clone().unwrap();
    assert_eq!(memo.from, first);
    memo.step = RolloutStep::Rolling;
    memo.pod = None;
    memo.done = vec!["orders-0".into(), "orders-1".into(), "orders-2".into()];
    early.pods[0].is_ready = true;
    early
        .reports
        .insert("orders-0".into(), answer_of_the_broken);
    for pod in ["orders-0", "orders-1", "orders-2"] {
        answer(&mut early, pod).dump.config.revision = memo.to.clone();
    }
    let corrected = super::super::config::read_source(&early).ok().unwrap();
    early
        .revision_texts
        .insert(corrected.hash.clone(), corrected.text());
    in_status(&mut early).rollout = Some(memo);
    early.answers.verdict = None;
    let done = plan(&early);
    assert_eq!(done.status.history[0].outcome, RolloutOutcome::Completed);
    assert_eq!(done.status.rollout, None, "{:?}", done.status.rollout);
    early = carried_over(early, done);
    early.config_source = first_source;
    roll_to(early, RolloutStep::Preflight);
}

/// Days may pass: the cluster is scaled all the same, and who looks sees what goes and when.
#[test]
fn a_shorter_retention_is_in_status_until_it_is_in_force_and_holds_up_nothing_else() {
    let mut waiting = roll_to(changed(), RolloutStep::Validating);
    let verdict = waiting.answers.verdict.as_mut().unwrap();
    verdict.shortened = vec![Shortened {
        streams: "orders-*".into(),
        from: "720h".into(),
        to: "168h".into(),
    }];
    // What it takes is asked for with the verdict, and known when it is announced.
    let question = super::super::questions(&waiting).count.expect("a question");
    assert!(question.is_asked(waiting.answers.verdict.as_ref()));
    assert!(!question.is_asked(None));
    assert_eq!(question.pods.len(), 3);
    assert!(question.pods.iter().all(|(_, ip)| ip.is_some()));
    waiting.answers.counts = Some(counts(&waiting, Ok(2)));
    for _ in 0..3 {
        let planned = plan(&waiting);
        waiting = carried_over(waiting, planned);
    }
    (waiting.answers.verdict, waiting.answers.counts) = (None, None);
    let held = plan(&waiting);
    let announced = &held.status.announcements[0];
    assert_eq!(
        (
            announced.records,
            announced.segments,
            announced.not_counted.as_ref()
        ),
        (Some(60), Some(6), None)
    );
    let until = announced.effective_at.0;
    assert_eq!(until.duration_since(waiting.now).as_hours(), 24);
    assert_eq!(
        (announced.from.as_str(), announced.to.as_str()),
        ("720h", "168h")
    );
    assert_eq!(waits(&held)[0].1, WaitReason::RetentionNotice);
    let (state, _, message) = condition(&held, ConditionType::RetentionChangePending);
    assert_eq!(state, "True");
    assert!(message.contains("orders-*") && message.contains(&until.to_string()));
    assert!(
        message.contains("6Mi (60 records in 6 segments)"),
        "{message}"
    );
    assert_eq!(message, held.status.waits[0].message, "one Event for both");
    assert_eq!(file(&held, "orders-2"), file(&plan(&at_rest()), "orders-2"));
    // Nothing moves while it waits.
    let mut later = carried_over(waiting.clone(), held);
    later.now = until - jiff::SignedDuration::from_secs(5);
    let again = plan(&later);
    assert_eq!(Some(&again.status), later.cluster.status.as_ref());
    // Counted again after an hour. A pod that does not answer then leaves the figures as they were.
    assert!(super::super::questions(&waiting).count.is_none());
    let question = super::super::questions(&later).count.expect("a question");
    assert!(question.is_asked(None));
    let mut paused = later.clone();
    paused.cluster.spec.operation.mode = OperationMode::Paused;
    assert!(super::super::questions(&paused).count.is_none());
    later.answers.counts = Some(counts(&later, Err("orders-2 does not answer")));
    let planned = plan(&later);
    let announced = &planned.status.announcements[0];
    assert_eq!(announced.segments, Some(6));
    assert_eq!(
        announced.not_counted.as_ref().map(|it| it.at.0),
        Some(later.now)
    );
    let (_, _, message) = condition(&planned, ConditionType::RetentionChangePending);
    assert!(message.contains("not counted since (orders-2"), "{message}");
    later.answers.counts = None;
    let after = carried_over(later.clone(), planned);
    assert!(super::super::questions(&after).count.is_none());
    let mut larger = later.clone();
    larger.cluster.spec.replicas = 4;
    let larger = plan(&larger);
    let reasons: Vec<WaitReason> = waits(&larger).iter().map(|wait| wait.1).collect();
    assert!(
        !reasons.contains(&WaitReason::RolloutInProgress),
        "{reasons:?}"
    );
    // A person who cannot wait.
    later.cluster.spec.retention_notice = aof2_crds::Duration::from_secs(0);
    let passed = plan(&later);
    let rollout = passed.status.rollout.unwrap();
    assert_eq!(rollout.step, RolloutStep::Canary);
}

/// As many segments of a MiB on each pod; an error: of the last.
fn counts(observed: &Observed, segments: Result<u64, &str>) -> Counts {
    let takes = |segments: u64| Takes {
        bytes: segments << 20,
        records: segments * 10,
        segments,
    };
    let shortened = observed.cluster.status.as_ref().and_then(|status| {
        let known = status.announcements.first()?;
        Some((known.streams.clone(), known.from.clone(), known.to.clone()))
    });
    let (streams, from, to) =
        shortened.unwrap_or_else(|| ("orders-*".into(), "720h".into(), "168h".into()));
    let change = Shortened { streams, from, to };
    let answer = |segments| {
        Ok(vec![Count {
            change: change.clone(),
            takes: takes(segments),
        }])
    };
    let pods = observed.pods.iter().map(|pod| pod.name.clone());
    let mut answers: std::collections::BTreeMap<_, _> = pods
        .map(|pod| (pod, answer(segments.unwrap_or(1))))
        .collect();
    if let (Err(why), Some(mut last)) = (segments, answers.last_entry()) {
        *last.get_mut() = Err(why.to_owned());
    }
    Counts(answers)
}
