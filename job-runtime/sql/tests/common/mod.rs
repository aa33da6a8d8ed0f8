//! A catalogue for the tests, and short ways to plan over it.
#![allow(dead_code, reason = "each test file uses a part of this room")]

use freshet_plan::{Column, EventTime, Format, Plan};
use freshet_sql::{Catalog, PlanOptions, SqlError, Table};

/// A table from lines of `name TYPE [required]`.
pub fn table(name: &str, key: &[&str], columns: &[&str]) -> Table {
    let column = |text: &&str| {
        let (text, required) = text.strip_suffix(" required").map_or((*text, false), |text| (text, true));
        let (name, data_type) = text.split_once(' ').expect(text);
        Column { name: name.to_owned(), data_type: data_type.parse().expect(text), required }
    };
    let columns: Vec<Column> = columns.iter().map(column).collect();
    let event_time = columns.iter().find(|column| column.name == "ts").map(|column| EventTime {
        column: column.name.clone(),
        max_out_of_orderness_ms: 5_000,
        idle_timeout_ms: Some(30_000),
    });
    Table {
        name: name.to_owned(),
        resource_name: name.replace('_', "-"),
        topic: format!("demo.{name}"),
        format: Format::Json,
        columns,
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        key_trusted: true,
        event_time,
        partitions: 4,
    }
}

/// Transactions keyed by account, and topics to write to.
pub fn catalog() -> Catalog {
    let mut unkeyed = table("clicks", &[], &["userId STRING", "url STRING", "ms BIGINT", "ts TIMESTAMP(3) required"]);
    unkeyed.key_trusted = false;
    let mut no_time = table("profiles", &["id"], &["id STRING required", "name STRING"]);
    no_time.event_time = None;
    Catalog {
        tables: vec![
            table(
                "transactions",
                &["account_id"],
                &[
                    "txn_id STRING required",
                    "account_id STRING required",
                    "amount DECIMAL(12,2)",
                    "quantity INT",
                    "score DOUBLE",
                    "ratio FLOAT",
                    "small SMALLINT",
                    "is_online BOOLEAN",
                    "merchant STRUCT<id STRING, country STRING, place STRUCT<lat DOUBLE, lon DOUBLE>>",
                    "tags ARRAY<STRING>",
                    "day DATE",
                    "raw BYTES",
                    "ts TIMESTAMP(3)",
                    "seen_at TIMESTAMP_LTZ(6)",
                ],
            ),
            unkeyed,
            no_time,
            table(
                "alerts",
                &["account_id"],
                &[
                    "account_id STRING required",
                    "window_start TIMESTAMP(3)",
                    "window_end TIMESTAMP(3)",
                    "txns BIGINT",
                    "total DECIMAL(18,2)",
                ],
            ),
            table(
                "by_country",
                &["country"],
                &["country STRING", "window_end TIMESTAMP(3)", "n BIGINT", "total DECIMAL(38,2)"],
            ),
            table("texts", &[], &["a STRING", "b STRING"]),
            table("numbers", &[], &["n BIGINT", "x DOUBLE", "d DECIMAL(38,6)"]),
            table("flags", &[], &["f BOOLEAN"]),
            table("times", &[], &["t TIMESTAMP(3)", "d DATE", "n BIGINT"]),
            table("order_items", &["id"], &["id STRING required", "n INT", "note STRING"]),
        ],
    }
}

pub fn plan(sql: &str) -> Result<Plan, Vec<SqlError>> {
    freshet_sql::plan(&catalog(), sql, &PlanOptions { max_parallelism: 16 })
}

/// The plan's tree, without its first line (the fingerprint).
pub fn tree(sql: &str) -> String {
    match plan(sql) {
        Ok(plan) => freshet_plan::print::tree(&plan).lines().skip(1).map(|line| format!("{line}\n")).collect(),
        Err(errors) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            panic!("{sql}\nis refused:\n{}", errors.join("\n"));
        }
    }
}
