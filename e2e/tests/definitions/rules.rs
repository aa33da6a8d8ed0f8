//! Every CEL rule, broken once: the API server refuses with the rule's own message at the rule's own field.

use freshet_crds::rules::ALL;
use freshet_e2e::scenario::cluster::{Manifest, Verdict};

use crate::{api_server, cases};

/// What must be in the answer: behind `#!`, anywhere in a case.
fn wanted(case: &str) -> Vec<&str> {
    case.lines().filter_map(|line| line.split_once("#! ")).map(|(_, text)| text.trim()).collect()
}

#[test]
fn every_rule_is_enforced_with_its_message() {
    let kubernetes = api_server();
    let mut broken: Vec<String> = Vec::new();
    let mut wrong = Vec::new();
    for (title, text) in cases(include_str!("refused.yaml")) {
        let manifests = Manifest::split(&text);
        let verdict = match &manifests[..] {
            [created] => kubernetes.judge(created).unwrap(),
            // The second is what the first shall become.
            [first, then] => {
                let made = kubernetes.submit(first).unwrap();
                assert!(matches!(made, Verdict::Accepted), "{title}: the first is {}", made.said());
                let name =
                    then.text.split("name: ").nth(1).and_then(|rest| rest.split([',', '}', '\n']).next()).unwrap();
                kubernetes.judge_change(then, name).unwrap()
            }
            _ => panic!("{title}: one manifest, or two"),
        };
        let said = verdict.said();
        for text in wanted(&text) {
            if !said.contains(text) {
                wrong.push(format!("{title}: wanted `{text}`, and the server said {said}"));
            }
        }
        if matches!(verdict, Verdict::Accepted) {
            wrong.push(format!("{title}: accepted"));
        }
        broken.push(said);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let silent: Vec<_> =
        ALL.iter().filter(|(_, _, rule)| !broken.iter().any(|said| said.contains(rule.message))).collect();
    assert!(silent.is_empty(), "no case of refused.yaml breaks these rules: {silent:#?}");
}
