mod common;
#[test]
fn explore() {
    let text = std::fs::read_to_string("/tmp/explore.sql").unwrap();
    for sql in text.split("\n---\n") {
        println!("=== {sql}");
        match common::plan(sql) {
            Ok(plan) => {
                println!("{}", freshet_plan::print::tree(&plan));
                println!("{}", freshet_plan::print::mermaid(&plan));
            }
            Err(errors) => {
                for e in errors {
                    println!(
                        "ERR [{}..{}] {:?} {e}",
                        e.span.start.offset,
                        e.span.end.offset,
                        sql.get(e.span.start.offset..e.span.end.offset)
                    );
                }
            }
        }
    }
}
