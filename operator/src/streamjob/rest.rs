//! Pure but for its memory: jobs of which all is as it should be, and what it would take to look at them as a whole again.
//!
//! A job that runs needs no pass: its children are watched, and of its workers only a change is news. So a pass that
//! found all well leaves a [`Rest`], and the next ones only ask the workers whether they are as they were, which they
//! answer without a word ([`freshet_crds::control`]). The first thing that is otherwise, or that can't be known, ends the
//! rest, and the same pass looks at everything.
//!
//! ```text
//!  whole pass, all well ─▶ rest ─┬─ time to look: workers as they were ─▶ rest
//!                                └─ another stamp, another answer, no answer, another lag, its end ─▶ whole pass
//! ```
//!
//! What a pass found can be relied on for as long as nothing that it looked at has changed: the [`Stamp`] stands for all
//! of it but the workers' answers. It is taken before the look, so that what changes meanwhile is seen by the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::facts::{Facts, WorkerFact};
use super::status::coarse;
use super::workers::Answer;

/// How long a job rests at most, ms: a pass over everything now and then costs little, and forgets nothing.
pub const LONGEST_MS: i64 = 300_000;

/// The children's kinds that are watched.
pub const KINDS: usize = 7;

/// In which state everything is that a pass looks at, but for the workers' answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The resource's version: of its spec, its status, its metadata.
    pub version: Option<String>,
    /// How often the Topics that it names have changed.
    pub topics: u64,
    /// Numbers of the last changes of its children and its pods.
    pub children: [u64; KINDS],
}

/// A job of which all is well.
#[derive(Debug)]
pub struct Rest {
    stamp: Stamp,
    until_ms: i64,
    workers: Vec<Worker>,
    lag: Lag,
    /// The most that its lag may be, ms.
    max_lag_ms: Option<u64>,
}

/// A worker as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Where it is asked.
    pub ip: String,
    /// The tag of what it said.
    pub tag: String,
}

/// What is told of a lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lag {
    step: &'static str,
    within: bool,
}

impl Lag {
    fn of(lag_ms: u64, most: Option<u64>) -> Self {
        Self { step: coarse(lag_ms), within: most.is_none_or(|most| lag_ms <= most) }
    }
}

impl Rest {
    /// The rest of a job whose workers are all well and answered. `None`: some could not be asked.
    #[must_use]
    pub fn of(facts: &Facts, stamp: Stamp) -> Option<Self> {
        let known = |fact: &WorkerFact| {
            let status = fact.status.as_ref()?.as_ref().ok()?;
            Some((Worker { ip: fact.pod.ip.clone()?, tag: status.tag() }, status.lag_ms))
        };
        let workers: Option<Vec<(Worker, u64)>> = facts.workers.iter().map(known).collect();
        let (workers, lags): (Vec<Worker>, Vec<u64>) = workers?.into_iter().unzip();
        let max_lag_ms = facts.valid.as_ref().ok().and_then(|valid| valid.max_lag_ms);
        let lag = Lag::of(lags.into_iter().max().unwrap_or(0), max_lag_ms);
        Some(Self { stamp, until_ms: facts.now_ms + LONGEST_MS, workers, lag, max_lag_ms })
    }

    /// The workers that are to be asked, unless something has changed or it is over.
    #[must_use]
    pub fn asks(&self, stamp: &Stamp, now_ms: i64) -> Option<&[Worker]> {
        (self.stamp == *stamp && now_ms < self.until_ms).then_some(self.workers.as_slice())
    }

    /// Whether it goes on, after what each worker answered.
    #[must_use]
    pub fn goes_on(&self, answers: &[Answer]) -> bool {
        let lag = |(worker, answer): (&Worker, &Answer)| match answer {
            Answer::Same { lag_ms } => Some(*lag_ms),
            // One that knows nothing of tags.
            Answer::Status(status) => (status.tag() == worker.tag).then_some(status.lag_ms),
        };
        if answers.len() != self.workers.len() {
            return false;
        }
        let lags: Option<Vec<u64>> = self.workers.iter().zip(answers).map(lag).collect();
        lags.is_some_and(|lags| Lag::of(lags.into_iter().max().unwrap_or(0), self.max_lag_ms) == self.lag)
    }
}

/// All jobs that rest, by UID.
#[derive(Debug, Default)]
pub struct Rests(Mutex<HashMap<String, Arc<Rest>>>);

impl Rests {
    /// The rest of a job.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<Arc<Rest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// A job rests from now on; or does not, or is gone.
    pub fn put(&self, uid: &str, rest: Option<Rest>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match rest {
            Some(rest) => drop(all.insert(uid.to_owned(), Arc::new(rest))),
            None => drop(all.remove(uid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use freshet_crds::control::WorkerStatus;

    use super::super::tests::{answer, running};
    use super::*;

    fn stamp() -> Stamp {
        Stamp { version: Some("7".to_owned()), topics: 3, children: [1, 2, 3, 4, 5, 6, 7] }
    }

    /// What the workers of `facts` answer who are asked with the tags that they are known by.
    fn answers(rest: &Rest, facts: &Facts) -> Vec<Answer> {
        let answer = |(known, status): (&Worker, &WorkerStatus)| {
            let same = Answer::Same { lag_ms: status.lag_ms };
            if known.tag == status.tag() { same } else { Answer::Status(Box::new(status.clone())) }
        };
        rest.workers.iter().zip(facts.answers()).map(answer).collect()
    }

    fn rest(facts: &Facts) -> Rest {
        Rest::of(facts, stamp()).expect("all answered")
    }

    #[test]
    fn a_job_rests_while_nothing_has_changed() {
        let facts = running(2);
        let rest = rest(&facts);
        assert_eq!(rest.asks(&stamp(), facts.now_ms + LONGEST_MS - 1).map(<[Worker]>::len), Some(2));
        assert_eq!(rest.asks(&stamp(), facts.now_ms + LONGEST_MS), None, "it is over");
        let others = [
            Stamp { version: Some("8".to_owned()), ..stamp() },
            Stamp { topics: 4, ..stamp() },
            Stamp { children: [1, 2, 3, 4, 5, 6, 8], ..stamp() },
        ];
        for other in others {
            assert_eq!(rest.asks(&other, facts.now_ms), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_told_of_workers_ends_a_rest_and_what_only_moves_does_not() {
        let mut facts = running(2);
        let rest = rest(&facts);
        let mut after = |change: fn(&mut WorkerStatus)| {
            change(answer(&mut facts.workers[1]));
            rest.goes_on(&answers(&rest, &facts))
        };
        assert!(after(|_| {}));
        assert!(after(|status| (status.epoch, status.lag_records, status.lag_ms) = (Some(99), 7, 900)));
        assert!(!after(|status| status.lag_ms = 1_000), "another step of the lag is told");
        assert!(after(|status| status.lag_ms = 40));
        assert!(!after(|status| status.progressing = false));
        assert!(after(|status| status.progressing = true));
        assert!(!after(|status| status.ready = false));
        assert!(!rest.goes_on(&[]), "nobody was asked");
    }

    #[test]
    fn a_lag_counts_to_the_millisecond_where_it_has_an_objective() {
        let mut facts = running(1);
        if let Ok(valid) = &mut facts.valid {
            valid.max_lag_ms = Some(700);
        }
        let rest = rest(&facts);
        assert!(rest.goes_on(&[Answer::Same { lag_ms: 700 }]));
        assert!(!rest.goes_on(&[Answer::Same { lag_ms: 701 }]));
    }

    #[test]
    fn a_worker_that_knows_no_tags_answers_in_full_and_the_job_rests_all_the_same() {
        let mut facts = running(1);
        let rest = rest(&facts);
        answer(&mut facts.workers[0]).epoch = Some(8);
        let full: Vec<Answer> = facts.answers().map(|status| Answer::Status(Box::new(status.clone()))).collect();
        assert!(rest.goes_on(&full));
    }

    #[test]
    fn who_can_not_be_asked_does_not_rest() {
        let mut facts = running(2);
        facts.workers[1].status = Some(Err("no answer".to_owned()));
        assert!(Rest::of(&facts, stamp()).is_none());
    }
}
