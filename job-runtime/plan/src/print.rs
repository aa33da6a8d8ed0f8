//! Printing a plan for people: as a tree, and as a Mermaid diagram.
//!
//! Both show every stage with its source, the steps of each chain with their expressions, where state is kept and by
//! which key, and which internal topics lie between stages.

use std::fmt::Write;

use crate::{
    Aggregate, Chain, Changes, Column, Emits, Expr, GroupAggregate, Input, OrderBy, Output, Plan, ProjectedColumn,
    Rank, RepartitionSource, Stage, Step, TopicSink, TopicSource, Window, WindowAggregate,
};

/// The plan as an indented tree, one line a fact, with a newline at its end.
#[must_use]
pub fn tree(plan: &Plan) -> String {
    let mut text = format!(
        "plan {}: {}, internal topics of {} partitions\n",
        plan.fingerprint(),
        counted(plan.stages.len(), "stage"),
        plan.max_parallelism
    );
    for stage in &plan.stages {
        tree_stage(&mut text, stage);
    }
    text
}

/// The plan as a Mermaid flowchart: a box for each topic and stage, an arrow for each flow of records.
#[must_use]
pub fn mermaid(plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    for stage in &plan.stages {
        let node = node(&stage.id);
        match &stage.input {
            Input::Topic(source) => {
                line(&mut text, 1, &format!("{}[({})] --> {node}", topic_node(&source.topic), quoted(&source.topic)));
            }
            Input::Repartition(source) => {
                let (topic, name) = (topic_node(&source.operator), quoted(&format!("repartition {}", source.operator)));
                line(&mut text, 1, &format!("{topic}[({name})] --> {node}"));
            }
        }
        let steps: Vec<String> = stage.chains.iter().flat_map(|chain| chain.steps.iter().map(summary)).collect();
        let label = std::iter::once(format!("stage {}", stage.id)).chain(steps).collect::<Vec<_>>().join("<br/>");
        line(&mut text, 1, &format!("{node}[{}]", quoted(&label)));
        for chain in &stage.chains {
            match &chain.output {
                Output::Topic(sink) => {
                    line(&mut text, 1, &format!("{node} --> {}[({})]", topic_node(&sink.topic), quoted(&sink.topic)));
                }
                Output::Repartition { operator, .. } => {
                    let name = quoted(&format!("repartition {operator}"));
                    line(&mut text, 1, &format!("{node} --> {}[({name})]", topic_node(operator)));
                }
            }
        }
    }
    text
}

fn tree_stage(text: &mut String, stage: &Stage) {
    line(text, 0, &format!("stage {}", stage.id));
    match &stage.input {
        Input::Topic(source) => tree_topic(text, source),
        Input::Repartition(RepartitionSource { operator, from_stage, columns, format_version }) => {
            line(
                text,
                1,
                &format!("reads the internal topic of {operator} (v{format_version}), written by stage {from_stage}"),
            );
            line(text, 2, &format!("columns {}", names_and_types(columns)));
        }
    }
    for chain in &stage.chains {
        tree_chain(text, chain);
    }
}

fn tree_topic(text: &mut String, source: &TopicSource) {
    let TopicSource { table, topic, format, columns, key, key_trusted, event_time } = source;
    line(text, 1, &format!("reads {table} (topic {topic}, {})", format.name()));
    line(text, 2, &format!("columns {}", names_and_types(columns)));
    if !key.is_empty() {
        let trust = if *key_trusted { "placed by Murmur2, trusted for grouping" } else { "not trusted for grouping" };
        line(text, 2, &format!("key {} ({trust})", key.join(", ")));
    }
    match event_time {
        Some(event_time) => {
            let idle =
                event_time.idle_timeout_ms.map_or_else(|| "never".to_owned(), |ms| format!("after {}", duration(ms)));
            let disorder = duration(event_time.max_out_of_orderness_ms);
            line(text, 2, &format!("event time {}, up to {disorder} out of order, idle {idle}", event_time.column));
        }
        None => line(text, 2, "event time is the record's timestamp"),
    }
}

fn tree_chain(text: &mut String, chain: &Chain) {
    line(text, 1, &format!("statement {}", chain.statement + 1));
    for step in &chain.steps {
        match step {
            Step::Filter { predicate } => line(text, 2, &format!("filter {predicate}")),
            Step::Project { columns } => line(text, 2, &format!("project {}", projection(columns))),
            Step::WindowAggregate(aggregate) => {
                line(text, 2, &format!("aggregate {} {}", aggregate.id, grouping(aggregate)));
                tree_aggregates(text, &aggregate.aggregates);
                tree_state(text, aggregate);
            }
            Step::WindowCombine(aggregate) => {
                line(text, 2, &format!("combine for {} {}", aggregate.id, grouping(aggregate)));
                tree_aggregates(text, &aggregate.aggregates);
            }
            Step::WindowMerge(aggregate) => {
                line(text, 2, &format!("merge {} {}", aggregate.id, grouping(aggregate)));
                tree_aggregates(text, &aggregate.aggregates);
                tree_state(text, aggregate);
            }
            Step::GroupAggregate(group) => {
                line(text, 2, &format!("aggregate {} by {}", group.id, names(&group.group_columns)));
                tree_aggregates(text, &group.aggregates);
                tree_group_state(text, group);
            }
            Step::GroupCombine(group) => {
                line(text, 2, &format!("combine for {} by {}", group.id, names(&group.group_columns)));
                tree_aggregates(text, &group.aggregates);
            }
            Step::Rank(rank) => {
                line(text, 2, &ranking(&format!("rank {}", rank.id), rank));
                tree_rank_state(text, rank);
            }
            Step::RankCombine(rank) => line(text, 2, &ranking(&format!("combine for {}", rank.id), rank)),
            Step::RankMerge(rank) => {
                line(text, 2, &ranking(&format!("merge {}", rank.id), rank));
                tree_rank_state(text, rank);
            }
            Step::GroupMerge(group) => {
                line(text, 2, &format!("merge {} by {}", group.id, names(&group.group_columns)));
                tree_aggregates(text, &group.aggregates);
                tree_group_state(text, group);
            }
        }
    }
    match &chain.output {
        Output::Topic(TopicSink { table, topic, format, columns, key, changes }) => {
            let names: Vec<&str> =
                key.iter().filter_map(|at| columns.get(*at)).map(|column| column.name.as_str()).collect();
            let key = if names.is_empty() { "no key".to_owned() } else { format!("key {}", names.join(", ")) };
            let how = match changes {
                Changes::Append => "writes",
                Changes::Upsert => "upserts",
                Changes::Log => "shows changes as",
            };
            line(text, 2, &format!("{how} {table} (topic {topic}, {}, {key})", format.name()));
        }
        Output::Repartition { operator, key, columns, format_version } => {
            let names: Vec<&str> =
                key.iter().filter_map(|at| columns.get(*at)).map(|column| column.name.as_str()).collect();
            let key =
                if names.is_empty() { "all to one partition".to_owned() } else { format!("by {}", names.join(", ")) };
            line(text, 2, &format!("repartitions for {operator} (v{format_version}) {key}"));
        }
    }
}

fn tree_state(text: &mut String, aggregate: &WindowAggregate) {
    let (version, names) = (aggregate.state_version, group_names(aggregate));
    let pane = match aggregate.window {
        Window::Tumble { .. } => "window".to_owned(),
        Window::Session { .. } => "session".to_owned(),
        window => format!("pane of {}", duration(window.pane_ms())),
    };
    line(text, 3, &format!("state v{version} by {names} and {pane}"));
}

fn ranking(verb: &str, rank: &Rank) -> String {
    let by = |by: &OrderBy| {
        let nulls = match (by.descending, by.nulls_first) {
            (false, false) => " NULLS LAST",
            (true, true) => " NULLS FIRST",
            _ => "",
        };
        format!("{}{}{nulls}", by.name, if by.descending { " DESC" } else { "" })
    };
    let order: Vec<String> = rank.order.iter().map(by).collect();
    let rows = if rank.limit == 1 { "the first row".to_owned() } else { format!("the first {} rows", rank.limit) };
    let whose = if rank.partition_columns.is_empty() {
        "of all".to_owned()
    } else {
        format!("for each {}", names(&rank.partition_columns))
    };
    format!("{verb}: {rows} by {} {whose}", order.join(", "))
}

fn tree_rank_state(text: &mut String, rank: &Rank) {
    let what = match rank.emits {
        Emits::First => "gives a row once, when the watermark has passed its time",
        Emits::Latest => "gives the rows that are first now and were not, once an epoch",
        Emits::Changes => "gives the rows that are first now and were not, once an epoch, after those before them",
    };
    line(text, 3, what);
    line(text, 3, &format!("keeps {}", names_and_types(&rank.kept_columns)));
    let key = names(&rank.partition_columns);
    line(text, 3, &format!("state v{} by {key}, {}", rank.state_version, kept_for(rank.state_ttl_ms, "key")));
}

fn kept_for(ttl_ms: Option<i64>, whose: &str) -> String {
    ttl_ms.map_or_else(
        || "kept for ever".to_owned(),
        |ttl| format!("kept {} after a {whose}'s last record", duration(ttl)),
    )
}

fn tree_group_state(text: &mut String, group: &GroupAggregate) {
    let what = match group.emits {
        Emits::First => "gives each group once, when it is new",
        Emits::Latest => "gives the groups that changed, once an epoch",
        Emits::Changes => "gives the groups that changed, once an epoch, after their rows before",
    };
    line(text, 3, what);
    let kept = kept_for(group.state_ttl_ms, "group");
    line(text, 3, &format!("state v{} by {}, {kept}", group.state_version, names(&group.group_columns)));
}

fn tree_aggregates(text: &mut String, aggregates: &[Aggregate]) {
    for call in aggregates {
        line(text, 3, &format!("{} {}", call.name, call.data_type));
    }
}

/// One step in a few words, for a box.
fn summary(step: &Step) -> String {
    match step {
        Step::Filter { predicate } => format!("filter {}", shortened(&predicate.to_string())),
        Step::Project { columns } => format!("project {}", counted(columns.len(), "column")),
        Step::WindowAggregate(aggregate) => format!("aggregate {}", grouping(aggregate)),
        Step::WindowCombine(aggregate) => format!("combine {}", grouping(aggregate)),
        Step::WindowMerge(aggregate) => format!("merge {}", grouping(aggregate)),
        Step::GroupAggregate(group) => format!("aggregate by {}", names(&group.group_columns)),
        Step::GroupCombine(group) => format!("combine by {}", names(&group.group_columns)),
        Step::GroupMerge(group) => format!("merge by {}", names(&group.group_columns)),
        Step::Rank(rank) => ranking("rank", rank),
        Step::RankCombine(rank) => ranking("combine", rank),
        Step::RankMerge(rank) => ranking("merge", rank),
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let start: String = text.chars().take(MOST - 1).collect();
    format!("{start}…")
}

fn grouping(aggregate: &WindowAggregate) -> String {
    format!("by {} in {}", group_names(aggregate), window(aggregate.window))
}

fn group_names(aggregate: &WindowAggregate) -> String {
    names(&aggregate.group_columns)
}

fn names(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn window(window: Window) -> String {
    let (kind, offset_ms) = match window {
        Window::Tumble { size_ms, offset_ms } => (format!("tumbling windows of {}", duration(size_ms)), offset_ms),
        Window::Hop { size_ms, slide_ms, offset_ms } => {
            (format!("hopping windows of {} every {}", duration(size_ms), duration(slide_ms)), offset_ms)
        }
        Window::Cumulate { size_ms, step_ms, offset_ms } => {
            (format!("cumulating windows of {} by {}", duration(size_ms), duration(step_ms)), offset_ms)
        }
        Window::Session { gap_ms } => (format!("sessions with gaps up to {}", duration(gap_ms)), 0),
    };
    if offset_ms == 0 { kind } else { format!("{kind} shifted by {}", duration(offset_ms)) }
}

/// A duration in the largest unit that gives a whole number.
fn duration(ms: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let unit = UNITS.iter().find(|(unit, _)| ms != 0 && ms % unit == 0);
    unit.map_or_else(|| format!("{ms} ms"), |(unit, name)| format!("{} {name}", ms / unit))
}

fn projection(columns: &[ProjectedColumn]) -> String {
    let column = |column: &ProjectedColumn| match &column.expr {
        Expr::Column { name, .. } if *name == column.name => name.clone(),
        expr => {
            let text = expr.to_string();
            if text == column.name { text } else { format!("{text} AS {}", column.name) }
        }
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

fn names_and_types(columns: &[Column]) -> String {
    let column = |column: &Column| {
        let required = if column.required { " required" } else { "" };
        format!("{} {}{required}", column.name, column.data_type)
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn line(text: &mut String, depth: usize, content: &str) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{:indent$}{content}", "", indent = depth * 2);
}

fn node(id: &str) -> String {
    format!("stage_{}", id.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

fn topic_node(name: &str) -> String {
    format!("topic_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

/// A label: quotes and what Mermaid would read as markup are written as entities.
fn quoted(text: &str) -> String {
    let mut label = String::with_capacity(text.len() + 2);
    label.push('"');
    for (at, part) in text.split("<br/>").enumerate() {
        if at > 0 {
            label.push_str("<br/>");
        }
        for c in part.chars() {
            match c {
                '"' => label.push_str("#quot;"),
                '<' => label.push_str("#lt;"),
                '>' => label.push_str("#gt;"),
                '#' => label.push_str("#35;"),
                c => label.push(c),
            }
        }
    }
    label.push('"');
    label
}
