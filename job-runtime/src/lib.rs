//! Freshet: see the README.
