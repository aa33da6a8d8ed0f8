//! Pure: the conditions of a resource. All that the operator owns are computed at once, from one [`Verdict`], and
//! merged with what is there so that a transition time moves only when a status changes.
//!
//! kstatus, `kubectl wait` and alerts read them so: `Ready` says whether the resource does what its spec says,
//! `Reconciling` that something is done or waited for that may heal by itself, `Stalled` that a person must change
//! something. All three are always there. `Reconciling` and `Stalled` are never both True: kstatus would take the first
//! that it finds, and whoever waits would not hear that a person must act.

use freshet_crds::reasons::{Kind, Reason, condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// One condition, without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Whether it is so.
    pub holds: bool,
    /// Whether that is known; of what is not, nothing is said.
    pub known: bool,
    /// A constant of [`freshet_crds::reasons`], by its name.
    pub reason: String,
    /// What is, what was wanted, and what to do.
    pub message: String,
}

impl Fact {
    /// It is so.
    #[must_use]
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self { holds: true, known: true, reason: reason.to_owned(), message: message.into() }
    }

    /// It is not so.
    #[must_use]
    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self { holds: false, known: true, reason: reason.to_owned(), message: message.into() }
    }

    /// Nobody knows.
    #[must_use]
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self { known: false, ..Self::no(reason, message) }
    }
}

/// How a resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it does what its spec says, or its last good one.
    pub ready: Fact,
    /// What is done or waited for, if anything: a passing reason. Shown only where nothing is stalled.
    pub reconciling: Option<Fact>,
    /// What a person must change, if anything: a stalled reason.
    pub stalled: Option<Fact>,
    /// Conditions of the kind's own, by type.
    pub more: Vec<(&'static str, Fact)>,
}

impl Verdict {
    /// All is well.
    #[must_use]
    pub fn good(reason: &Reason, message: impl Into<String>) -> Self {
        Self { ready: Fact::yes(reason.name, message), reconciling: None, stalled: None, more: Vec::new() }
    }

    /// It does not do what its spec says, for this reason; the reason's kind says whether that may pass.
    #[must_use]
    pub fn not_ready(reason: &Reason, message: impl Into<String>) -> Self {
        Self::not_ready_because(reason.name, reason.kind, message)
    }

    /// As [`Verdict::not_ready`], with a reason that may be somebody else's.
    #[must_use]
    pub fn not_ready_because(reason: &str, kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        let fact = Some(Fact::yes(reason, message.clone()));
        let (reconciling, stalled) = if kind == Kind::Stalled { (None, fact) } else { (fact, None) };
        Self { ready: Fact::no(reason, message), reconciling, stalled, more: Vec::new() }
    }

    /// The conditions that say it, after those that are there: `old` gives the times of what did not change.
    #[must_use]
    pub fn conditions(&self, old: &[Condition], generation: i64, now: &Time) -> Vec<Condition> {
        let idle = || Fact::no(&self.ready.reason, "");
        // What passes by itself is told by Ready, too, where it keeps the resource from working.
        let reconciling = self.reconciling.clone().filter(|_| self.stalled.is_none());
        let mut facts = vec![
            (condition::READY, self.ready.clone()),
            (condition::RECONCILING, reconciling.unwrap_or_else(idle)),
            (condition::STALLED, self.stalled.clone().unwrap_or_else(idle)),
        ];
        facts.extend(self.more.iter().cloned());
        let merge = |(type_, fact): (&'static str, Fact)| {
            let status = match (fact.known, fact.holds) {
                (false, _) => "Unknown",
                (true, true) => "True",
                (true, false) => "False",
            };
            let before = old.iter().find(|condition| condition.type_ == type_);
            let kept = before.filter(|condition| condition.status == status);
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: fact.reason,
                message: limited(fact.message),
                observed_generation: Some(generation),
                last_transition_time: kept.map_or_else(|| now.clone(), |kept| kept.last_transition_time.clone()),
            }
        };
        facts.into_iter().map(merge).collect()
    }
}

/// The condition of a type, if it is there.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The condition of this type, where it is True.
#[must_use]
pub fn holding<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    find(conditions, type_).filter(|found| found.status == "True")
}

/// A message is at most 32 KiB by the API's convention; ours are kept shorter, for people.
fn limited(mut message: String) -> String {
    const MOST: usize = 2_048;
    if message.len() > MOST {
        let end = (0..=MOST - 4).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use freshet_crds::reasons::{RUNNING, SPEC_INVALID, STARTING};

    use super::*;
    use crate::clock::time;

    fn summary(conditions: &[Condition]) -> Vec<(String, String, String, i64)> {
        let line = |condition: &Condition| {
            let at = crate::clock::millis(&condition.last_transition_time);
            (condition.type_.clone(), condition.status.clone(), condition.reason.clone(), at)
        };
        conditions.iter().map(line).collect()
    }

    fn row(type_: &str, status: &str, reason: &str, at: i64) -> (String, String, String, i64) {
        (type_.to_owned(), status.to_owned(), reason.to_owned(), at)
    }

    #[test]
    fn transition_times_move_only_with_the_status() {
        let first = Verdict::not_ready(&STARTING, "a").conditions(&[], 1, &time(1_000));
        assert_eq!(
            summary(&first),
            vec![
                row("Ready", "False", "Starting", 1_000),
                row("Reconciling", "True", "Starting", 1_000),
                row("Stalled", "False", "Starting", 1_000),
            ]
        );
        let second = Verdict::not_ready(&SPEC_INVALID, "b").conditions(&first, 2, &time(2_000));
        assert_eq!(
            summary(&second),
            vec![
                row("Ready", "False", "SpecInvalid", 1_000),
                row("Reconciling", "False", "SpecInvalid", 2_000),
                row("Stalled", "True", "SpecInvalid", 2_000),
            ]
        );
        let third = Verdict::good(&RUNNING, "c").conditions(&second, 2, &time(3_000));
        assert_eq!(Verdict::good(&RUNNING, "c").conditions(&third, 2, &time(9_000)), third, "nothing changed");
        assert_eq!(third[0].observed_generation, Some(2));
    }

    #[test]
    fn what_a_person_must_change_hides_what_passes() {
        let both = Verdict { stalled: Some(Fact::yes(SPEC_INVALID.name, "b")), ..Verdict::not_ready(&STARTING, "a") };
        assert_eq!(
            summary(&both.conditions(&[], 1, &time(0))),
            vec![
                row("Ready", "False", "Starting", 0),
                row("Reconciling", "False", "Starting", 0),
                row("Stalled", "True", "SpecInvalid", 0),
            ]
        );
    }

    #[test]
    fn long_messages_end_at_a_character() {
        let fact = Verdict::not_ready(&STARTING, "é".repeat(4_000)).conditions(&[], 1, &time(0));
        assert!(fact[0].message.ends_with('…') && fact[0].message.len() <= 2_048);
    }
}
