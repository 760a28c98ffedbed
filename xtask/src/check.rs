//! `cargo xtask check`: reads `cargo metadata` and applies the rules.

use crate::rules::{Graph, Package, violations};
use anyhow::{Context, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Fails with every forbidden arrow and the rule it breaks.
pub(crate) fn run() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().exec().context("cargo metadata failed; is Cargo.lock in step with the manifests?")?;
    let graph = graph(&metadata)?;
    let found = violations(&graph);
    if found.is_empty() {
        let ours = graph.values().filter(|p| p.ours).count();
        println!("{ours} crates keep the dependency direction");
        return Ok(());
    }
    for violation in &found {
        println!("forbidden: {violation}");
    }
    bail!("{} forbidden dependencies; see docs/architecture.md for who may use whom", found.len());
}

fn graph(metadata: &Metadata) -> anyhow::Result<Graph> {
    let resolve = metadata.resolve.as_ref().context("cargo metadata gave no dependency graph")?;
    let nodes = resolve.nodes.iter().map(|node| {
        let package = &metadata[&node.id];
        let normal = node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal));
        let uses = normal.map(|dep| dep.pkg.repr.clone()).collect();
        let ours = metadata.workspace_members.contains(&node.id);
        (node.id.repr.clone(), Package { name: package.name.to_string(), ours, uses })
    });
    Ok(nodes.collect())
}
