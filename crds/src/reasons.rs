//! Condition types and reasons, each once, with what it means and what a person does about it.
//!
//! They are part of the interface: alerts and scripts match them, so a name never changes its meaning.
//! The documentation's page of reasons is made from [`ALL`].

/// Condition types, as kstatus reads them.
pub mod condition {
    /// The resource does what its spec says.
    pub const READY: &str = "Ready";
    /// Something is being done, or is waited for, that may heal by itself.
    pub const RECONCILING: &str = "Reconciling";
    /// A person must change something.
    pub const STALLED: &str = "Stalled";
    /// The lag keeps to `slo.maxLag`; there only where one is set.
    pub const LAG_WITHIN_OBJECTIVE: &str = "LagWithinObjective";
}

/// What a reason is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All is well.
    Good,
    /// It may pass without anybody's doing.
    Passing,
    /// A person must act.
    Stalled,
}

/// A reason of a condition, a problem of a worker, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// CamelCase, as it stands in a condition.
    pub name: &'static str,
    /// Which conditions it goes with.
    pub kind: Kind,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

macro_rules! reasons {
    ($($constant:ident = $name:literal, $kind:ident, $meaning:literal, $remedy:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $constant: Reason = Reason { name: $name, kind: Kind::$kind, meaning: $meaning, remedy: $remedy };
        )*

        /// All of them, grouped by what they are about.
        pub const ALL: &[Reason] = &[$($constant),*];
    };
}

reasons! {
    RUNNING = "Running", Good,
        "The job runs: epochs commit and its lag is within bounds.",
        "Nothing.";
    IN_SYNC = "InSync", Good,
        "The Kafka topic is as the Topic says.",
        "Nothing.";
    PREFLIGHT_PASSED = "PreflightPassed", Good,
        "The job can run as its manifests say: plan, state, store, brokers, topics and rights were looked at.",
        "Nothing.";

    OBSERVED = "Observed", Good,
        "The Kafka topic is there and as the Topic says; managementPolicy is Observe, so nothing is written to it.",
        "Nothing.";
    SUSPENDED = "Suspended", Good,
        "The job has no workers, as spec.state asks; its state is kept.",
        "Set spec.state to Running and it goes on where it stopped.";
    LAG_WITHIN_BOUNDS = "LagWithinBounds", Good,
        "No record waits longer than spec.slo.maxLag.",
        "Nothing.";
    LAG_BEYOND_BOUNDS = "LagBeyondBounds", Passing,
        "Records wait longer than spec.slo.maxLag.",
        "Wait where the job catches up; else give it more replicas, or look for what slows it down.";

    LAG_UNKNOWN = "LagUnknown", Passing,
        "Whether records wait longer than spec.slo.maxLag is not known: workers can't be asked, or have no tasks yet.",
        "Look at the condition Ready, which says why.";

    TOPIC_NOT_READY = "TopicNotReady", Passing,
        "A Topic that the job names is not ready, or not there yet.",
        "Look at the Topic that the message names; the job goes on by itself.";
    PREFLIGHT_RUNNING = "PreflightRunning", Passing,
        "A Job looks whether the spec can run: state, store, brokers, topics, rights. Nothing that runs is touched before.",
        "Wait. If it lasts, the message says what keeps its pod.";
    PREFLIGHT_FAILED = "PreflightFailed", Passing,
        "The Job that looks whether the spec can run ended without an answer.",
        "It is tried again; the message has its last words.";
    TAKING_OVER = "TakingOver", Passing,
        "Workers take over the next generation: another plan, or other settings.",
        "Wait.";
    RESTARTING = "Restarting", Passing,
        "Workers are restarted one after another: other brokers, another store, another template, or spec.restartNonce.",
        "Wait. If it lasts, look at the pods.";
    SUSPENDING = "Suspending", Passing,
        "Workers commit a last epoch and end, since spec.state asks for it.",
        "Wait.";
    DELETING = "Deleting", Passing,
        "The resource is deleted: its workers commit a last epoch and end.",
        "Wait; past its deadline it goes anyway.";
    WORKERS_NOT_READY = "WorkersNotReady", Passing,
        "Workers are missing, restart, or don't hold their tasks.",
        "Wait. If it lasts, look at the pods that the message names.";
    WORKER_UNREACHABLE = "WorkerUnreachable", Passing,
        "A worker's pod runs, but the operator can't ask it how it is.",
        "Check network policies between the operator and the job's pods; output is not known to be affected.";
    API_REFUSED = "ApiRefused", Passing,
        "The API server refuses, or fails, what the operator must write.",
        "The message has its words: most often a quota, an admission policy, or rights of the operator.";
    IMAGE_PULL_BACK_OFF = "ImagePullBackOff", Passing,
        "A pod's image can't be pulled; kubelet tries again.",
        "Check the image's name, the registry, and the pull secret.";
    ERR_IMAGE_PULL = "ErrImagePull", Passing,
        "A pod's image can't be pulled.",
        "Check the image's name, the registry, and the pull secret.";
    ERR_IMAGE_NEVER_PULL = "ErrImageNeverPull", Passing,
        "A pod's image is not on its node, and may not be pulled.",
        "Bring the image to the nodes, or change the operator's --image-pull-policy.";
    INVALID_IMAGE_NAME = "InvalidImageName", Passing,
        "A pod's image has a name that is none.",
        "Correct the operator's --runtime-image.";
    CREATE_CONTAINER_CONFIG_ERROR = "CreateContainerConfigError", Passing,
        "A pod names a Secret or a key that is not there.",
        "Make what the message names; the pod goes on by itself.";
    CREATE_CONTAINER_ERROR = "CreateContainerError", Passing,
        "A pod's container can't be made.",
        "The message has the node's words.";
    CRASH_LOOP_BACK_OFF = "CrashLoopBackOff", Passing,
        "A pod's container ends again and again.",
        "Look at its log: kubectl logs --previous.";
    OOM_KILLED = "OOMKilled", Passing,
        "A pod's container used more memory than its limit.",
        "Raise spec.template.resources.limits, or spread the job over more replicas.";
    UNSCHEDULABLE = "Unschedulable", Passing,
        "No node takes a pod.",
        "The message has the scheduler's words: resources, selectors, taints.";
    FAILED_CREATE = "FailedCreate", Passing,
        "Kubernetes can't make a pod of the job: a quota, a ServiceAccount that is not there, an admission policy.",
        "The message has Kubernetes' own words; change what they name, and the pod is made within seconds.";
    EVICTED = "Evicted", Passing,
        "A node removed a pod to save itself.",
        "Give the workers requests that they keep to (spec.template.resources).";

    STARTING = "Starting", Passing,
        "Workers start, take their tasks over and load state; no epoch has committed yet.",
        "Wait. If it lasts, look at the workers' logs.";
    RESCALING = "Rescaling", Passing,
        "Tasks move between workers under a new generation of the assignment.",
        "Wait.";
    TAKE_OVER_PENDING = "TakeOverPending", Passing,
        "A generation must be taken over by a worker before the next one can be handed out.",
        "Wait; it takes seconds. If it lasts, no worker runs, or none can take over: look at what they say.";
    EPOCHS_NOT_COMMITTING = "EpochsNotCommitting", Passing,
        "Workers run, but no epoch has committed for longer than it should take: output, offsets and state stand still.",
        "The message names the worker and its last epoch. Most often Kafka or the object store is slow: the worker's log and freshet_epoch_duration_seconds tell which step takes long.";
    KAFKA_UNAVAILABLE = "KafkaUnavailable", Passing,
        "The Kafka cluster can't be reached or does not answer in time.",
        "Check spec.kafka.bootstrapServers, the network and the brokers; work goes on by itself once they answer.";
    CREATING = "Creating", Passing,
        "The Kafka topic is being made.",
        "Wait.";
    APPLYING = "Applying", Passing,
        "Kafka took a change of the topic, but does not show it yet.",
        "Wait. If it lasts, look at the brokers' controller.";
    TOPIC_IN_USE = "TopicInUse", Passing,
        "The Topic is being deleted, but StreamJobs still use it.",
        "Delete the StreamJobs that the message names, or wait: after a deadline the Topic goes anyway, and the Kafka topic stays.";
    STORE_UNAVAILABLE = "StoreUnavailable", Passing,
        "The object store of spec.checkpoint.url can't be reached or fails.",
        "Check the store; work goes on by itself once it answers.";
    INPUT_BLOCKED_BY_OPEN_TRANSACTION = "InputBlockedByOpenTransaction", Passing,
        "A producer outside of the job left a transaction open on an input: nothing behind it can be read.",
        "Wait until the broker times the transaction out, or find and abort it (kafka-transactions.sh find-hanging, abort).";
    FENCED = "Fenced", Passing,
        "A newer worker holds this worker's tasks; this one has stopped.",
        "Nothing: it is how two writers are kept apart. If workers fence one another in turns, two of them run as one slot.";
    REPLACED = "Replaced", Passing,
        "The same slot was started again elsewhere; this process has ended for good.",
        "Nothing: it is how two processes of one slot are kept apart.";
    RECOVERING = "Recovering", Passing,
        "A transaction was fenced, timed out, or ended without a known outcome; the worker takes over from its last commit.",
        "Nothing. If it lasts, look at the brokers' health and at their transaction time-outs.";

    SPEC_INVALID = "SpecInvalid", Stalled,
        "The spec can't work: its SQL can't be planned, or fields contradict one another.",
        "The message names the field and the place; `freshet validate` shows all of them at once.";
    NAME_TAKEN = "NameTaken", Stalled,
        "An object that the job needs is there already, and belongs to somebody else.",
        "Rename the StreamJob, or remove the object that the message names.";
    TOPIC_NOT_FOUND = "TopicNotFound", Stalled,
        "The job names a Topic, or reads a Kafka topic, that is not there.",
        "Apply the Topic in the job's namespace, or correct the name.";
    PARTITIONS_CANNOT_SHRINK = "PartitionsCannotShrink", Stalled,
        "The Topic wants fewer partitions than the Kafka topic has; Kafka can't shrink a topic.",
        "Set spec.partitions to what the topic has or more, or make a new Topic.";
    PARTITIONS_IN_USE = "PartitionsInUse", Stalled,
        "The Topic should get more partitions, but a StreamJob keeps state by the partitions that it has.",
        "Set spec.partitions to what the topic has. To grow it, delete the job with its state first, or write to a new Topic.";
    REPLICAS_CANNOT_CHANGE = "ReplicasCannotChange", Stalled,
        "The Topic wants another number of replicas than the Kafka topic has; the operator does not move replicas.",
        "Reassign the partitions with Kafka's own tool (kafka-reassign-partitions.sh), or set spec.replicas to what is there.";
    CONFIG_REFUSED = "ConfigRefused", Stalled,
        "The broker refuses an entry of spec.config. None of the entries that differ was changed.",
        "Correct the entry that the message names.";
    TOPIC_EXISTS = "TopicExists", Stalled,
        "The Kafka topic was there before the Topic, and taking it over would change it, or its deletionPolicy would delete it.",
        "Set managementPolicy to Adopt if that is right, or change the spec to what is there; Observe leaves the topic alone.";
    TOPIC_CLAIMED = "TopicClaimed", Stalled,
        "Another, older Topic names the same Kafka topic of the same cluster.",
        "Delete one of the two, or set managementPolicy Observe on the one that only reads.";
    TOPIC_DIFFERS = "TopicDiffers", Stalled,
        "managementPolicy is Observe, and the Kafka topic is not as the Topic says.",
        "Change the spec to what is there, or have the owner of the Kafka topic change it.";
    TOPIC_DELETED = "TopicDeleted", Stalled,
        "The Kafka topic was deleted behind the operator's back. It is not made again by itself: it would be empty.",
        "To begin anew, delete the Topic and apply it again. If spec.kafka was changed to another cluster, change it back.";
    PARTITIONS_CHANGED = "PartitionsChanged", Stalled,
        "An input has another number of partitions than the job was planned for, and its state is placed by them.",
        "Start a new lineage; state that is keyed by the topic's own partitions can't be moved.";
    TOPIC_RECREATED = "TopicRecreated", Stalled,
        "The Kafka topic was deleted and made again: its records and offsets are not those that are known.",
        "Decide what its readers are to do. To take the new Kafka topic, delete the Topic (the Kafka topic stays) and apply it again; a job needs a new lineage.";
    KAFKA_REFUSED = "KafkaRefused", Stalled,
        "Kafka refuses a request as wrong: a setting that it does not know, a record that is too large, a topic that it can't make (more replicas than brokers, a policy).",
        "The message has Kafka's own words; change what they name.";
    UNAUTHORISED = "Unauthorised", Stalled,
        "Kafka or the object store refuses the job's credentials or rights.",
        "Grant what the message names; work goes on by itself.";
    BAD_RECORD = "BadRecord", Stalled,
        "A record can't be decoded or breaks its Topic's contract, and errors.onBadRecord is Fail.",
        "Correct the contract, or choose Skip or DeadLetter. The message names topic, partition and offset.";
    EXPRESSION_FAILED = "ExpressionFailed", Stalled,
        "An expression of the SQL fails on a record: an overflow, a division by zero, a cast that can't be.",
        "Guard the expression (CASE, NULLIF, TRY_CAST). The same record would fail again.";
    INPUT_TRUNCATED = "InputTruncated", Stalled,
        "Kafka no longer has the records that the job would read next: retention was shorter than the job's absence.",
        "Nothing brings them back. Start a new lineage where the data begins, and raise the topic's retention.";
    OFFSETS_LOST = "OffsetsLost", Stalled,
        "State exists, but neither committed offsets nor a pointer of a clean stop: they expired or were deleted.",
        "Start a new lineage. Raise the broker's offsets.retention.minutes when a job may stand still for long.";
    FOREIGN_OFFSETS = "ForeignOffsets", Stalled,
        "Something else than the job commits offsets in one of its consumer groups.",
        "Find it by the group's name (freshet.<lineage>.<stage>) and stop it; restore the offsets, or start a new lineage.";
    START_POSITION_MISSING = "StartPositionMissing", Stalled,
        "A task that never ran has no recorded start position: the generation was not handed out by this runtime.",
        "Give spec.restoreNonce another text, with spec.restoreFrom as it is by default: the preflight then hands out the next generation, which resolves and records it (elsewhere: `freshet preflight`).";
    STATE_MISSING = "StateMissing", Stalled,
        "Committed state names an object that the store does not have, for instance because a lifecycle rule removed it.",
        "Restore the object from the bucket's versions or a backup, or start a new lineage; exempt the prefix from lifecycle rules.";
    STATE_DAMAGED = "StateDamaged", Stalled,
        "A state object fails its checksum or is not what its name says.",
        "Restore the object from the bucket's versions or a backup, or start a new lineage.";
    STATE_NEWER = "StateNewer", Stalled,
        "A newer runtime wrote the state, the generation or the plan: this one can't read them.",
        "Use that runtime's version, or a later one.";
    STATE_INCOMPATIBLE = "StateIncompatible", Stalled,
        "The plan of the SQL can't go on from the state that is there.",
        "The message names the operators. Go back to the former SQL, or start a new lineage.";
    STATE_WOULD_BE_DROPPED = "StateWouldBeDropped", Stalled,
        "The new SQL has no operator for some of the state: its results so far would be lost, and its open windows never come out.",
        "The message names the operators. Go back to the former SQL, or accept the loss by naming them in spec.upgrade.acceptDroppedState.";
    DRAINING_NEEDED = "DrainingNeeded", Stalled,
        "The new plan reads internal topics in another way than the old one writes them, so they would have to be empty first.",
        "The message names the operators. This runtime does not drain them: go back to the former SQL, or start a new lineage.";
    PLAN_UNUSABLE = "PlanUnusable", Stalled,
        "The plan of the generation can't be run by this runtime.",
        "Use the runtime's version that planned it, or hand out a generation with a plan of this one.";
    STORE_WITHOUT_CREATE_ONLY = "StoreWithoutCreateOnly", Stalled,
        "The object store ignores create-only writes (If-None-Match: *), so it can't keep two workers apart.",
        "Use a store that supports them.";
    STORE_UNUSABLE = "StoreUnusable", Stalled,
        "The bucket or folder of spec.checkpoint.url is not there, or the URL is wrong.",
        "Make it, or correct spec.checkpoint.";
    LINEAGE_OWNED_ELSEWHERE = "LineageOwnedElsewhere", Stalled,
        "The state under spec.checkpoint.url belongs to a job of another cluster or another name.",
        "Choose another URL, or stop the owner and take the lineage over by name: spec.restoreFrom {type: Lineage, lineageId: …}.";
    LINEAGE_REFUSED = "LineageRefused", Stalled,
        "The lineage can't be used as the spec asks: a field that is fixed for a lineage is another one now, or spec.restoreFrom names a lineage that is not the newest.",
        "The message names the field and its fixed value, or the lineage that is there. Set it again, name that one, or start a new lineage.";
    LINEAGE_ENDED = "LineageEnded", Passing,
        "The lineage has ended: spec.restoreFrom begins another, or the job is deleted with its state.",
        "Wait: workers go on in the lineage that follows. Nothing runs in the old one again.";
    CREDENTIALS_INVALID = "CredentialsInvalid", Stalled,
        "Credentials that were named can't be used: a file that is not there or empty, or half of a pair.",
        "The message names the file or the variable; correct the Secret.";
    INTERNAL_ERROR = "InternalError", Stalled,
        "The runtime contradicts itself: a mistake of Freshet's, not of the job's.",
        "Report it, with the message and the worker's log.";
    ASSIGNMENT_CONTRADICTED = "AssignmentContradicted", Stalled,
        "This worker was told another assignment than the one that the generation log holds under the same number.",
        "Nothing is lost: the stored one holds. Any accepted change of the spec hands out the next, another number of replicas too.";
}

/// The reason of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Reason> {
    ALL.iter().find(|reason| reason.name == name)
}

/// The page of the documentation, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Reasons\n\nGenerated from `crds/src/reasons.rs` by `crdgen`; edit that.\n\n\
         A reason stands in a resource's conditions and in what a worker says of itself. With *good* reasons \
         `Ready` is True; with *passing* ones `Reconciling` is True, and it may heal by itself; with *stalled* ones \
         `Stalled` is True, and a person must act.\n\n\
         *A new lineage* is begun on a cluster by `spec.restoreFrom: {type: None}` together with another text in \
         `spec.restoreNonce`; elsewhere by `freshet retire DIR`, which deletes the state too. It begins to read where `spec.startFrom` says, and \
         writes again what the former one has written.\n\n\
         | reason | kind | what it means | what to do |\n| --- | --- | --- | --- |\n",
    );
    for reason in ALL {
        let kind = match reason.kind {
            Kind::Good => "good",
            Kind::Passing => "passing",
            Kind::Stalled => "stalled",
        };
        page += &format!("| `{}` | {kind} | {} | {} |\n", reason.name, reason.meaning, reason.remedy);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_camel_case_and_explained() {
        for (at, reason) in ALL.iter().enumerate() {
            assert!(!ALL[..at].iter().any(|other| other.name == reason.name), "{} is there twice", reason.name);
            assert!(
                reason.name.starts_with(|c: char| c.is_ascii_uppercase())
                    && reason.name.chars().all(|c| c.is_ascii_alphanumeric()),
                "{} is not CamelCase",
                reason.name
            );
            assert!(reason.meaning.ends_with('.') && reason.remedy.ends_with('.') || reason.remedy.ends_with(')'));
            assert_eq!(find(reason.name), Some(reason));
        }
    }
}
