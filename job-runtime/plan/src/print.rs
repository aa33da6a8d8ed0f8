//! Printing a plan as a tree and as Mermaid.
/// x
pub fn tree(plan: &crate::Plan) -> String { format!("{plan:#?}") }
/// x
pub fn mermaid(plan: &crate::Plan) -> String { format!("{plan:#?}") }
