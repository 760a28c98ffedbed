//! The dependency-direction rule: who may use whom (docs/architecture.md, "Crates, and who may use whom").
//!
//! ```text
//!   services ──▶ api | p2p | storage | cache ──▶ pure libs ──▶ types
//! ```
//!
//! Pure: it judges a [`Graph`], wherever that came from.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// Normal dependencies of every package; keys are unique package ids.
pub(crate) type Graph = BTreeMap<String, Package>;

/// A package of the graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    /// Its name; two versions of one crate share it.
    pub(crate) name: String,
    /// Whether it is one of ours.
    pub(crate) ours: bool,
    /// Ids of its normal dependencies: neither development nor build dependencies.
    pub(crate) uses: Vec<String>,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// From the crate at fault to what it must not reach.
    pub(crate) path: Vec<String>,
    /// What it breaks.
    pub(crate) rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    rule: {}", self.path.join(" → "), self.rule)
    }
}

/// Which of our crates a crate may use.
enum Uses {
    Only(&'static [&'static str]),
    /// Any library but those for tests and clients; never another service.
    ServiceLibraries,
    Everything,
}

/// The allowed arrows between our crates. A new crate gets a line here before it can be built upon.
const ARROWS: &[(&str, Uses)] = &[
    ("kaldrix-types", Uses::Only(&[])),
    ("kaldrix-crypto", Uses::Only(&["kaldrix-types"])),
    ("kaldrix-dag", Uses::Only(&["kaldrix-types"])),
    ("kaldrix-consensus", Uses::Only(&["kaldrix-types"])),
    ("kaldrix-region", Uses::Only(&["kaldrix-types"])),
    ("kaldrix-execution", Uses::Only(&["kaldrix-types", "kaldrix-crypto"])),
    ("kaldrix-checkpoint", Uses::Only(&["kaldrix-types"])),
    ("kaldrix-storage", Uses::Only(&["kaldrix-types"])),
    ("kaldrix-cache", Uses::Only(&["kaldrix-types"])),
    ("kaldrix-p2p", Uses::Only(&["kaldrix-types"])),
    ("kaldrix-proto", Uses::Only(&["kaldrix-types"])),
    ("kaldrix-api", Uses::Only(&["kaldrix-types", "kaldrix-proto"])),
    ("kaldrix-service-kit", Uses::Only(&[])),
    ("kaldrix-client", Uses::Only(&["kaldrix-types", "kaldrix-crypto", "kaldrix-checkpoint", "kaldrix-api", "kaldrix-proto"])),
    (
        "kaldrix-sim",
        Uses::Only(&["kaldrix-types", "kaldrix-crypto", "kaldrix-dag", "kaldrix-consensus", "kaldrix-execution", "kaldrix-checkpoint"]),
    ),
    ("kaldrix-testkit", Uses::Only(&["kaldrix-types"])),
    ("kaldrix-ledger-api", Uses::ServiceLibraries),
    ("kaldrix-dag-service", Uses::ServiceLibraries),
    ("kaldrix-consensus-service", Uses::ServiceLibraries),
    ("kaldrix-crypto-service", Uses::ServiceLibraries),
    ("kaldrix-region-sync", Uses::ServiceLibraries),
    ("kaldrix", Uses::Everything),
    ("loadtest", Uses::Only(&["kaldrix-types", "kaldrix-crypto", "kaldrix-client", "kaldrix-api", "kaldrix-proto"])),
    ("xtask", Uses::Only(&[])),
];

const SERVICE_LIBRARIES: &[&str] = &[
    "kaldrix-types",
    "kaldrix-crypto",
    "kaldrix-dag",
    "kaldrix-consensus",
    "kaldrix-region",
    "kaldrix-execution",
    "kaldrix-checkpoint",
    "kaldrix-storage",
    "kaldrix-cache",
    "kaldrix-p2p",
    "kaldrix-proto",
    "kaldrix-api",
    "kaldrix-service-kit",
];

/// Crates without I/O, clocks or tasks: a simulator runs them as they are.
const PURE: &[&str] = &[
    "kaldrix-types",
    "kaldrix-crypto",
    "kaldrix-dag",
    "kaldrix-consensus",
    "kaldrix-region",
    "kaldrix-execution",
    "kaldrix-checkpoint",
    "kaldrix-sim",
];

/// What pure crates must not reach by any path.
const IMPURE: &[&str] = &["tokio", "tonic", "sqlx", "libp2p", "axum", "hyper"];

/// Protobuf's crates.
const PROTOBUF: &[&str] = &["prost", "prost-types", "tonic-prost"];

/// Libraries that may name Protobuf's crates, beside the services.
const PROTOBUF_LIBRARIES: &[&str] = &["kaldrix-proto", "kaldrix-api", "kaldrix-client"];

/// Every rule that the graph breaks, in the order of package ids.
pub(crate) fn violations(graph: &Graph) -> Vec<Violation> {
    let mut found = Vec::new();
    for (id, package) in graph.iter().filter(|(_, p)| p.ours) {
        let Some((_, uses)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            found.push(Violation {
                path: vec![package.name.clone()],
                rule: "every workspace crate has a line in the table of allowed arrows; add it to xtask/src/rules.rs".to_owned(),
            });
            continue;
        };
        found.extend(forbidden_arrows(graph, package, uses));
        found.extend(forbidden_protobuf(graph, package, uses));
        if PURE.contains(&package.name.as_str()) {
            found.extend(impurities(graph, id));
        }
    }
    found
}

fn direct<'a>(graph: &'a Graph, package: &'a Package) -> impl Iterator<Item = &'a Package> {
    package.uses.iter().filter_map(|id| graph.get(id))
}

fn forbidden_arrows(graph: &Graph, package: &Package, uses: &Uses) -> Vec<Violation> {
    let (allowed, rule) = match uses {
        Uses::Everything => return Vec::new(),
        Uses::Only([]) => (&[][..], format!("{} uses no other crate of this workspace", package.name)),
        Uses::Only(names) => (*names, format!("{} may use only {}", package.name, names.join(", "))),
        Uses::ServiceLibraries => {
            let rule = "a service uses libraries, but neither another service (call its api) nor what is for tests and clients";
            (SERVICE_LIBRARIES, rule.to_owned())
        }
    };
    direct(graph, package)
        .filter(|used| used.ours && !allowed.contains(&used.name.as_str()))
        .map(|used| Violation { path: vec![package.name.clone(), used.name.clone()], rule: rule.clone() })
        .collect()
}

fn forbidden_protobuf(graph: &Graph, package: &Package, uses: &Uses) -> Vec<Violation> {
    if PROTOBUF_LIBRARIES.contains(&package.name.as_str()) || matches!(uses, Uses::ServiceLibraries) {
        return Vec::new();
    }
    direct(graph, package)
        .filter(|used| !used.ours && PROTOBUF.contains(&used.name.as_str()))
        .map(|used| Violation {
            path: vec![package.name.clone(), used.name.clone()],
            rule: format!("only {} and the services may depend on Protobuf's crates", PROTOBUF_LIBRARIES.join(", ")),
        })
        .collect()
}

/// The shortest path from a pure crate to each impure one it reaches.
fn impurities(graph: &Graph, start: &str) -> Vec<Violation> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen: BTreeSet<&str> = BTreeSet::from([start]);
    let mut queue = VecDeque::from([start]);
    let mut found = Vec::new();
    while let Some(id) = queue.pop_front() {
        let Some(package) = graph.get(id) else { continue };
        if !package.ours && IMPURE.contains(&package.name.as_str()) {
            let mut ids = vec![id];
            while let Some(before) = ids.last().and_then(|last| came_from.get(last)) {
                ids.push(before);
            }
            let path = ids.into_iter().rev().filter_map(|id| graph.get(id)).map(|p| p.name.clone()).collect();
            found.push(Violation { path, rule: format!("pure crates never reach {}", IMPURE.join(", ")) });
            continue;
        }
        for used in &package.uses {
            if seen.insert(used) {
                came_from.insert(used, id);
                queue.push_back(used);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"a: b c"` per line; names that begin with `kaldrix`, `loadtest` or `xtask` are ours.
    fn graph(picture: &str) -> Graph {
        let ours = |name: &str| ["kaldrix", "loadtest", "xtask"].iter().any(|prefix| name.starts_with(prefix));
        let mut graph = Graph::new();
        for line in picture.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (name, uses) = line.split_once(':').expect("a picture's line has a colon");
            let uses: Vec<String> = uses.split_whitespace().map(str::to_owned).collect();
            for used in &uses {
                graph.entry(used.clone()).or_insert_with(|| Package { name: used.clone(), ours: ours(used), uses: vec![] });
            }
            graph.insert(name.to_owned(), Package { name: name.to_owned(), ours: ours(name), uses });
        }
        graph
    }

    fn paths(picture: &str) -> Vec<String> {
        violations(&graph(picture)).iter().map(|v| v.path.join(" ")).collect()
    }

    #[test]
    fn the_architecture_as_drawn_breaks_no_rule() {
        let picture = "
            kaldrix-types: serde
            kaldrix-crypto: kaldrix-types moka
            kaldrix-execution: kaldrix-types kaldrix-crypto
            kaldrix-storage: kaldrix-types sqlx tokio
            sqlx: tokio
            kaldrix-proto: kaldrix-types prost tonic
            kaldrix-api: kaldrix-proto kaldrix-types
            kaldrix-client: kaldrix-api kaldrix-crypto prost
            kaldrix-dag-service: kaldrix-api kaldrix-execution kaldrix-storage kaldrix-service-kit prost
            kaldrix: kaldrix-dag-service kaldrix-client
            loadtest: kaldrix-client tokio
            xtask: clap";
        assert_eq!(paths(picture), Vec::<String>::new());
    }

    #[test]
    fn each_forbidden_arrow_is_named() {
        assert_eq!(paths("kaldrix-types: kaldrix-crypto"), ["kaldrix-types kaldrix-crypto"]);
        assert_eq!(paths("kaldrix-dag: kaldrix-consensus"), ["kaldrix-dag kaldrix-consensus"]);
        assert_eq!(paths("kaldrix-service-kit: kaldrix-types"), ["kaldrix-service-kit kaldrix-types"]);
        assert_eq!(paths("kaldrix-ledger-api: kaldrix-dag-service"), ["kaldrix-ledger-api kaldrix-dag-service"]);
        assert_eq!(paths("kaldrix-ledger-api: kaldrix-client kaldrix-testkit").len(), 2);
        assert_eq!(paths("loadtest: kaldrix-ledger-api"), ["loadtest kaldrix-ledger-api"]);
    }

    #[test]
    fn a_pure_crate_must_not_reach_a_runtime_by_a_detour() {
        let picture = "
            kaldrix-consensus: kaldrix-types petgraph
            petgraph: helper
            helper: tokio
            tokio: mio";
        assert_eq!(paths(picture), ["kaldrix-consensus petgraph helper tokio"]);
        assert_eq!(paths("kaldrix-storage: tokio sqlx"), Vec::<String>::new());
    }

    #[test]
    fn protobuf_stays_behind_its_boundary() {
        assert_eq!(paths("kaldrix-storage: prost"), ["kaldrix-storage prost"]);
        assert_eq!(paths("kaldrix: prost-types"), ["kaldrix prost-types"]);
        assert_eq!(paths("kaldrix-region-sync: prost"), Vec::<String>::new());
    }

    #[test]
    fn a_crate_nobody_placed_is_a_violation() {
        let found = violations(&graph("kaldrix-utils: serde"));
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().contains("rules.rs"), "{}", found[0]);
    }
}
