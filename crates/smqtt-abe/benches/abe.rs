//! Both schemes beside `rabe`'s AC17 and BSW, in one run on one thread:
//!
//! ```text
//! cargo bench -p smqtt-abe                    # everything, then a table of ratios
//! cargo bench -p smqtt-abe -- '/10$'          # ten attributes only
//! ```
//!
//! `rabe` is a measured peer and nothing more: its hash to the curve has publicly known logarithms
//! (see `tests/rabe_is_broken.rs`). Absolute times are those of a machine; the ratios are what to
//! compare.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark is no API")]

use std::{fs, hint::black_box, path::PathBuf, time::Duration};

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, measurement::WallTime};
use rabe::{
    schemes::{ac17, bsw},
    utils::policy::pest::PolicyLanguage::HumanPolicy,
};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use smqtt_abe::{cp, kp};
use smqtt_policy::{Attribute, AttributeSet, Formula};

const SIZES: [usize; 5] = [1, 5, 10, 30, 100];
const PLAINTEXT: &[u8] = &[0; 32];

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("attribute{i}")).collect()
}

fn set(n: usize) -> AttributeSet {
    let mut set = AttributeSet::new();
    for name in names(n) {
        set.insert(Attribute::flag(&name).unwrap()).unwrap();
    }
    set
}

fn conjunction(n: usize) -> Formula {
    let mut leaves: Vec<Formula> = set(n).iter().cloned().map(Formula::Attribute).collect();
    match leaves.len() {
        1 => leaves.remove(0),
        k => Formula::Threshold { k, of: leaves },
    }
}

/// `("a" and ("b" and "c"))`: `rabe` panics on a conjunction of three without the parentheses.
fn rabe_conjunction(n: usize) -> String {
    let names = names(n);
    let (last, rest) = names.split_last().unwrap();
    rest.iter().rev().fold(format!("\"{last}\""), |acc, name| {
        format!("(\"{name}\" and {acc})")
    })
}

fn smqtt(c: &mut Criterion) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (cp_master, cp_parameters) = cp::setup(&mut rng);
    let (kp_master, kp_parameters) = kp::setup(&mut rng);
    for n in SIZES {
        let (set, policy) = (set(n), conjunction(n));
        let id = |operation| BenchmarkId::new(operation, n);

        let mut group = c.benchmark_group("smqtt-cp");
        let key = cp_master.issue(&cp_parameters, &set, &mut rng).unwrap();
        let (ciphertext, _) = cp_parameters.encapsulate(&policy, &mut rng).unwrap();
        group.bench_function(id("keygen"), |b| {
            b.iter(|| {
                cp_master
                    .issue(&cp_parameters, black_box(&set), &mut rng)
                    .unwrap()
            });
        });
        group.bench_function(id("encaps"), |b| {
            b.iter(|| {
                cp_parameters
                    .encapsulate(black_box(&policy), &mut rng)
                    .unwrap()
            });
        });
        group.bench_function(id("decaps"), |b| {
            b.iter(|| {
                let ciphertext = black_box(&ciphertext);
                key.decapsulate(&cp_parameters, &policy, ciphertext)
                    .unwrap()
            });
        });
        group.finish();

        let mut group = c.benchmark_group("smqtt-kp");
        let key = kp_master.issue(&kp_parameters, &policy, &mut rng).unwrap();
        let (ciphertext, _) = kp_parameters.encapsulate(&set, &mut rng).unwrap();
        group.bench_function(id("keygen"), |b| {
            b.iter(|| {
                kp_master
                    .issue(&kp_parameters, black_box(&policy), &mut rng)
                    .unwrap()
            });
        });
        group.bench_function(id("encaps"), |b| {
            b.iter(|| {
                kp_parameters
                    .encapsulate(black_box(&set), &mut rng)
                    .unwrap()
            });
        });
        group.bench_function(id("decaps"), |b| {
            b.iter(|| {
                let ciphertext = black_box(&ciphertext);
                key.decapsulate(&kp_parameters, &set, ciphertext).unwrap()
            });
        });
        group.finish();
    }
}

/// A group whose samples are few iterations each: some take a second.
fn slow<'c>(c: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group
}

fn rabe(c: &mut Criterion) {
    let (ac17_public, ac17_master) = ac17::setup();
    let (bsw_public, bsw_master) = bsw::setup();
    for n in SIZES {
        let names = names(n);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let policy = rabe_conjunction(n);
        let id = |operation| BenchmarkId::new(operation, n);

        let mut group = slow(c, "rabe-ac17-cp");
        let key = ac17::cp_keygen(&ac17_master, &names).unwrap();
        let encrypt = || ac17::cp_encrypt(&ac17_public, &policy, PLAINTEXT, HumanPolicy).unwrap();
        let ciphertext = encrypt();
        group.bench_function(id("keygen"), |b| {
            b.iter(|| ac17::cp_keygen(&ac17_master, black_box(&names)).unwrap());
        });
        group.bench_function(id("encaps"), |b| b.iter(encrypt));
        group.bench_function(id("decaps"), |b| {
            b.iter(|| ac17::cp_decrypt(&key, black_box(&ciphertext)).unwrap());
        });
        group.finish();

        let mut group = slow(c, "rabe-ac17-kp");
        let keygen = || ac17::kp_keygen(&ac17_master, &policy, HumanPolicy).unwrap();
        let encrypt = || ac17::kp_encrypt(&ac17_public, &names, PLAINTEXT).unwrap();
        let (key, ciphertext) = (keygen(), encrypt());
        // It grows with the square: minutes for each key of 100 attributes.
        if n < 100 {
            group.bench_function(id("keygen"), |b| b.iter(keygen));
        }
        group.bench_function(id("encaps"), |b| b.iter(encrypt));
        group.bench_function(id("decaps"), |b| {
            b.iter(|| ac17::kp_decrypt(&key, black_box(&ciphertext)).unwrap());
        });
        group.finish();

        let mut group = slow(c, "rabe-bsw-cp");
        let key = bsw::keygen(&bsw_public, &bsw_master, &names).unwrap();
        let encrypt = || bsw::encrypt(&bsw_public, &policy, HumanPolicy, PLAINTEXT).unwrap();
        let ciphertext = encrypt();
        group.bench_function(id("keygen"), |b| {
            b.iter(|| bsw::keygen(&bsw_public, &bsw_master, black_box(&names)).unwrap());
        });
        group.bench_function(id("encaps"), |b| b.iter(encrypt));
        group.bench_function(id("decaps"), |b| {
            b.iter(|| bsw::decrypt(&key, black_box(&ciphertext)).unwrap());
        });
        group.finish();
    }
}

/// Milliseconds that criterion has written down for a benchmark, if it has.
fn measured(group: &str, operation: &str, n: usize) -> Option<f64> {
    let home = std::env::var_os("CRITERION_HOME")
        .map(PathBuf::from)
        .or_else(|| {
            // …/target/release/deps/abe-… stands below the target directory.
            let program = std::env::current_exe().ok()?;
            Some(program.ancestors().nth(3)?.join("criterion"))
        })?;
    let file = home.join(format!("{group}/{operation}/{n}/new/estimates.json"));
    let estimates: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    Some(estimates["median"]["point_estimate"].as_f64()? / 1e6)
}

/// The medians, and how many times longer `rabe` takes.
fn table() {
    println!("\n| operation | attributes | smqtt | AC17 | ratio | BSW | ratio |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for (scheme, ours, ac17, bsw) in [
        ("CP", "smqtt-cp", "rabe-ac17-cp", Some("rabe-bsw-cp")),
        ("KP", "smqtt-kp", "rabe-ac17-kp", None),
    ] {
        for operation in ["keygen", "encaps", "decaps"] {
            for n in SIZES {
                let Some(own) = measured(ours, operation, n) else {
                    continue;
                };
                print!("| {scheme} {operation} | {n} | {own:.2} ms |");
                for peer in [Some(ac17), bsw] {
                    match peer.and_then(|peer| measured(peer, operation, n)) {
                        Some(peer) => print!(" {peer:.1} ms | {:.1}× |", peer / own),
                        None => print!(" – | – |"),
                    }
                }
                println!();
            }
        }
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    smqtt(&mut criterion);
    rabe(&mut criterion);
    criterion.final_summary();
    table();
}
