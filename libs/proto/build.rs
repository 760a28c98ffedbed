//! Compiles `proto/` with protox: no `protoc` on the machine is needed.

use prost::Message as _;
use std::path::PathBuf;

const FILES: [&str; 5] = [
    "kaldrix/ledger/v1/ledger.proto",
    "kaldrix/dag/v1/dag.proto",
    "kaldrix/consensus/v1/consensus.proto",
    "kaldrix/crypto/v1/crypto.proto",
    "kaldrix/region/v1/region.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from("../../proto");
    for file in FILES {
        println!("cargo:rerun-if-changed={}", root.join(file).display());
    }
    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
