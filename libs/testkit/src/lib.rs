//! Fixtures for tests: DAGs drawn as text and random DAGs. For `dev-dependencies` only; nothing that ships uses it.

pub mod dag;
pub mod random_dag;
