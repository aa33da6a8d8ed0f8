//! Printing a plan as a tree and as Mermaid.
