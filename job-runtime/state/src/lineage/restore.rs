//! Pure: which lineage a job goes on in, when its spec asks where its state comes from.
//!
//! What was asked and answered is in the records of lineages, and nowhere else: each record that answers a request
//! carries it. So an answer is given once, however often and by however many processes it is asked for, and a process
//! that comes late with an older request changes nothing.
//!
//! ```text
//! lineages/00000001  r-aa              (nobody asked)
//! lineages/00000002  r-aa  job-1, ""   job-1 goes on where a former job of its name stopped
//! lineages/00000003  r-bb  job-1, "x"  its restoreNonce became x, with restoreFrom None
//! ```
//!
//! | the newest request of this resource in the records | then |
//! | --- | --- |
//! | the same nonce | it is answered: the job goes on in the newest lineage, whatever restoreFrom says by now |
//! | another nonce, of a later generation of the resource | this one is late: nothing is done |
//! | another nonce, of an earlier generation; or none | it is answered by restoreFrom |
//!
//! A request of a resource that is older than the one that asked last under the same name is late as well.

use serde::{Deserialize, Serialize};

use super::records::{LineageRecord, Owner};
use super::{LineageError, check_owner};

/// A request: which resource asks, and what makes this request another one than those before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The resource's UID: one that was deleted and applied again is another.
    pub by: String,
    /// When the resource was made, ms since the Unix epoch.
    pub made_at_ms: i64,
    /// Its generation: a later one holds what was asked later.
    pub generation: i64,
    /// `restoreNonce`.
    pub nonce: String,
}

/// `restoreFrom`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RestoreFrom {
    /// The lineage that is there.
    #[default]
    Latest,
    /// None: a new one.
    Nothing,
    /// The one of this id.
    Lineage(String),
}

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was answered before: the newest lineage, which is alive.
    GoOn,
    /// With the newest lineage, which is alive; a record says that this was asked, and whose the lineage is now.
    Take,
    /// With a new lineage. One that is alive is ended first: a tombstone, all of its ids fenced, and only then the record
    /// of the new one.
    BeginAnew,
}

/// Answers `asked`. `records` are the job's, newest first; `ended`: whether the newest lineage has ended.
///
/// # Errors
/// [`LineageError`]: the lineage is somebody else's, is not the one that is named, or the request comes late.
pub fn answer(
    records: &[LineageRecord],
    ended: bool,
    owner: &Owner,
    asked: &Asked,
    from: &RestoreFrom,
) -> Result<Answer, LineageError> {
    let Some(newest) = records.first() else {
        return match from {
            RestoreFrom::Lineage(wanted) => not_newest(wanted, "none"),
            RestoreFrom::Latest | RestoreFrom::Nothing => Ok(Answer::BeginAnew),
        };
    };
    let overtaken = |by: &Asked| LineageError::Overtaken { lineage: newest.lineage.clone(), by: by.by.clone() };
    if let Some(last) = &newest.asked
        && last.by != asked.by
        && newest.owner == *owner
        && last.made_at_ms > asked.made_at_ms
    {
        return Err(overtaken(last));
    }
    let ours = records.iter().filter_map(|record| record.asked.as_ref()).find(|last| last.by == asked.by);
    if ours.is_some_and(|ours| ours.nonce == asked.nonce) {
        check_owner(newest, owner)?;
        return Ok(if ended { Answer::BeginAnew } else { Answer::GoOn });
    }
    if let Some(ours) = ours.filter(|ours| ours.generation > asked.generation) {
        return Err(overtaken(ours));
    }
    match from {
        RestoreFrom::Lineage(wanted) if ended => not_newest(wanted, "none: the last one has ended"),
        RestoreFrom::Lineage(wanted) if *wanted == newest.lineage => Ok(Answer::Take),
        RestoreFrom::Lineage(wanted) => not_newest(wanted, &newest.lineage),
        RestoreFrom::Nothing => check_owner(newest, owner).map(|()| Answer::BeginAnew),
        RestoreFrom::Latest => {
            check_owner(newest, owner).map(|()| if ended { Answer::BeginAnew } else { Answer::Take })
        }
    }
}

fn not_newest(wanted: &str, newest: &str) -> Result<Answer, LineageError> {
    Err(LineageError::NotNewest { wanted: wanted.to_owned(), newest: newest.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(cluster: &str) -> Owner {
        Owner { cluster: cluster.to_owned(), namespace: "shop".to_owned(), name: "fraud".to_owned() }
    }

    fn asked(by: &str, generation: i64, nonce: &str) -> Asked {
        Asked { by: by.to_owned(), made_at_ms: 1_000, generation, nonce: nonce.to_owned() }
    }

    fn record(lineage: &str, cluster: &str, asked: Option<Asked>) -> LineageRecord {
        LineageRecord { lineage: lineage.to_owned(), owner: owner(cluster), created_at_ms: 0, previous: None, asked }
    }

    fn named(id: &str) -> RestoreFrom {
        RestoreFrom::Lineage(id.to_owned())
    }

    #[test]
    fn what_was_never_answered_is_answered_by_restore_from() {
        let there = [record("r-a", "one", None)];
        let new = asked("job-1", 1, "");
        let by =
            |from: &RestoreFrom, records: &[LineageRecord], ended| answer(records, ended, &owner("one"), &new, from);
        assert_eq!(by(&RestoreFrom::Latest, &[], false), Ok(Answer::BeginAnew));
        assert_eq!(by(&RestoreFrom::Nothing, &[], false), Ok(Answer::BeginAnew));
        assert!(
            matches!(by(&named("r-a"), &[], false), Err(LineageError::NotNewest { .. })),
            "it never begins another"
        );
        assert_eq!(by(&RestoreFrom::Latest, &there, false), Ok(Answer::Take));
        assert_eq!(by(&RestoreFrom::Latest, &there, true), Ok(Answer::BeginAnew));
        assert_eq!(by(&RestoreFrom::Nothing, &there, false), Ok(Answer::BeginAnew));
        assert_eq!(by(&named("r-a"), &there, false), Ok(Answer::Take));
        let other = by(&named("r-b"), &there, false);
        assert_eq!(other, Err(LineageError::NotNewest { wanted: "r-b".into(), newest: "r-a".into() }));
        assert!(matches!(by(&named("r-a"), &there, true), Err(LineageError::NotNewest { .. })), "it is over");
    }

    #[test]
    fn an_answer_is_given_once_whatever_restore_from_says_later() {
        let there = [record("r-b", "one", Some(asked("job-1", 4, "x"))), record("r-a", "one", None)];
        for from in [RestoreFrom::Latest, RestoreFrom::Nothing, named("r-zzz")] {
            let again = answer(&there, false, &owner("one"), &asked("job-1", 9, "x"), &from);
            assert_eq!(again, Ok(Answer::GoOn), "{from:?}");
        }
        let over = answer(&there, true, &owner("one"), &asked("job-1", 9, "x"), &RestoreFrom::Latest);
        assert_eq!(over, Ok(Answer::BeginAnew), "the lineage ended otherwise");
        let once_more = answer(&there, false, &owner("one"), &asked("job-1", 9, "y"), &RestoreFrom::Nothing);
        assert_eq!(once_more, Ok(Answer::BeginAnew), "another nonce asks once more");
        // The same text may come back: it is asked later than the one between.
        let back = [record("r-c", "one", Some(asked("job-1", 9, "y"))), there[0].clone()];
        let back = answer(&back, false, &owner("one"), &asked("job-1", 11, "x"), &RestoreFrom::Nothing);
        assert_eq!(back, Ok(Answer::BeginAnew));
    }

    #[test]
    fn who_comes_late_changes_nothing() {
        let there = [record("r-b", "one", Some(asked("job-1", 4, "y"))), record("r-a", "one", None)];
        let late = answer(&there, false, &owner("one"), &asked("job-1", 3, "x"), &RestoreFrom::Nothing);
        assert!(matches!(&late, Err(LineageError::Overtaken { lineage, .. }) if lineage == "r-b"), "{late:?}");
        // A resource of this name that was deleted before the present one was made.
        let former = Asked { made_at_ms: 999, ..asked("job-0", 8, "x") };
        for from in [RestoreFrom::Latest, RestoreFrom::Nothing] {
            let late = answer(&there, false, &owner("one"), &former, &from);
            assert!(matches!(late, Err(LineageError::Overtaken { .. })), "{late:?}");
        }
        let mut answered = there.to_vec();
        answered.push(record("r-0", "one", Some(former.clone())));
        let late = answer(&answered, false, &owner("one"), &former, &RestoreFrom::Latest);
        assert!(matches!(late, Err(LineageError::Overtaken { .. })), "{late:?}");
    }

    #[test]
    fn another_clusters_lineage_is_taken_by_name_alone_and_once_for_each_request() {
        let theirs = [record("r-a", "one", Some(asked("job-1", 1, "")))];
        let ours = asked("job-2", 1, "");
        for from in [RestoreFrom::Latest, RestoreFrom::Nothing] {
            let refused = answer(&theirs, false, &owner("two"), &ours, &from);
            assert!(matches!(refused, Err(LineageError::OwnedElsewhere { .. })), "{refused:?}");
        }
        assert_eq!(answer(&theirs, false, &owner("two"), &ours, &named("r-a")), Ok(Answer::Take));
        let taken = [record("r-a", "two", Some(ours)), theirs[0].clone()];
        // The former owner's spec may name it too: that was answered, and it does not take it back by itself.
        let back = answer(&taken, false, &owner("one"), &asked("job-1", 5, ""), &named("r-a"));
        assert!(matches!(back, Err(LineageError::OwnedElsewhere { .. })), "{back:?}");
        let asked_anew = answer(&taken, false, &owner("one"), &asked("job-1", 6, "back"), &named("r-a"));
        assert_eq!(asked_anew, Ok(Answer::Take));
    }
}
