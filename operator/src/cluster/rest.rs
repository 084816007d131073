//! Clusters at rest: looked at without a read from the API server. Their engines are asked, and the plan is made again from what was read last.
//! As soon as it comes to anything else than before, or a watch told of a change, everything is read live: nothing is ever done or written
//! from what is kept here.

use std::collections::{BTreeSet, HashMap};

use aof2_crds::Aof2ClusterStatus;
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;

use super::{
    action::{Action, Desired},
    facts::{ConfigSource, Observed, PodFacts},
    memory::Memory,
    plan::{self, Plan},
    reader, record, samples, status,
    touches::Mark,
    validate,
};
use crate::{context::Context, engines::Whose, machine::NextLook};

/// What was found by a look that had nothing to do.
pub struct Rest {
    mark: Mark,
    observed: Box<Observed>,
    /// Of what was to be applied, and was as it should be.
    actions: Vec<String>,
}

#[derive(Default)]
pub struct Rests(Mutex<HashMap<(String, String), Rest>>);

impl Rests {
    pub fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.lock().remove(&key);
    }
}

/// What a live look came to.
pub struct Looked {
    pub mark: Mark,
    /// Nothing was written, asked, refused or left unread.
    pub is_quiet: bool,
    /// Of its actions; `None`: there was one that does more than keep an object as it is.
    pub actions: Option<Vec<String>>,
}

/// `None`: there is an action that has an effect each time.
pub fn of_keeping(actions: &[Action]) -> Option<Vec<String>> {
    let ids = actions.iter().map(|action| match action {
        Action::Apply(
            Desired::ServiceAccount(_)
            | Desired::Service(_)
            | Desired::NetworkPolicy(_)
            | Desired::DisruptionBudget(_)
            | Desired::ConfigMap(_)
            | Desired::KeptSpec(_)
            | Desired::StatefulSet(_),
        )
        | Action::RemoveDisruptionBudget => Some(action.id()),
        Action::IssueCertificate
        | Action::Nudge { .. }
        | Action::RestartEngine { .. }
        | Action::ExpandClaim { .. }
        | Action::CreateSnapshot(_)
        | Action::RemoveSnapshot { .. }
        | Action::RemoveConfigMap { .. }
        | Action::StartDrain { .. }
        | Action::Resume { .. }
        | Action::RemovePod { .. } => None,
    });
    ids.collect()
}

/// After a live look.
pub fn remember(memory: &Memory, mut observed: Observed, looked: Looked) {
    let (namespace, name) = (
        observed.cluster.namespace().unwrap_or_default(),
        observed.cluster.name_any(),
    );
    let by_name = reads_by_name(&observed);
    let has_new_name = memory.touches.follow(&namespace, &name, by_name);
    let Some(actions) = looked.actions else {
        return;
    };
    if !looked.is_quiet || has_new_name || !is_seen_by_watches(&observed) {
        return;
    }
    // What plans do not read.
    let metadata = observed.cluster.meta_mut();
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(crate::runtime::sighting::LAST_APPLIED);
    }
    observed.reports.clear();
    observed.rates.clear();
    observed.snapshots = Vec::new();
    let rest = Rest {
        mark: looked.mark,
        observed: Box::new(observed),
        actions,
    };
    memory.rests.0.lock().insert((namespace, name), rest);
}

/// What else was read no watch tells of: nodes and Events of pods that do not serve or may not be created, the spec that a missing StatefulSet comes back from.
fn is_seen_by_watches(observed: &Observed) -> bool {
    let serves = |pod: &PodFacts| pod.is_ready && pod.deletion.is_none() && !pod.node.is_empty();
    observed.unread.is_empty()
        && observed.orphans.is_empty()
        && observed.kept_spec.is_none()
        && observed.not_created.is_empty()
        && observed.pods.iter().all(serves)
}

/// Objects without the cluster's label that it depends on.
fn reads_by_name(observed: &Observed) -> BTreeSet<String> {
    let source = match &observed.config_source {
        ConfigSource::Unset => None,
        ConfigSource::MissingMap { name }
        | ConfigSource::MissingKey { name, .. }
        | ConfigSource::Binary { name, .. }
        | ConfigSource::Unreadable { name, .. }
        | ConfigSource::Found { name, .. } => Some(name.clone()),
    };
    let claims = observed.pods.iter().flat_map(|pod| pod.claims.clone());
    source.into_iter().chain(claims).collect()
}

/// A look without a read. `None`: read everything.
pub async fn look(
    context: &Context,
    memory: &Memory,
    namespace: &str,
    name: &str,
) -> Option<NextLook> {
    let key = (namespace.to_owned(), name.to_owned());
    // It is put back where it still holds.
    let rest = memory.rests.0.lock().remove(&key)?;
    let Rest {
        mark,
        mut observed,
        actions,
    } = rest;
    let is_untouched = |observed: &Observed| {
        let now = memory.touches.mark(namespace, name);
        mark.is_same(now, validate::names_secrets(observed))
    };
    if !is_untouched(&observed) {
        return None;
    }
    observed.snapshots = reader::snapshots(&memory.snapshots, &observed.cluster)?;
    if let Some(whose) = Whose::of(&observed.cluster) {
        let pods = observed.pods.iter();
        let reachable = pods.filter_map(|pod| Some((pod.name.as_str(), pod.ip?)));
        observed.reports = context.engines.reports(&whose, reachable).await;
    }
    observed.now = Timestamp::now();
    let samples = samples::key(namespace, name);
    observed.rates = memory.count(&samples, &observed.reports, observed.now);
    let questions = plan::questions(&observed);
    if !questions.is_empty() {
        return None;
    }
    let planned = plan::plan(&observed);
    if !planned.overridden.is_empty() || of_keeping(&planned.actions).as_ref() != Some(&actions) {
        return None;
    }
    let Plan {
        status: planned,
        next,
        ..
    } = planned;
    if !is_as_stored(&observed, planned) || !is_untouched(&observed) {
        return None;
    }
    record::show(context, &observed.cluster);
    observed.reports.clear();
    observed.rates.clear();
    observed.snapshots = Vec::new();
    let rest = Rest {
        mark,
        observed,
        actions,
    };
    memory.rests.0.lock().insert(key, rest);
    Some(next)
}

fn is_as_stored(observed: &Observed, mut planned: Aof2ClusterStatus) -> bool {
    let stored = observed.cluster.status.as_ref();
    status::apply_failed(
        &mut planned,
        &[],
        stored,
        observed.cluster.metadata.generation,
        observed.now,
    );
    crate::kube::is_same(stored, &planned)
}
