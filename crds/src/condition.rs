//! Types and reasons of conditions, gates and reasons of waits: the only strings of their kind.

use crate::names::names;

names! {
    /// `Reconciling` and `Stalled` are kstatus' and are present only while True, and so is `RetentionChangePending`; the others are always present and good when True.
    pub enum ConditionType {
        SpecValid,
        /// Every pod serves. A held rollout leaves this True.
        Ready,
        Healthy,
        ConfigApplied,
        VersionConverged,
        CertificatesValid,
        /// Present while schedules run: each has a young enough snapshot.
        SnapshotsCurrent,
        /// Present once there is one: the newest read back as they were taken.
        SnapshotsVerified,
        /// A config that keeps records for less is announced (`status.announcements`).
        RetentionChangePending,
        Reconciling,
        Stalled,
    }
}

names! {
    pub enum ConditionReason {
        // SpecValid
        Valid,
        /// The dry run of the StatefulSet was refused, or `podTemplate` uses what the operator owns.
        InvalidPodTemplate,
        // Ready
        Serving,
        Starting,
        PodsNotReady,
        // Healthy
        Healthy,
        EngineUnreachable,
        /// An engine refuses its data and serves nothing: VolumeLost, RolledBack, PrefixInUse, ForeignDirectory and so on, in the message.
        EngineRefused,
        /// The claim of a pod's volume was deleted: the volume is released when the pod ends.
        VolumeAtRisk,
        /// A pod runs on another volume than before.
        VolumeReplaced,
        /// A pod's volume is smaller than the spec says: it was adopted.
        VolumeTooSmall,
        FlushFailed,
        Tier2Unreachable,
        Tier2Refused,
        // ConfigApplied
        Applied,
        Applying,
        ConfigMapMissing,
        ConfigInvalid,
        /// An engine got a file that the operator did not write.
        ConfigAltered,
        /// The engines keep what they have.
        ConfigRefused,
        ConfigRejected,
        ConfigHeld,
        // VersionConverged
        Converged,
        RollingOut,
        Held,
        // CertificatesValid
        Issued,
        Issuing,
        RenewalDue,
        Expired,
        // SnapshotsCurrent, SnapshotsVerified
        Current,
        SnapshotOverdue,
        Verified,
        VerificationFailed,
        // SpecValid
        InvalidSchedule,
        /// An annotation of a person that cannot be followed.
        InvalidAnnotation,
        // RetentionChangePending
        RetentionShortened,
        // Reconciling, Stalled
        Creating,
        Scaling,
        Paused,
        ClusterIDConflict,
        PrefixInUse,
        ApplyFailed,
        /// The API server does not answer what a decision is made from.
        ReadFailed,
    }
}

names! {
    /// What a change has to pass. A person may let one of them pass for a while (`aof2.dev/override-gate`).
    pub enum Gate {
        // Before anything moves.
        /// `operation.mode: Active`.
        Active,
        SpecValid,
        ClusterIdentity,
        Config,
        Certificates,
        /// The pods that a smaller `replicas` would remove own no streams.
        ScaleDown,
        /// One rollout at a time.
        RolloutInProgress,
        /// What belongs to the cluster is there, and is not being deleted.
        ObjectsInPlace,
        /// The API server answers what a decision is made from.
        ObjectsRead,
        // Before a pod goes.
        /// The volume of the pod is kept when the pod is removed, and is still the same one.
        VolumeKept,
        /// No pod's data needs a newer engine than the target.
        MinReaderVersion,
        /// At most one pod is down, unready pods count.
        OnePodDown,
        /// The engine of the pod to go answers, or is known not to run.
        EngineReachable,
        /// Sealed segments are uploaded, appends still admitted.
        Uploaded,
        /// Admission closed, everything acknowledged is sealed and uploaded.
        Drained,
        /// The eviction was granted and the pod is gone.
        PodRemoved,
        // After it came back.
        PodStarted,
        VersionReported,
        Replayed,
        /// The engine and the kubelet say ready.
        Ready,
        ReplayVersion,
        CaughtUp,
        FlushFailures,
        Soaked,
        // Of a configuration.
        /// Records that are kept for less were announced for `spec.retentionNotice`.
        RetentionNotice,
        /// Few hydrations wait, as the handbook asks before a change.
        HydrationBacklog,
        /// The engine runs the config that it was given.
        ConfigLoaded,
        /// Refused appends, against the other pods and the canary's past.
        WouldBlock,
        /// Use of the Tier 0 share, against the other pods and the canary's past.
        Tier0Use,
        /// Repeated uploads, likewise.
        UploadRetries,
        /// Readers do not wait for Tier 2 while a change gives the bytes to Tier 0.
        RaiseTier1First,
        /// The observation window is over.
        Observed,
        /// Done within `progressDeadline`.
        Progress,
    }
}

names! {
    /// Why a gate holds.
    pub enum WaitReason {
        Paused,
        InvalidPodTemplate,
        ClusterIDConflict,
        PrefixInUse,
        ConfigMapMissing,
        ConfigInvalid,
        ConfigNotLoaded,
        CertificateMissing,
        StreamsWouldBeOrphaned,
        RolloutInProgress,
        /// An object of the cluster is being deleted.
        ObjectTerminating,
        /// The API server does not answer what a decision is made from.
        ReadFailed,
        /// The claim of a pod's volume was deleted: the volume is released when the pod ends.
        VolumeAtRisk,
        /// The pod runs on another volume than before.
        VolumeReplaced,
        /// The target version cannot read the data on a pod's volume.
        DataTooNew,
        /// Another pod is down.
        PodNotReady,
        PodTerminating,
        PodMissing,
        /// The StatefulSet does not create the pod.
        PodNotCreated,
        PodOnLostNode,
        PodUnschedulable,
        /// The image cannot be pulled.
        ImagePull,
        CrashLoop,
        ContainerWaiting,
        /// The engine refuses its data: VolumeLost, RolledBack, PrefixInUse and so on.
        EngineRefused,
        EngineUnreachable,
        /// The engine does not report what the gate reads.
        NotReported,
        Uploading,
        UploadTimeout,
        DrainTimeout,
        /// The volume has no room for what a drain writes.
        DiskFull,
        DrainTokenExpired,
        /// Somebody else ended the drain.
        Resumed,
        Draining,
        Tier2Unreachable,
        Tier2Refused,
        EvictionRefused,
        Terminating,
        Starting,
        Replaying,
        ReplayStalled,
        VersionMismatch,
        ReplayVersionMismatch,
        DamagedStreams,
        NotCaughtUp,
        FlushFailed,
        EngineRestarted,
        Soaking,
        /// An engine refused the configuration.
        ConfigRefused,
        /// It did not pass a gate before, and is not tried again by itself.
        ConfigRejected,
        /// A gate failed and a person decides.
        ConfigHeld,
        ConfigLoading,
        EngineRestarting,
        Observing,
        HydrationBacklog,
        /// A change that keeps records for less is announced first.
        RetentionNotice,
        /// Readers wait for Tier 2, and the change raises Tier 0 alone.
        RaiseTier1First,
        ApplyFailed,
    }
}
