//! `freshet validate` and the API server agree: whatever the one refuses for a resource's shape or by a rule, the
//! other refuses too.

use std::collections::BTreeSet;

use freshet_e2e::scenario::cluster::{Manifest, Verdict};

use crate::{api_server, cases};

/// The cases that only `freshet validate` can refuse, by what an API server does not look at.
const ONLY_VALIDATE: &[(&str, &[&str])] = &[
    ("it takes null for a field that is left out", &["null"]),
    ("its pattern counts the digits of a port, and can't compare it", &["a port that is none"]),
    ("`kubectl` sends what is in a List, and not the List", &["items of a List are resources too"]),
    (
        "it looks at one resource at a time",
        &[
            "dead letters to a topic that is not there",
            "dead letters by the topic's name in Kafka",
            "dead letters, and no topic at all",
            "a topic for dead letters that gets none",
            "two resources of one name",
            "two Topics of one Kafka topic",
            "a Topic's own name is another's Kafka topic",
            "two StreamJobs",
            "a Topic of another namespace",
            "no StreamJob",
        ],
    ),
];

#[test]
fn what_validate_refuses_the_api_server_refuses() {
    let kubernetes = api_server();
    kubernetes.apply("default", "{apiVersion: v1, kind: Namespace, metadata: {name: payments}}").unwrap();
    let files = [
        include_str!("../../../job-runtime/src/manifest/cases/topic.yaml"),
        include_str!("../../../job-runtime/src/manifest/cases/streamjob.yaml"),
        include_str!("../../../job-runtime/src/manifest/cases/between.yaml"),
        include_str!("../../../job-runtime/src/manifest/cases/documents.yaml"),
    ];
    let excused: BTreeSet<&str> = ONLY_VALIDATE.iter().flat_map(|(_, titles)| titles.iter().copied()).collect();
    let mut left = excused.clone();
    let mut wrong = Vec::new();
    let mut refused = 0;
    for (title, text) in files.into_iter().flat_map(cases) {
        let mut accepted = Vec::new();
        for manifest in Manifest::split(&text) {
            // `kubectl` sends the items of a List, and not the List.
            if manifest.kind != "List" {
                accepted.push(matches!(kubernetes.judge(&manifest).unwrap(), Verdict::Accepted));
            }
        }
        let all = accepted.iter().all(|accepted| *accepted);
        left.remove(title.as_str());
        match (all, excused.contains(title.as_str())) {
            (true, false) => wrong.push(format!("{title}: the API server accepts it")),
            (false, true) => {
                wrong.push(format!("{title}: the API server refuses it as well now; remove it from the list"));
            }
            (false, false) => refused += 1,
            (true, true) => {}
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(left.is_empty(), "no such cases: {left:?}");
    assert!(refused >= 50, "only {refused} cases were refused");
}
